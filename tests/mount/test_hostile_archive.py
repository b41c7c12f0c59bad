"""An archive that means harm, through real mounts: names, lists and bodies that are meant to break what shows them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from itertools import chain, repeat
from pathlib import Path

from tests.mount.commands import idcfs
from tests.mount.conftest import MountMaker, logs
from tests.mount.stage import counters, errno_of, peak_mib
from tests.namespace.making import assert_legal
from tests.security.archive import answering, as_json, attribute
from tests.waiting import eventually

PEAK_MIB = 700
"""What the mount may take at most, with its memory cache of 64 MiB."""
SMALL = ("--index", "qido", "--memory-cache", "64MiB", "--cache-size", "8MiB", "--prefetch", "0")
NAMES = (
    "../../../../etc/passwd",
    "..",
    ".",
    "",
    "/",
    "a\nb\nidcfs: all is well",
    "\0",
    "\x1b]0;pwned\x07\x1b[2J",
    "\x9b2J",
    "\u202egnp.exe",
    "\udc80 alone",
    "%2e%2e%2f",
    "$(touch pwned)`x`",
    "-rf",
    "x" * 10_000_000,
    ["a", "list"],
    {"Alphabetic": "an object"},
    10**300,
)
SERIES = attribute(study="1.2", series="1.2.3", patient="P", count=2**31 - 1, modality="CT")


def test_names_are_names_whatever_they_are(mount: MountMaker, tmp_path: Path) -> None:
    items = [attribute(study=f"1.{n}", series=f"1.{n}.3", patient=name, count=1) for n, name in enumerate(NAMES)]
    items += [attribute(study=uid, series=uid, patient="P") for uid in NAMES if isinstance(uid, str)]

    def answer(path: str, numbers: dict[str, int]) -> tuple[str, Iterable[bytes]]:
        return as_json(items if path == "/series" and not numbers.get("offset") else [])

    with answering(answer) as url:
        made = mount(url, "--index", "qido")
        (archive,) = os.listdir(os.fsencode(made.path))
        patients = os.listdir(os.path.join(os.fsencode(made.path), archive))
        assert len(patients) == len({repr(name)[:2000] for name in NAMES}) - 2  # what is no text is no name
        for directory, below, files in os.walk(os.fsencode(made.path)):
            for name in below + files:
                assert_legal(name)
                assert os.path.realpath(os.path.join(directory, name)) == os.path.join(directory, name)
        shown = idcfs("info", *(os.path.join(made.path, os.fsdecode(archive), os.fsdecode(name)) for name in patients))
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.replace("\n", "").isprintable()
        assert logs(tmp_path / "state").replace("\n", "").isprintable()
        assert peak_mib(made.pid) < PEAK_MIB


def test_a_list_that_goes_on_for_ever_ends_as_an_error(mount: MountMaker) -> None:
    """Of a series that is said to have 2,147,483,647 instances."""

    def answer(path: str, numbers: dict[str, int]) -> tuple[str, Iterable[bytes]]:
        if path == "/series":
            return as_json([] if numbers.get("offset") else [SERIES])
        return as_json([attribute(instance=f"1.2.3.{n}") for n in range(5_000)])

    with answering(answer) as url:
        made = mount(url, *SMALL)
        (series,) = made.path.glob("*/*/*/*")
        assert errno_of(lambda: os.listdir(series)) == 5
        assert peak_mib(made.pid) < PEAK_MIB


def test_a_body_that_goes_on_for_ever_fills_nothing_and_holds_up_nobody_else(
    mount: MountMaker, ct_files: list[Path], tmp_path: Path
) -> None:
    begin, uid = ct_files[0].read_bytes(), ct_files[0].stem

    def answer(path: str, numbers: dict[str, int]) -> tuple[str, Iterable[bytes]]:
        if path == "/series":
            return as_json([] if numbers.get("offset") else [SERIES])
        if path.endswith("/instances"):
            return as_json([] if numbers.get("offset") else [attribute(instance=uid)])
        if path.endswith("/metadata"):
            return "application/dicom+json", chain([b"["], repeat(b" " * 65_536))
        if path.endswith("/rendered"):
            return "image/png", chain([b"\x89PNG\r\n\x1a\n"], repeat(bytes(65_536)))
        head = b"--x\r\nContent-Type: application/dicom\r\nContent-Length: %d\r\n\r\n" % 10**11
        kind = 'multipart/related; type="application/dicom"; boundary=x'
        return kind, chain([head, begin], repeat(bytes(65_536)))

    with answering(answer) as url:
        made = mount(url, *SMALL)
        (file,) = (path for series in made.path.glob("*/*/*/*") for path in series.iterdir())
        below = file.relative_to(made.path)
        assert errno_of((made.path / ".metadata" / below.with_suffix(".json")).read_bytes)
        assert errno_of((made.path / ".rendered" / below.with_suffix(".png")).read_bytes)
        with subprocess.Popen(["cat", file], stdout=subprocess.DEVNULL) as reader:
            try:
                assert eventually(lambda: counters(made)["bytes_from_archive"] > 100_000_000)
                assert os.listdir(file.parent) == [file.name]
            finally:
                reader.kill()
        assert eventually(lambda: counters(made)["running_downloads"] == 0)
        assert peak_mib(made.pid) < PEAK_MIB
        kept = sum(path.stat().st_size for path in (tmp_path / "cache" / "blocks").rglob("*") if path.is_file())
        assert kept < 16 * 2**20

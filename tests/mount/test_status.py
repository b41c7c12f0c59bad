"""``idcfs status``: what a mount is, in words, and where its bytes came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idcfs import cli, mounts
from scripts.harness import status
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import WADO, buckets, counters
from tests.twin.client import Twin


def test_bytes_of_the_archive_and_of_the_buckets_are_counted_apart(
    mount: MountMaker, twin: Twin, sample_index: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0", *buckets(twin))
    first, second = sorted(made.path.glob("chest_twin/*/*/*/*.dcm"))[:2]
    size = len(first.read_bytes())
    before = counters(made)
    assert before["bytes_from_archive"] >= size
    assert before["bytes_from_buckets"] == 0
    twin.set(match=WADO, fail_always=404)
    size = len(second.read_bytes())
    after = counters(made)
    assert after["bytes_from_buckets"] >= size
    assert after["bytes_from_archive"] - before["bytes_from_archive"] < 1000


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ((), "auto: by WADO-RS; no bucket may be asked"),
        (("--bucket", "aws"), "auto: by WADO-RS, else from the buckets (aws, https://{bucket}.s3.amazonaws.com)"),
        (("--content", "wado"), "wado: by WADO-RS alone"),
        (
            ("--content", "wado", "--bucket", "http://127.0.0.1:9/{bucket}", "--exact-sizes"),
            "wado: by WADO-RS alone; sizes from the buckets (127.0.0.1:9, http://127.0.0.1:9/{bucket})",
        ),
        (
            ("--content", "bucket", "--bucket", "gcs", "--offline"),
            "bucket: from the buckets (gcs, https://storage.googleapis.com/{bucket}) alone",
        ),
    ],
    ids=str,
)
def test_it_is_shown_what_a_mount_is(
    options: tuple[str, ...], content: str, mount: MountMaker, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, *options)
    done = idcfs("status", made.path)
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head == f"{made.path}: idcfs {status(made.path)['idcfs']}, process {made.pid}"
    log = next((tmp_path / "state" / "idcfs").glob("*.log"))
    offline = "yes: no request is sent" if "--offline" in options else "no"
    facts = {
        "archive": f"127.0.0.1:9, {NOWHERE}",
        "offline": offline,
        "index": str(sample_index),
        "content": content,
        "cache": str(tmp_path / "cache"),
        "log": str(log),
    }
    for name, fact in facts.items():
        assert f"  {name:<10}{fact}" in lines


def test_each_number_is_explained(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    lines = idcfs("status", made.path).stdout.splitlines()
    numbers = lines[-len(status(made.path)["counters"]) :]
    assert [line.split("  ")[1].replace(" ", "_") for line in numbers] == list(status(made.path)["counters"])
    for line in numbers:
        name_and_number, words = line[:40], line[40:]
        assert name_and_number[-1].isdigit()
        assert words[:2] == "  "
        assert words[2:].strip(), line
    assert max(map(len, lines[8:])) <= 100


def test_where_nothing_is_evicted_there_is_no_limit(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--offline")
    (line,) = [line for line in idcfs("status", made.path).stdout.splitlines() if "capacity" in line]
    assert line.startswith(f"  {'disk cache capacity':<22}{'no limit':>16}  ")


def test_what_is_offline_has_no_log_to_read_on_in(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    series = min(made.path.glob("rider_twin/*/*/*"))
    assert list(series.iterdir())
    idcfs("umount", made.path)
    made = mount(twin.url, "--index", sample_index, "--offline")
    done = idcfs("warm", made.path / series.relative_to(made.path))
    assert done.returncode == 1
    assert "No route to host: the archive cannot be reached, or answers with faults; or offline, it is not kept" in (
        done.stderr
    )
    assert "the log says more" not in done.stderr


def test_a_place_within_a_mount_is_none_and_the_mount_is_named(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    within = made.path / "rider_twin"
    said = f"no idcfs is mounted at {within}, which lies in that at {made.path}"
    for words in (("status", within), ("umount", within), ("path", "--mount", within, "1.2.3")):
        done = idcfs(*words)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"idcfs: {said}\n")
    done = idcfs("doctor", "--offline", within)
    assert f"{said} → idcfs doctor {made.path}\n" in done.stdout


def test_an_interval_without_a_watch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["status", "--interval", "2"])
    assert capsys.readouterr() == ("", "idcfs: --interval goes with --watch\n")


def test_for_programs_no_mount_is_an_empty_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mounts, "idcfs_mounts", list)  # other tests may have some
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["status", "--json"])
    assert json.loads(capsys.readouterr().out) == []
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["status"])
    assert capsys.readouterr() == ("", "idcfs: no idcfs is mounted: 'idcfs mount MOUNTPOINT' first\n")

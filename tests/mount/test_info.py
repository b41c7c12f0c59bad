"""``idcfs info``: what a path or a UID is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scripts.harness import Mount, status
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, unmount
from tests.twin.client import Twin

WADO_ALONE = "auto: by WADO-RS; no bucket may be asked"


def of_uid(uid: str, mount: Mount) -> list[dict[str, Any]]:
    """What is said of it, of that mount: every idcfs of the machine is looked into, and is not the test's."""
    found: list[dict[str, Any]] = json.loads(idcfs("info", "--json", uid).stdout or "[]")
    return [one for one in found if one["mountpoint"] == str(mount.path)]


def described(*names: str | Path) -> list[dict[str, Any]]:
    done = idcfs("info", "--json", *names)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("layout", "levels"),
    [
        ("default", ["archive", "collection", "patient", "study", "series"]),
        ("readable", ["archive", "collection", "patient", "study", "series"]),
        ("%Modality/%PatientID/%SeriesInstanceUID", ["archive", "directory", "patient", "series"]),
    ],
)
def test_each_level_is_called_by_what_it_is(
    layout: str, levels: list[str], mount: MountMaker, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--layout", layout)
    places = [made.path]
    while len(places) < len(levels):
        places.append(min(places[-1].iterdir()))
    found = described(*places, made.path / ".status.json", made.path / ".uid")
    assert [one["what"] for one in found] == [*levels, "hidden file", "hidden directory"]
    assert [one["path"] for one in found[:-2]] == [str(place) for place in places]
    assert {one["mountpoint"] for one in found} == {str(made.path)}
    assert [one["content"] for one in found] == [WADO_ALONE] * len(levels) + [None, None]
    assert status(made.path)["counters"]["requests"] == 0


def test_a_file_and_a_link_to_its_series(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    series = a_series(made)
    file = min(series.iterdir())
    file.read_bytes()
    before = status(made.path)["counters"]["requests"]
    link = made.path / ".uid" / series.name
    of_file, of_link = described(file, link)
    assert (of_file["what"], of_file["size_bytes"]) == ("instance", os.stat(file).st_size)
    assert (of_link["what"], of_link["path"]) == ("series", str(series))
    lines = idcfs("info", file).stdout.splitlines()
    assert lines[0] == f"{file}: instance"
    assert any(line.startswith(f"  size        {os.stat(file).st_size:,} bytes") for line in lines)
    assert f"  content     {WADO_ALONE}" in lines
    assert status(made.path)["counters"]["requests"] == before


def test_it_says_in_words_what_the_attributes_say(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    row = pq.read_table(sample_index).to_pylist()[0]
    series = (made.path / ".uid" / row["SeriesInstanceUID"]).resolve(strict=True)
    lines = dict(line.split(maxsplit=1) for line in idcfs("info", series).stdout.splitlines()[1:])
    assert lines["collection"] == row["collection_id"]
    assert lines["study"] == row["StudyInstanceUID"]
    assert lines["series"] == row["SeriesInstanceUID"]
    assert (lines["modality"], lines["licence"]) == (row["Modality"], row["license_short_name"])
    assert lines["viewer"].endswith(f"={row['SeriesInstanceUID']}")
    count = row["instanceCount"]
    assert lines["holds"].endswith(f"{count:,} instance{'s' if count > 1 else ''}")
    assert lines["size"] == f"{round(row['series_size_MB'] * 1e6):,} bytes, exact"


def test_a_uid_is_found_in_every_mount(mount: MountMaker, sample_index: Path) -> None:
    first, second = (mount(NOWHERE, "--index", sample_index, at=name) for name in ("first", "second"))
    uid = pq.read_table(sample_index).column("SeriesInstanceUID")[0].as_py()
    lines = idcfs("info", uid).stdout.splitlines()
    for made in (first, second):
        assert f"{(made.path / '.uid' / uid).resolve()}: series" in lines


def test_what_is_nowhere_is_one_line(mount: MountMaker, sample_index: Path, tmp_path: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    missing = made.path / "nobody"
    for place, said in ((tmp_path, "not in an idcfs mount"), (missing, "No such file or directory")):
        done = idcfs("info", made.path, place)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"idcfs: {place}: {said}\n")
    uid = f"1.2.3.{os.getpid()}"  # which no other mount of this machine has
    done = idcfs("info", uid)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        f"idcfs: no index and no kept list has {uid}: 'idcfs path {uid}' asks the archive too\n"
    )


@pytest.mark.parametrize("name", ["", "loop", "x" * 5_000], ids=["empty", "loop", "long"])
def test_what_can_be_no_path_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = idcfs("info", name, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_no_request_is_sent_for_a_uid(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    series = a_series(made)
    uid = min(series.iterdir()).stem
    unmount(made)
    twin.reset()
    again = mount(twin.url, "--index", sample_index)
    assert idcfs("info", "1.2.3").returncode == idcfs("info", "1..3").returncode - 1 == 1
    assert [one["what"] for one in of_uid(series.name, again)] == ["series"]
    assert [one["what"] for one in of_uid(uid, again)] == ["instance"]
    assert twin.counters()["last"] == []
    assert idcfs("path", "1.2.3", "--mount", again.path).returncode == 1
    assert len(twin.counters()["last"]) == 1


def test_nor_for_the_list_of_a_server(mount: MountMaker, twin: Twin) -> None:
    made = mount(twin.url, "--index", "qido")
    assert idcfs("info", "1.2.3").returncode == 1
    assert twin.counters()["last"] == []
    uid = min(a_series(made, collection="127*").iterdir()).stem
    before = len(twin.counters()["last"])
    assert before > 0
    assert [one["what"] for one in of_uid(uid, made)] == ["instance"]
    assert len(twin.counters()["last"]) == before

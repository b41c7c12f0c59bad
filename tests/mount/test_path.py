"""``idcfs path``: from a UID to its place."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.twin.client import Twin


def test_places_come_one_a_line_in_the_order_asked_for(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, at="a mount")
    rows = pq.read_table(sample_index).to_pylist()[::-7]
    uids = [row[column] for row in rows for column in ("SeriesInstanceUID", "StudyInstanceUID")]
    done = idcfs("path", *uids, "--mount", made.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [Path(line).name for line in done.stdout.splitlines()] == uids
    assert all(Path(line).is_dir() and made.path in Path(line).parents for line in done.stdout.splitlines())
    assert idcfs("path", "-", "--mount", made.path, stdin="\n".join(uids)).stdout == done.stdout
    assert idcfs("path", "-", "--mount", made.path, stdin="\r\n".join([*uids, ""])).stdout == done.stdout


def test_every_mount_is_looked_in(mount: MountMaker, sample_index: Path) -> None:
    first, second = (mount(NOWHERE, "--index", sample_index, at=name) for name in ("first", "second"))
    uid = pq.read_table(sample_index).column("SeriesInstanceUID")[0].as_py()
    places = [Path(line) for line in idcfs("path", uid).stdout.splitlines()]
    for made in (first, second):
        assert (made.path / ".uid" / uid).resolve() in places


def test_what_is_not_there_is_a_line_and_the_rest_is_found(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    uid = pq.read_table(sample_index).column("SeriesInstanceUID")[0].as_py()
    done = idcfs("path", "1.2.3", uid, "--mount", made.path)
    assert (done.returncode, done.stderr) == (1, "idcfs: 1.2.3 is not in the index\n")
    assert [Path(line).name for line in done.stdout.splitlines()] == [uid]


def test_a_study_in_several_directories_is_where_all_of_it_is_or_nowhere_alone(
    mount: MountMaker, sample_index: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(sample_index).to_pylist()
    studies = [row["StudyInstanceUID"] for row in rows]
    study = next(uid for uid in studies if studies.count(uid) > 1)
    one = next(row for row in rows if row["StudyInstanceUID"] == study)
    for column, found in (("PatientID", True), ("collection_id", False)):
        one[column] = "another"
        index = tmp_path / f"{column}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), index)
        made = mount(NOWHERE, "--index", index, at=column)
        done = idcfs("path", study, "--mount", made.path)
        if found:
            assert (done.returncode, done.stdout) == (0, f"{made.path / one['collection_id']}\n")
        else:
            said = f"idcfs: study {study} is in several directories of {made.path} and in none alone"
            assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{said}: look for its series\n")
            assert said in (done := idcfs("info", study)).stderr
            assert done.returncode == 1 or str(made.path) not in done.stdout
            assert not (made.path / ".uid" / study).exists()
        assert idcfs("path", one["SeriesInstanceUID"], "--mount", made.path).returncode == 0


@pytest.mark.parametrize("word", ["one", "", "1/2", "1" * 65, "..", "1.2.", "1..2"])
def test_what_is_no_uid_is_refused_before_anything_is_looked_for(word: str, tmp_path: Path) -> None:
    done = idcfs("path", "1.2.3", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"idcfs: {word!r} is not a UID: numbers with dots between them, at most 64 characters\n"
    assert idcfs("path", "-", stdin="").stderr == "idcfs: there is no UID on stdin\n"
    assert idcfs("path", "1.2.3", "--mount", tmp_path).returncode == 2

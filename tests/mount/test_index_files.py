"""``/.index``: what is shown, as a parquet file and as JSON."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idcfs.namespace.packaged import packaged_parquet
from scripts.harness import status
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import errno_of
from tests.namespace.making import ROW, write_rows
from tests.twin.client import Twin

CT = "Modality = 'CT'"
COHORT = ("--collection", "chest_twin", "--where", CT)


def rows(query: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers; it has let go of every file then."""
    with duckdb.connect() as connection:
        return connection.sql(query).fetchall()


def in_order(query: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers, in one order."""
    return rows(f"SELECT * FROM ({query}) ORDER BY SeriesInstanceUID")


def frame(file: Path) -> pd.DataFrame:
    """What pandas reads. By the path, pyarrow would let go of the file some time later."""
    with file.open("rb") as opened:
        return pd.read_parquet(opened)


def table_in(file: Path) -> pa.Table:
    """What pyarrow reads."""
    with file.open("rb") as opened:
        return pq.read_table(opened)


def test_the_series_are_the_filter_applied_to_the_original(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, *COHORT)
    file = made.path / ".index" / "series.parquet"
    condition = f"collection_id = 'chest_twin' AND {CT}"
    expected = in_order(f"FROM '{sample_index}' WHERE {condition}")
    assert expected
    assert in_order(f"FROM '{file}'") == expected
    original = frame(sample_index)
    wanted = original[(original.collection_id == "chest_twin") & (original.Modality == "CT")].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame(file), wanted)
    assert pq.read_schema(file).equals(pq.read_schema(sample_index))
    shown = {path.name for path in made.path.glob("*/*/*/*")}
    assert shown == set(wanted.SeriesInstanceUID)
    assert status(made.path)["counters"]["requests"] == 0


def test_pandas_reads_them_by_their_path(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, *COHORT)
    code = "import pandas, sys; print(len(pandas.read_parquet(sys.argv[1])), len(pandas.read_json(sys.argv[2])))"
    files = [made.path / ".index" / name for name in ("series.parquet", "collections.json")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    (count,) = rows(f"SELECT count(*) FROM '{files[0]}'")[0]
    assert done.stdout == f"{count} 1\n"


def test_without_a_cohort_they_are_the_index_itself(mount: MountMaker, sample_index: Path, tmp_path: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    file = made.path / ".index" / "series.parquet"
    assert file.stat().st_size == sample_index.stat().st_size
    assert file.read_bytes() == sample_index.read_bytes()
    assert not list((tmp_path / "cache").glob("*.parquet"))


@pytest.mark.parametrize("options", [(), COHORT], ids=str)
def test_the_collections_are_counted(options: tuple[str, ...], mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, *options)
    found = json.loads((made.path / ".index" / "collections.json").read_bytes())
    series = frame(made.path / ".index" / "series.parquet")
    assert [one["collection_id"] for one in found] == sorted(set(series.collection_id))
    assert [one["collection_id"] for one in found] == sorted(os.listdir(made.path))
    for one in found:
        mine = series[series.collection_id == one["collection_id"]]
        assert one["patients"] == mine.PatientID.nunique() == len(os.listdir(made.path / one["collection_id"]))
        assert one["studies"] == mine.StudyInstanceUID.nunique()
        assert one["series"] == len(mine)
        assert one["instances"] == mine.instanceCount.sum()
        assert one["bytes"] == round(mine.series_size_MB.sum() * 1e6)
        assert one["modalities"] == sorted(set(mine.Modality))
        assert one["licenses"] == sorted(set(mine.license_short_name.dropna()))
        assert one["source_DOIs"] == sorted(set(mine.source_DOI.dropna()))
    statvfs = os.statvfs(made.path)
    assert statvfs.f_files == sum(one["instances"] for one in found)


def test_it_is_there_but_not_listed(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, *COHORT)
    directory = made.path / ".index"
    assert ".index" not in os.listdir(made.path)
    found = subprocess.run(
        ["find", made.path, "-maxdepth", "3", "-name", "*.parquet"], capture_output=True, text=True, check=True
    )
    assert found.stdout == ""
    assert sorted(os.listdir(directory)) == ["collections.json", "series.parquet"]
    for entry in os.scandir(directory):
        assert entry.inode() == entry.stat().st_ino
        assert entry.stat().st_size == len(Path(entry.path).read_bytes()) > 0
        assert entry.stat().st_mode & 0o777 == 0o644
    for call, number in (
        (lambda: (directory / "nothing").stat(), errno.ENOENT),
        (lambda: (directory / "series.parquet" / "x").stat(), errno.ENOTDIR),
        (lambda: os.readlink(directory / "series.parquet"), errno.EINVAL),
        (lambda: (directory / "series.parquet").open("r+b"), errno.EROFS),
        (lambda: (directory / "new").write_bytes(b""), errno.EROFS),
        (lambda: os.listdir(directory / "series.parquet"), errno.ENOTDIR),
    ):
        assert errno_of(call) == number


def test_they_are_made_once_and_by_another_process(mount: MountMaker, sample_index: Path, tmp_path: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, *COHORT)
    cache = tmp_path / "cache"
    assert not [*cache.glob("*.parquet"), *cache.glob("*.json")]
    for path in sorted((made.path / ".index").iterdir()):
        assert path.read_bytes()
    files = [*cache.glob("catalog-*-cohort-*.parquet"), *cache.glob("catalog-*-cohort-*.json")]
    before = {path: path.stat().st_ino for path in files}
    assert len(before) == 2
    maps = Path(f"/proc/{made.pid}/maps").read_text()
    assert not [name for name in ("numpy", "duckdb", "pandas", "/_parquet.", "/_compute.") if name in maps]
    idcfs("umount", made.path)
    again = mount(NOWHERE, "--index", sample_index, *COHORT, at="again")
    for path in (again.path / ".index").iterdir():
        assert path.read_bytes()
    assert {path: path.stat().st_ino for path in before} == before


def test_of_an_index_in_another_s_place_there_is_nothing(mount: MountMaker, tmp_path: Path) -> None:
    index = write_rows(tmp_path / "index.parquet", [ROW])
    made = mount(NOWHERE, "--index", index)
    assert (made.path / ".index" / "collections.json").read_bytes()
    write_rows(tmp_path / "other.parquet", [ROW, ROW]).replace(index)
    for name in ("series.parquet", "collections.json"):
        assert errno_of((made.path / ".index" / name).read_bytes) == errno.ESTALE


def test_a_path_that_stands_twice_is_one_series(mount: MountMaker, tmp_path: Path) -> None:
    index = write_rows(tmp_path / "index.parquet", [ROW, ROW])
    made = mount(NOWHERE, "--index", index, "--where", "true")
    assert table_in(made.path / ".index" / "series.parquet").num_rows == 1
    (found,) = json.loads((made.path / ".index" / "collections.json").read_bytes())
    assert (found["series"], found["instances"], found["bytes"]) == (1, 2, 1_500_000)


def test_columns_of_any_type_are_kept_and_those_that_are_missing_are_empty(mount: MountMaker, tmp_path: Path) -> None:
    table = pa.table(
        {
            "collection_id": ["é", None],
            "PatientID": ["P", "P"],
            "StudyInstanceUID": ["1", "2"],
            "SeriesInstanceUID": ["1.1", "2.1"],
            "instanceCount": pa.array([3, None], pa.int64()),
            "series_size_MB": [None, 1.0],
            "mine": [[{"a": 1}], []],
        }
    )
    pq.write_table(table, tmp_path / "index.parquet")
    made = mount(NOWHERE, "--index", tmp_path / "index.parquet", "--where", "len(mine) < 9")
    assert table_in(made.path / ".index" / "series.parquet").equals(table)
    empty: dict[str, Any] = {"modalities": [], "licenses": [], "source_DOIs": []}
    assert json.loads((made.path / ".index" / "collections.json").read_bytes()) == [
        {"collection_id": "", "patients": 1, "studies": 1, "series": 1, "instances": 0, "bytes": 1_000_000, **empty},
        {"collection_id": "é", "patients": 1, "studies": 1, "series": 1, "instances": 3, "bytes": 0, **empty},
    ]


def test_where_it_cannot_be_written_there_is_an_error_and_the_mount_lives(
    mount: MountMaker, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, *COHORT)
    (catalog,) = (tmp_path / "cache").glob("catalog-*-cohort-*.arrow")
    blocker = catalog.with_suffix(".parquet.tmp")
    blocker.mkdir()
    assert errno_of((made.path / ".index" / "series.parquet").stat) == errno.EIO
    assert (made.path / ".index" / "collections.json").read_bytes()
    blocker.rmdir()
    assert pq.read_metadata(made.path / ".index" / "series.parquet").num_rows > 0


def test_of_what_a_server_lists_there_is_none(mount: MountMaker, twin: Twin) -> None:
    made = mount(twin.url, "--index", "qido")
    assert errno_of((made.path / ".index").stat) == errno.ENOENT


def test_the_packaged_index_is_not_copied(mount: MountMaker, packaged_cache: Path) -> None:
    made = mount(NOWHERE, cache=packaged_cache)
    file = made.path / ".index" / "series.parquet"
    assert file.stat().st_size == packaged_parquet().stat().st_size
    assert pq.read_metadata(file).num_rows == pq.read_metadata(packaged_parquet()).num_rows
    query = "SELECT count(*), sum(instanceCount) FROM '{}' WHERE Modality = 'SEG'"
    assert rows(query.format(file)) == rows(query.format(packaged_parquet()))
    assert not list(packaged_cache.glob("*.parquet"))


def test_a_large_cohort_of_the_packaged_index_is_whole(mount: MountMaker, packaged_cache: Path) -> None:
    condition = "collection_id > 'n' OR SeriesInstanceUID LIKE '%7'"
    made = mount(NOWHERE, "--where", condition, cache=packaged_cache)
    query = "SELECT count(*), sum(instanceCount), min(hash(i)), max(hash(i)), sum(hash(i) % 1000) FROM '{}' AS i"
    found = rows(query.format(made.path / ".index" / "series.parquet"))
    assert found == rows(f"{query.format(packaged_parquet())} WHERE {condition}")
    assert pq.read_metadata(made.path / ".index" / "series.parquet").num_row_groups > 1

"""Building catalogs: many at once, killed, damaged, and from files that are no index."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.errors import Damaged, UsageError
from idcfs.namespace import build, index
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import open_catalog
from idcfs.namespace.names import escape
from idcfs.namespace.nodes import Level
from tests.namespace.damaging import DAMAGES, garbage
from tests.namespace.making import INDEX, ROW, children, patient, table_of, write_rows
from tests.unprivileged import as_nobody

DAY = 86_400


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "index.parquet")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


def catalogs(cache: Path) -> list[Path]:
    return list(cache.glob("catalog-*"))


def built(source: Path, cache: Path) -> Path:
    """The catalog file of ``source``, built without the cost of another process."""
    path = index.catalog_path(str(source), cache)
    assert build.main([str(path), str(source)]) == 0
    return path


def is_right(catalog: Catalog) -> bool:
    return (catalog.rows, catalog.total_bytes, catalog.series(0).series_uid) == (1, 1_500_000, "1.2.3")


def python(code: str, *arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# --- one catalog, whoever builds it ----------------------------------------------------------------------------------


def test_mounts_that_start_at_once_share_one_catalog(source: Path, cache: Path) -> None:
    code = "import sys; from idcfs.namespace.index import *; print(open_catalog(sys.argv[1], Path(sys.argv[2])).rows)"
    processes = [python(code, source, cache) for _ in range(3)]
    assert [(*process.communicate(), process.returncode) for process in processes] == [("1\n", "", 0)] * 3
    assert len(catalogs(cache)) == 1
    assert is_right(open_catalog(str(source), cache))


def test_a_damaged_catalog_is_built_again_once_by_mounts_that_start_at_once(source: Path, cache: Path) -> None:
    path = index.catalog_path(str(source), cache)
    path.write_bytes(b"damaged")
    code = (
        "import sys; from idcfs.namespace.build import *\n"
        "assert main(sys.argv[1:]) == 0; print(Path(sys.argv[1]).stat().st_ino, Catalog.open(Path(sys.argv[1])).rows)"
    )
    processes = [python(code, path, source) for _ in range(2)]
    answers = [(*process.communicate(), process.returncode) for process in processes]
    assert answers == [(f"{path.stat().st_ino} 1\n", "", 0)] * 2


def test_a_whole_catalog_is_not_built_again(source: Path, cache: Path) -> None:
    path = built(source, cache)
    before = path.stat().st_ino
    assert built(source, cache) == path
    assert is_right(open_catalog(str(source), cache))
    assert path.stat().st_ino == before


def test_a_builder_killed_midway_leaves_nothing_that_is_taken_for_a_catalog(source: Path, cache: Path) -> None:
    path = index.catalog_path(str(source), cache)
    code = (
        "import sys, time; from idcfs.namespace.build import *\n"
        "Path.replace = lambda *_: (print('written', flush=True), time.sleep(600))\n"
        "main(sys.argv[1:])"
    )
    builder = python(code, path, source)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "written\n"
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert catalogs(cache) == [path.with_name(f"{path.name}.tmp")]
    with catalogs(cache)[0].open("r+b") as torn:
        torn.truncate(1_000)
    assert is_right(open_catalog(str(source), cache))
    assert catalogs(cache) == [path]


def test_a_build_that_fails_leaves_no_half_file(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert build.main([str(cache / "catalog-x.arrow"), str(source)]) == os.EX_CANTCREAT
    assert "No space left" in capsys.readouterr().err
    assert catalogs(cache) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_catalog_that_is_not_whole_is_refused_and_built_again(
    damage: Callable[[Path], None], source: Path, cache: Path
) -> None:
    path = built(source, cache)
    damage(path)
    with pytest.raises(Damaged, match=path.name):
        Catalog.open(path)
    built(source, cache)
    assert is_right(Catalog.open(path))


def test_a_damaged_catalog_is_said_to_be_built_again(
    source: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    garbage(index.catalog_path(str(source), cache))
    assert is_right(open_catalog(str(source), cache))
    (record,) = caplog.records
    assert "building it again" in record.getMessage()


def test_a_first_build_is_no_reason_to_warn(source: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_catalog(str(source), cache)
    assert caplog.records == []


# --- which catalog ---------------------------------------------------------------------------------------------------


def test_a_file_in_place_of_another_has_another_catalog(source: Path, cache: Path) -> None:
    before = index.catalog_path(str(source), cache)
    assert index.catalog_path(str(source), cache) == before
    write_rows(source, [ROW, replace(ROW, SeriesInstanceUID="1.2.4")])
    assert index.catalog_path(str(source), cache) != before
    assert Catalog.open(built(source, cache)).rows == 2


def test_a_file_of_the_same_size_and_another_date_has_another_catalog(source: Path, cache: Path) -> None:
    before = index.catalog_path(str(source), cache)
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    assert index.catalog_path(str(source), cache) != before


def test_one_file_has_one_catalog_by_whatever_path(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    (source.parent / "link").symlink_to(source)
    known = {index.catalog_path(path, cache) for path in (str(source), "index.parquet", "./index.parquet", "link")}
    assert len(known) == 1


def test_only_catalogs_that_nobody_used_for_long_are_removed(source: Path, cache: Path) -> None:
    def aged(name: str, days: int) -> Path:
        (cache / name).write_bytes(b"")
        os.utime(cache / name, (0, time.time() - days * DAY))
        return cache / name

    fresh = aged("catalog-1-fresh.arrow", 29)
    old, torn = aged("catalog-0-old.arrow", 31), aged("catalog-0-torn.arrow.tmp", 31)
    others = [aged("catalog.lock", 99), aged("series.sqlite", 99), aged("other-file", 99)]
    (cache / "catalog-directory").mkdir()
    os.utime(cache / "catalog-directory", (0, 0))
    open_catalog(str(source), cache)
    assert not old.exists()
    assert not torn.exists()
    assert all(path.exists() for path in (fresh, *others))


def test_using_a_catalog_keeps_it(source: Path, cache: Path) -> None:
    path = built(source, cache)
    os.utime(path, (0, 0))
    open_catalog(str(source), cache)
    assert path.stat().st_mtime > time.time() - DAY


def test_series_of_a_file_are_dated_by_their_release_else_by_the_file(tmp_path: Path, cache: Path) -> None:
    rows = [replace(ROW, series_revised_idc_version=version, collection_id=str(version)) for version in (1, 9_999)]
    source = write_rows(tmp_path / "index.parquet", rows)
    os.utime(source, (0, 123_456))
    catalog = Catalog.open(built(source, cache))
    assert catalog.revised_time(Level.SERIES, 0) == build.packaged_index()[1][1]
    assert catalog.revised_time(Level.SERIES, 1) == 123_456


# --- files that are no index -----------------------------------------------------------------------------------------


def refusal(source: Path, cache: Path) -> str:
    """Why ``open_catalog`` refuses ``source``; nothing is left behind."""
    with pytest.raises(UsageError) as caught:
        open_catalog(str(source), cache)
    assert catalogs(cache) == []
    return str(caught.value)


def foreign(path: Path, **columns: Any) -> Path:
    """An index of one series in which ``columns`` are others; None leaves one out."""
    table = table_of([ROW])
    for name, column in columns.items():
        place = table.schema.names.index(name)
        table = table.remove_column(place) if column is None else table.set_column(place, name, pa.array(column))
    pq.write_table(table, path)
    return path


def test_what_is_wrong_with_a_file_is_one_line_that_names_it(tmp_path: Path, cache: Path) -> None:
    path = foreign(tmp_path / "mine.parquet", instanceCount=[-5])
    reason = refusal(path, cache)
    assert reason.startswith(f"{path} cannot be read as a parquet index: instanceCount holds a number")
    assert "\n" not in reason


def test_a_missing_file_and_a_directory_are_no_index(tmp_path: Path, cache: Path) -> None:
    assert refusal(tmp_path / "none.parquet", cache) == f"--index {tmp_path}/none.parquet: No such file or directory"
    assert refusal(tmp_path, cache).startswith(f"--index {tmp_path} is not a file")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refusal(tmp_path / "pipe", cache)
    assert "not a file" in refusal(Path(), cache)


@pytest.mark.parametrize("content", [b"", b"x", b"a,b\n1,2\n" * 99, b"PAR1", b"PAR1" * 99, bytes(9_999), b"ARROW1\0\0"])
def test_a_file_that_is_not_parquet_is_no_index(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine\.csv cannot be read as a parquet index: .+"):
        build.read_index(path)


@settings(patient, max_examples=50)
@given(st.data())
def test_a_damaged_parquet_file_is_an_index_or_no_index_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = write_rows(tmp_path_factory.getbasetemp() / "whole.parquet", [ROW] * 3).read_bytes()
    damaged = bytearray(whole[: data.draw(st.integers(1, len(whole)))] if data.draw(st.booleans()) else whole)
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    path.write_bytes(damaged)
    answer = ""
    try:
        assert Catalog(build.catalog_table(build.read_index(path), {})).rows >= 1
    except UsageError as error:
        answer = str(error)
    assert answer == "" or answer.startswith(str(path))
    assert "\n" not in answer


@pytest.mark.parametrize("name", INDEX.names[:6])
def test_an_index_needs_its_columns(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=rf"mine\.parquet has no column {name}: an index needs collection_id, "):
        build.read_index(foreign(tmp_path / "mine.parquet", **{name: None}))


BAD_COLUMNS: list[tuple[str, Any]] = [
    ("instanceCount", ["many"]),
    ("instanceCount", [-1]),
    ("instanceCount", [1.5]),
    ("instanceCount", [float("nan")]),
    ("instanceCount", [2**31]),
    ("instanceCount", pa.array([2**64 - 1], pa.uint64())),
    ("series_size_MB", ["large"]),
    ("series_size_MB", [-0.1]),
    ("series_size_MB", [float("nan")]),
    ("series_size_MB", [float("inf")]),
    ("series_size_MB", [float("-inf")]),
    ("series_size_MB", [1e300]),
    ("series_size_MB", [1e10]),
    ("series_revised_idc_version", [2**40]),
    ("series_revised_idc_version", ["v1"]),
    ("PatientID", [["a", "b"]]),
    ("PatientID", [{"a": 1}]),
    ("PatientID", pa.array([b"\xff\xfe"], pa.binary())),
    ("TransferSyntaxUID", pa.array([b"\xff"], pa.binary()).view(pa.string())),
    ("StudyInstanceUID", pa.array([b"\xed\xa0\x80"], pa.binary()).view(pa.string())),
]


@pytest.mark.parametrize(("name", "column"), BAD_COLUMNS, ids=str)
def test_a_column_of_other_things_is_refused(tmp_path: Path, name: str, column: Any) -> None:
    with pytest.raises(UsageError, match=r"mine\.parquet cannot be read as a parquet index: .+"):
        build.read_index(foreign(tmp_path / "mine.parquet", **{name: column}))


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = table_of([ROW])
    pq.write_table(table.append_column("PatientID", table.column("PatientID")), tmp_path / "mine.parquet")
    with pytest.raises(UsageError, match=r"mine\.parquet cannot be read"):
        build.read_index(tmp_path / "mine.parquet")


def test_an_index_without_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.parquet lists no series"):
        build.read_index(write_rows(tmp_path / "mine.parquet", []))


def test_a_file_that_may_not_be_read_is_refused(source: Path) -> None:
    source.chmod(0)
    with as_nobody(), pytest.raises(UsageError, match=r"index\.parquet cannot be read.*Permission denied"):
        build.read_index(source)


GOOD_COLUMNS: list[tuple[str, Any]] = [
    ("PatientID", pa.array(["P1"], pa.large_string())),
    ("PatientID", pa.array(["P1"]).dictionary_encode()),
    ("PatientID", pa.array([b"P1"])),
    ("PatientID", pa.array(["P1"], pa.string_view())),
    ("instanceCount", pa.array([2], pa.int8())),
    ("instanceCount", pa.array([2.0])),
    ("series_size_MB", pa.array([1.5], pa.float32())),
]


@pytest.mark.parametrize(("name", "column"), GOOD_COLUMNS, ids=str)
def test_a_column_of_another_type_with_the_same_values_is_as_good(tmp_path: Path, name: str, column: Any) -> None:
    source = foreign(tmp_path / "mine.parquet", **{name: column})
    catalog = Catalog(build.catalog_table(build.read_index(source), {}))
    assert is_right(catalog)
    assert catalog.series(0).instances == 2
    assert catalog.value(Level.PATIENT, 0) == "P1"


def test_only_some_columns_are_needed_and_others_do_no_harm(tmp_path: Path) -> None:
    table = table_of([ROW]).drop_columns(INDEX.names[6:]).append_column("Modality", pa.array([["CT"]]))
    pq.write_table(table, tmp_path / "mine.parquet")
    catalog = Catalog(build.catalog_table(build.read_index(tmp_path / "mine.parquet"), {}))
    assert is_right(catalog)
    assert catalog.series(0).content == ""
    assert catalog.series(0).transfer_syntaxes == frozenset()


def test_many_row_groups_are_one_index(tmp_path: Path) -> None:
    rows = [replace(ROW, SeriesInstanceUID=f"1.2.{number}") for number in range(100)]
    pq.write_table(table_of(rows), tmp_path / "mine.parquet", row_group_size=7)
    assert Catalog(build.catalog_table(build.read_index(tmp_path / "mine.parquet"), {})).rows == 100


def test_hostile_names_survive_the_way_through_the_builder_s_process(tmp_path: Path, cache: Path) -> None:
    values = ["", ".", "..", "a/b", "%41", "\n", ".hidden", "é" * 200, "x" * 300, "x" * 299 + "y"]
    source = write_rows(tmp_path / "index.parquet", [replace(ROW, collection_id=value) for value in values])
    catalog = open_catalog(str(source), cache)
    names = [name for name, _, _ in children(catalog, Level.ROOT, 0)]
    assert names == sorted(escape(value, hidden=False) for value in values)
    assert {catalog.value(Level.COLLECTION, row) for row in range(catalog.rows)} == set(values)


# --- the cache directory ---------------------------------------------------------------------------------------------


def test_a_cache_directory_that_cannot_be_written_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"/proc/catalog\.lock") as caught:
        open_catalog(str(source), Path("/proc"))  # where root cannot write either
    assert "\n" not in str(caught.value)
    for directory in (tmp_path / "missing", source):
        assert build.main([str(directory / "catalog-x.arrow"), str(source)]) == os.EX_CANTCREAT
        assert f"{directory}/catalog.lock" in capsys.readouterr().err


def test_a_catalog_serves_a_mount_that_may_only_read_it(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError

    built(source, cache)
    monkeypatch.setattr(os, "utime", refused)
    assert is_right(open_catalog(str(source), cache))

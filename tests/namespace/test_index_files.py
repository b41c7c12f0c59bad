"""Files that are indexes, and files that are none."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.errors import UsageError
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.columns import read_index
from idcfs.namespace.index import open_catalog
from idcfs.namespace.names import escape
from idcfs.namespace.nodes import Level
from idcfs.namespace.table import catalog_table
from tests.namespace.making import INDEX, ROW, catalogs, children, is_right, patient, table_of, write_rows
from tests.unprivileged import as_nobody


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
        read_index(path)


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
        assert Catalog(catalog_table(read_index(path), {})).rows >= 1
    except UsageError as error:
        answer = str(error)
    assert answer == "" or answer.startswith(str(path))
    assert "\n" not in answer


@pytest.mark.parametrize("name", INDEX.names[:6])
def test_an_index_needs_its_columns(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=rf"mine\.parquet has no column {name}: an index needs collection_id, "):
        read_index(foreign(tmp_path / "mine.parquet", **{name: None}))


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
        read_index(foreign(tmp_path / "mine.parquet", **{name: column}))


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = table_of([ROW])
    pq.write_table(table.append_column("PatientID", table.column("PatientID")), tmp_path / "mine.parquet")
    with pytest.raises(UsageError, match=r"mine\.parquet cannot be read"):
        read_index(tmp_path / "mine.parquet")


def test_an_index_without_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.parquet lists no series"):
        read_index(write_rows(tmp_path / "mine.parquet", []))


def test_a_file_that_may_not_be_read_is_refused(source: Path) -> None:
    source.chmod(0)
    with as_nobody(), pytest.raises(UsageError, match=r"index\.parquet cannot be read.*Permission denied"):
        read_index(source)


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
    catalog = Catalog(catalog_table(read_index(source), {}))
    assert is_right(catalog)
    assert catalog.series(0).instances == 2
    assert catalog.value("PatientID", 0) == "P1"


def test_only_some_columns_are_needed_and_others_do_no_harm(tmp_path: Path) -> None:
    table = table_of([ROW]).drop_columns(INDEX.names[6:]).append_column("Frames", pa.array([["CT"]]))
    pq.write_table(table, tmp_path / "mine.parquet")
    catalog = Catalog(catalog_table(read_index(tmp_path / "mine.parquet"), {}))
    assert is_right(catalog)
    assert catalog.series(0).content == ""
    assert catalog.series(0).transfer_syntaxes == frozenset()


def test_many_row_groups_are_one_index(tmp_path: Path) -> None:
    rows = [replace(ROW, SeriesInstanceUID=f"1.2.{number}") for number in range(100)]
    pq.write_table(table_of(rows), tmp_path / "mine.parquet", row_group_size=7)
    assert Catalog(catalog_table(read_index(tmp_path / "mine.parquet"), {})).rows == 100


def test_hostile_names_survive_the_way_through_the_builder_s_process(tmp_path: Path, cache: Path) -> None:
    values = ["", ".", "..", "a/b", "%41", "\n", ".hidden", "é" * 200, "x" * 300, "x" * 299 + "y"]
    source = write_rows(tmp_path / "index.parquet", [replace(ROW, collection_id=value) for value in values])
    catalog = open_catalog(str(source), cache)
    names = [name for name, _, _ in children(catalog, Level.ROOT, 0)]
    assert names == sorted(escape(value, hidden=False) for value in values)
    assert {catalog.value("collection_id", row) for row in range(catalog.rows)} == set(values)

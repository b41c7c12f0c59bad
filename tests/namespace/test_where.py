"""Conditions in SQL: what they choose, and that they can do nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from idcfs.errors import UsageError
from idcfs.namespace import where
from idcfs.namespace.packaged import packaged_parquet
from idcfs.namespace.where import rows_where
from tests.namespace.making import ROW, write_rows

ROWS = [
    replace(ROW, SeriesInstanceUID="1", Modality="CT", PatientID="A"),
    replace(ROW, SeriesInstanceUID="2", Modality="SEG", PatientID="A"),
    replace(ROW, SeriesInstanceUID="3", Modality="CT", PatientID="B"),
    replace(ROW, SeriesInstanceUID="4", Modality=None, PatientID="C", license_short_name="CC BY-NC 3.0"),
]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "index.parquet", ROWS)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("Modality = 'CT'", [0, 2]),
        ("modality = 'CT' AND NOT PatientID = 'A'", [2]),
        ("index.Modality = 'CT'", [0, 2]),
        ("Modality = 'CT' -- or what else", [0, 2]),
        ("license_short_name LIKE 'CC BY-NC%'", [3]),
        ("Modality IS NULL OR Modality = 'SEG'", [1, 3]),
        ("Modality = 'MR'", []),
        ("instanceCount", [0, 1, 2, 3]),  # what SQL takes for true
        ("Modality = 'CT' AND PatientID IN (SELECT PatientID FROM index WHERE Modality = 'SEG')", [0]),
        ("EXISTS (FROM index AS other WHERE other.PatientID = index.PatientID AND other.Modality = 'SEG')", [0, 1]),
        ("PatientID IN (WITH few AS (FROM index WHERE Modality IS NULL) SELECT PatientID FROM few)", [3]),
        ("PatientID IN (WITH index AS (SELECT 'B' AS x) SELECT x FROM index)", [2]),
        ("(Modality = 'CT') AND (PatientID = 'A') /* and */ -- so on", [0]),
        ("SeriesInstanceUID IN (SELECT unnest(['1', '4']))", [0, 3]),
        ("SeriesInstanceUID IN (SELECT CAST(n AS VARCHAR) FROM range(2, 4) AS r(n))", [1, 2]),
    ],
)
def test_a_condition_chooses_rows(condition: str, rows: list[int], index: Path) -> None:
    assert sorted(rows_where(index, condition)) == rows


def test_columns_may_be_named_that_no_catalog_has(tmp_path: Path) -> None:
    table = pa.table({"SeriesInstanceUID": ["1", "2"], "my column": [[1, 2], []]})
    pq.write_table(table, tmp_path / "index.parquet")
    assert list(rows_where(tmp_path / "index.parquet", 'len("my column") = 2')) == [0]


@pytest.mark.parametrize(
    "condition",
    [
        "Modality = 'SEG' AND license_short_name LIKE 'CC BY%'",
        "StudyInstanceUID IN (SELECT StudyInstanceUID FROM index)",
    ],
)
def test_rows_of_the_packaged_index_are_those_that_pyarrow_finds(condition: str) -> None:
    index = packaged_parquet()
    table = pq.read_table(index, columns=["Modality", "license_short_name"])
    found = sorted(rows_where(index, condition).tolist())
    if "SELECT" in condition:
        assert found == list(range(table.num_rows))
        return
    mask = pc.and_(pc.equal(table["Modality"], "SEG"), pc.starts_with(table["license_short_name"], "CC BY"))
    assert found == pc.indices_nonzero(mask).to_pylist()


# --- and nothing else ------------------------------------------------------------------------------------------------

FILES = [
    "SELECT content FROM read_text('{file}')",
    "SELECT content FROM read_blob('{file}')",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT file FROM glob('/etc/*')",
    "FROM '{file}'",
    "FROM '{file}.parquet'",
    "FROM 'https://127.0.0.1:9/x.parquet'",
    "SELECT * FROM query('FROM read_text(''{file}'')')",
]
OTHERS = [
    "SELECT name FROM duckdb_settings()",
    "SELECT name FROM duckdb_secrets()",
    "SELECT table_name FROM information_schema.tables",
    "SELECT name FROM main.duckdb_views",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM pandas_scan(1)",
    "FROM arrow_scan(1, 2, 3)",
    "FROM enable_logging(storage = 'file', storage_path = '{file}')",
    "FROM (SHOW TABLES)",
    "FROM (DESCRIBE index)",
    "SELECT x FROM secret",
    "FROM sys",
    "WITH duckdb_databases AS (SELECT 1) SELECT 1) AND EXISTS (FROM duckdb_databases",
    "WITH a AS (FROM duckdb_views), DuckDB_Views AS (SELECT 1) FROM a",
    "SELECT 1 WHERE current_setting('secret_directory') > ''",
    "SELECT 1 WHERE main.Current_Setting('TimeZone') > ''",
    "SELECT pg_get_viewdef(1)",
    "SELECT json_serialize_plan('FROM duckdb_settings()')",
]
MORE_THAN_ONE = [
    "true; SELECT 1",
    "true; COPY index TO '{file}'",
    "true; ATTACH '{file}'",
    "true; INSTALL httpfs",
    "true; LOAD httpfs",
    "true; SET enable_external_access = true",
    "true; PRAGMA enable_profiling",
    "true UNION SELECT 1",
    "true GROUP BY ALL",
    "true ORDER BY 1",
    "true LIMIT 1",
    "true QUALIFY row_number() OVER () = 1",
    "true;",
    "true WINDOW w AS (ORDER BY Modality)",
]
NONE = ["COPY index TO '{file}'", "true) OR (true", "", "-- nothing", "/* open", "true,", "Modality =", "SELECT 1", "'"]
UNKNOWN = [
    "getenv('HOME') = 'x'",
    "Modalty = 'CT'",
    "count(*) > 1",
    "row_number() OVER () = 1",
    "'perhaps'",
    "error('x')",
    '"row of the index" = 0',
    '"row" = 0',
]


def refusal(index: Path, condition: str) -> str:
    """The one line that ``condition`` is refused with."""
    with pytest.raises(UsageError) as caught:
        rows_where(index, condition)
    line = str(caught.value)
    assert line.startswith("--where: ")
    assert "\n" not in line
    assert "\x1b" not in line
    return line


@pytest.mark.parametrize("query", FILES + OTHERS)
def test_no_other_table_is_read(query: str, index: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("secret\n")
    line = refusal(index, f"EXISTS ({query.format(file=file)})")
    assert "can read the table index and no other" in line
    assert file.read_text() == "secret\n"


@pytest.mark.parametrize("query", FILES)
def test_duckdb_itself_reads_no_file_either(query: str, index: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("secret\n")
    with where._connected(index) as connection, pytest.raises(duckdb.Error):
        connection.execute(query.format(file=file)).fetchall()


@pytest.mark.parametrize("condition", MORE_THAN_ONE)
def test_nothing_comes_after_a_condition(condition: str, index: Path, tmp_path: Path) -> None:
    line = refusal(index, condition.format(file=tmp_path / "file"))
    assert line == "--where: give one condition, like Modality = 'CT', and nothing after it"
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("condition", NONE)
def test_what_is_no_condition_is_refused(condition: str, index: Path, tmp_path: Path) -> None:
    refusal(index, condition.format(file=tmp_path / "file"))
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("condition", UNKNOWN)
def test_what_duckdb_does_not_know_or_cannot_do_is_refused(condition: str, index: Path) -> None:
    refusal(index, condition)


def test_a_column_that_is_none_is_answered_with_the_nearest(index: Path) -> None:
    line = refusal(index, "Modalty = 'CT'")
    assert line.startswith('--where: Binder Error: Referenced column "Modalty" not found')
    assert 'Candidate bindings: "Modality"' in line
    assert "if it is text" not in line


@pytest.mark.parametrize("condition", ["Modality = CT", 'Modality = "CT"'])
def test_text_that_is_taken_for_a_column_is_answered_with_how_to_write_it(condition: str, index: Path) -> None:
    line = refusal(index, condition)
    assert line.startswith('--where: Binder Error: Referenced column "CT" not found')
    assert line.endswith("; if it is text, write 'CT'")


@pytest.mark.parametrize(
    "statement",
    [
        "SET threads = 1",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "COPY (SELECT 1) TO '{file}'",
        "ATTACH '{file}'",
        "EXPORT DATABASE '{file}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT getenv('HOME')",
        "FROM secret",
    ],
)
def test_duckdb_would_refuse_what_no_parsing_had_caught(statement: str, index: Path, tmp_path: Path) -> None:
    secret = pa.table({"x": [1]})  # which DuckDB finds in its caller's variables, if it may
    with where._connected(index) as connection, pytest.raises(duckdb.Error):
        connection.execute(statement.format(file=tmp_path / "file"))
    assert secret.num_rows
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    "condition", ["NOT " * 20_000 + "true", " + ".join(["1"] * 20_000) + " = 1"], ids=["not", "sum"]
)
def test_what_is_nested_too_deeply_is_refused(condition: str, index: Path) -> None:
    refusal(index, condition)


def test_a_condition_that_is_no_text_is_refused(index: Path) -> None:
    refusal(index, os.fsdecode(b"Modality = '\xff'"))

"""An index that means harm: it runs nothing, fills no memory, and chooses neither files here nor hosts."""

from __future__ import annotations

import base64
import os
import pickle
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idcfs.archive.dicomweb import instance_path
from idcfs.archive.inventory import Inventory
from idcfs.content.block_files import name_of
from idcfs.content.disk_directory import block_path
from idcfs.errors import Refused, UsageError
from idcfs.namespace import columns
from idcfs.namespace.index import open_catalog
from idcfs.settings import AWS, GCS
from tests.namespace.making import ROW, assert_legal, paths, with_path, write_rows

PATH = ("collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")


def as_table(rows: int = 1, text: str = "1.2") -> pa.Table:
    """An index of so many rows that are all the same."""
    same = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([text]))
    one = pa.repeat(pa.scalar(1, pa.int32()), rows)
    return pa.table(dict.fromkeys(PATH, same) | {"instanceCount": one, "series_size_MB": one})


class Touching:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_nothing_in_its_metadata_is_run(tmp_path: Path) -> None:
    trap = pickle.dumps(Touching(tmp_path / "run"))
    names = ("arrow.py_extension_type", "pandas.period", "arrow.fixed_shape_tensor", "arrow.opaque")
    for number, name in enumerate(names):
        meta = {"ARROW:extension:name": name.encode(), "ARROW:extension:metadata": trap}
        table = as_table()
        fields = [pa.field(field.name, field.type, metadata=meta) for field in table.schema]
        pandas = {"pandas": trap, "pandas_version": base64.b64encode(trap)}
        source = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(table.columns, pa.schema(fields, pandas)), source)
        with suppress(UsageError):  # an extension type may be refused
            columns.read_index(source)
    assert not (tmp_path / "run").exists()


def test_rows_that_take_no_room_in_the_file_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "bomb.parquet"
    pq.write_table(as_table(100_000, "x" * 1_000_000), source)  # 100 GB, four times
    assert source.stat().st_size < 1_000_000
    with pytest.raises(UsageError, match="malloc of size"):
        open_catalog(str(source), tmp_path)
    assert not list(tmp_path.glob("catalog-*"))
    monkeypatch.setattr(columns, "_MOST_ROWS", 99_999)
    with pytest.raises(UsageError, match="lists 100,000 series, more than 99,999"):
        columns.read_index(source)


@pytest.mark.parametrize("column", ["instanceCount", "series_size_MB"])
@pytest.mark.parametrize("number", [-1, -(2**63), 2**62, float("nan"), float("inf"), 1e300])
def test_numbers_that_cannot_be_are_refused(column: str, number: float, tmp_path: Path) -> None:
    source = tmp_path / "index.parquet"
    table = as_table()
    numbers = pa.array([number])
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, numbers), source)
    with pytest.raises(UsageError, match="cannot be read as a parquet index"):
        columns.read_index(source)


@dataclass(frozen=True)
class Placed:
    """A series, and where an index says that its files are."""

    content: str
    bucket: str
    series_uid: str = "1.2.3"
    instances: int | None = 1


HOSTILE = (
    "../../../etc",
    "/etc/passwd",
    "..",
    "a/b",
    "a\nb",
    "a\0b",
    "a\x1b[2J",
    "a b",
    "x" * 300,
    "%2e%2e",
    "é",
    "a?b#c",
)


def test_its_words_lead_nowhere(tmp_path: Path) -> None:
    """Neither on this machine's disk nor at a server."""
    rows = [replace(with_path(ROW, *[text] * 4), crdc_series_uuid=text, aws_bucket=text) for text in HOSTILE]
    source = write_rows(tmp_path / "index.parquet", rows)
    catalog = open_catalog(str(source), tmp_path)
    names = {name for path in paths(catalog) for name in path}
    assert len(names) >= len(HOSTILE)
    for name in names:
        assert_legal(name)
    for text in HOSTILE:
        assert block_path(tmp_path, name_of((text, text), 0)).resolve().parent.parent == tmp_path
        assert not Inventory.is_placed(Placed(text, "idc-open-data"))
        assert not Inventory.is_placed(Placed("uuid", text))
        with pytest.raises(Refused, match="is no DICOM UID: nothing was asked"):
            instance_path(text, "1.2", "1.2.3")


@pytest.mark.parametrize("bucket", ["169.254.169.254", "localhost", "evil.example", "a..b", "evil.example."])
def test_it_chooses_a_bucket_and_no_host(bucket: str) -> None:
    for place in (AWS, GCS):
        asked = httpx.URL(place.of(bucket).base_url)
        assert asked.host.endswith((".s3.amazonaws.com", "storage.googleapis.com"))
    assert not Inventory.is_placed(Placed("uuid", f"{bucket}/")) | Inventory.is_placed(Placed("uuid", f"a@{bucket}"))

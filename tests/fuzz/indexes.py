"""What a user's index, cohort or archive says exists: parquet files, manifests, layouts, values that become names."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from idcfs.errors import UsageError
from idcfs.layout import NAMED_LAYOUTS, parse_layout
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.columns import read_index
from idcfs.namespace.manifest import read_manifest
from idcfs.namespace.names import NAME_MAX, escape, instance_name, is_shortened, unescape
from idcfs.namespace.table import catalog_table

from .given import Given, edited, outcome

LAYOUTS = [parse_layout(name) for name in NAMED_LAYOUTS]
SHARED_MEMORY = "/dev/shm"
MOST_ROWS = 6
_ODD_NUMBERS = (float("nan"), float("inf"), -0.5, 1e300, 1e-300, 2.0**53)


def layout(data: bytes) -> None:
    """A template, as a user writes it."""
    found = outcome(lambda: parse_layout(data.decode("utf-8", "surrogateescape")), UsageError)
    if not isinstance(found, type):
        assert parse_layout(found.text) == found
        assert set(found.columns) == {piece.text for names in found.directories for piece in names if piece.is_column}


def name(data: bytes) -> None:
    """A value of an index, and a name that a program asks for."""
    value = data.decode("utf-8", "surrogatepass" if data.isascii() else "replace")
    for hidden in (True, False):
        found = escape(value, hidden=hidden)
        assert 0 < len(found) <= NAME_MAX
        assert found not in (b".", b"..")
        assert not {*b"\0/\n"} & {*found}
        assert is_shortened(found) or unescape(found) == value
    assert len(instance_name(value)) <= NAME_MAX
    outcome(lambda: unescape(data), ValueError)


def manifest(data: bytes) -> None:
    """A list of series."""
    listed = outcome(lambda: read_manifest(io.BytesIO(data), "list"), UsageError)
    if not isinstance(listed, type):
        assert listed.column in ("SeriesInstanceUID", "crdc_series_uuid")
        assert 0 < len(listed.values) == len({*listed.values}) <= len(data)
        assert sum(map(len, listed.values)) <= len(data)
        assert all(listed.values)


def parquet(data: bytes) -> None:
    """Which layout; a file, as it is made of columns of any type, or damaged: an index that can be shown, or none."""
    given = Given(data)
    kind = given.number()
    shown = LAYOUTS[kind % len(LAYOUTS)]
    with tempfile.NamedTemporaryFile(dir=SHARED_MEMORY) as file:
        if kind >= 192:
            file.write(edited(_valid(), given))
        else:
            pq.write_table(_made(given), file.name, compression=("none", "zstd", "gzip")[kind // 3 % 3])
        file.flush()
        path = Path(file.name)
        catalog = outcome(lambda: Catalog(catalog_table(read_index(path, shown.columns), {0: 1}, shown)), UsageError)
    if not isinstance(catalog, type):
        assert catalog.rows > 0
        for row in range(min(catalog.rows, MOST_ROWS)):
            told = catalog.series(row)
            assert row in catalog.rows_of("SeriesInstanceUID", told.series_uid)


def _text(given: Given) -> str:
    return given.some().decode("utf-8", "replace")


def _number(given: Given) -> float:
    if given.number() % 8 == 7:
        return _ODD_NUMBERS[given.number() % len(_ODD_NUMBERS)]
    return given.number(3) / 1000


_TYPES: list[tuple[Any, Callable[[Given], Any]]] = [
    (pa.string(), _text),
    (pa.int64(), lambda given: given.number()),
    (pa.float64(), _number),
    (pa.large_string(), _text),
    (pa.dictionary(pa.int8(), pa.string()), _text),
    (pa.binary(), Given.some),
    (pa.int64(), lambda given: given.number(8) - 2**63),
    (pa.uint64(), lambda given: given.number(8)),
    (pa.int8(), lambda given: given.number() - 128),
    (pa.float32(), _number),
    (pa.bool_(), lambda given: given.number() > 127),
    (pa.list_(pa.string()), lambda given: [_text(given), None]),
    (pa.struct([("a", pa.string())]), lambda given: {"a": _text(given)}),
    (pa.map_(pa.string(), pa.int8()), lambda given: [(_text(given), 1)]),
    (pa.decimal128(20, 3), lambda given: Decimal(given.number(4)) / 1000),
    (pa.timestamp("us"), lambda given: given.number(7)),
    (pa.date32(), lambda given: given.number(2)),
    (pa.time64("us"), lambda given: given.number(4)),
    (pa.duration("ms"), lambda given: given.number(4)),
    (pa.binary(3), lambda given: given.take(3).ljust(3)),
    (pa.null(), lambda given: None),
]
"""Types that parquet has, and what is in a column of them; first those that an index has."""
_COLUMNS = {
    "collection_id": 0,
    "PatientID": 0,
    "StudyInstanceUID": 0,
    "SeriesInstanceUID": 0,
    "instanceCount": 1,
    "series_size_MB": 2,
    "crdc_series_uuid": 0,
    "aws_bucket": 0,
    "TransferSyntaxUID": 0,
    "series_revised_idc_version": 1,
    "Modality": 0,
    "StudyDescription": 0,
    "SeriesDescription": 0,
    "StudyDate": 0,
    "SeriesNumber": 0,
}
"""Columns, and the type in ``_TYPES`` that each should have."""


def _made(given: Given) -> Any:
    """A table: how many rows; for each column whether it is as it should be, then its values."""
    rows = given.number() % (MOST_ROWS + 1)
    names, columns = [], []
    for name, usual in _COLUMNS.items():
        choice = given.number()
        if choice == 255:
            continue
        kind, value = _TYPES[usual if choice < 128 else choice % len(_TYPES)]
        values = [None if given.number() % 16 == 15 else value(given) for _ in range(rows)]
        names.append("PatientID" if choice == 254 else name)  # which is there twice then
        columns.append(_column(values, kind))
    return pa.Table.from_arrays(columns, names)


def _column(values: list[Any], kind: Any) -> Any:
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, ValueError):  # more than the type has room for
        return pa.nulls(len(values), kind)


@cache
def _valid() -> bytes:
    file = io.BytesIO()
    pq.write_table(_made(Given(b"\3" + b"\0\0\2ab\0\3abc\0\4abcd" * 20)), file)
    return file.getvalue()

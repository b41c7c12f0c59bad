"""What an index says of each series, as a table in known types: from a parquet file, or from what a server lists."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, starmap
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UsageError
from ..layout import PATH_COLUMNS
from .schema import UNKNOWN
from .searched import SearchedSeries, SentSeries

_REQUIRED = (*PATH_COLUMNS, "instanceCount", "series_size_MB")
_TEXTS = ("crdc_series_uuid", "aws_bucket", "TransferSyntaxUID", "Modality", "license_short_name", "source_DOI")
"""What a catalog has of each series if the index has it."""
_REVISED = "series_revised_idc_version"
_NUMBERS = ("instanceCount", "series_size_MB", _REVISED)

_BYTES_PER_MB = 1_000_000
"""``series_size_MB`` has six decimals, so this times it, rounded, is the exact byte sum (v25: all rows)."""
_MOST_ROWS = 2**24
"""Of an index: sixteen times IDC v25's. Rows that are all the same take no room in parquet, but here."""
_MOST_INSTANCES = 2**31 - 1  # a catalog gives them 32 bits
_MOST_BYTES = 10**15  # 1 PB in one series: ten times the whole of IDC v25
_RECORDS_AT_ONCE = 10_000
"""How many records are objects at the same time: all of a million are 0.4 GB more."""

log = logging.getLogger(__name__)


def read_index(source: Path, named: Iterable[str] = ()) -> pa.Table:
    """The columns of ``source`` that a catalog needs, in known types.

    :param named: columns of text that it needs as well, since the layout names them.
    :raises UsageError: if it cannot be read, lacks a column or holds what cannot be true.
    """
    try:
        file = pq.ParquetFile(source)
        if file.metadata.num_rows > _MOST_ROWS:
            raise UsageError(f"{source} lists {file.metadata.num_rows:,} series, more than {_MOST_ROWS:,}")
        missing = [name for name in _REQUIRED if name not in file.schema_arrow.names]
        if missing:
            raise UsageError(f"{source} has no column {missing[0]}: an index needs {', '.join(_REQUIRED)}")
        unknown = [name for name in named if name not in file.schema_arrow.names]
        if unknown:
            raise UsageError(f"{source} has no column {unknown[0]}, which the layout names")
        wanted = dict.fromkeys((*_REQUIRED, *_TEXTS, _REVISED, *named))
        table = _complete(
            file.read(columns=[name for name in wanted if name in file.schema_arrow.names]), _texts_of(named)
        )
        table.validate(full=True)  # parquet does not: text may be no UTF-8
        if not table.num_rows:
            raise UsageError(f"{source} lists no series")
        return _without_shared_contents(table, source)
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:  # a column twice is a KeyError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{source} cannot be read as a parquet index: {reason}") from error


def read_some(source: Path, texts: Iterable[str]) -> pa.Table:
    """The columns of text and all numbers of an index that ``read_index`` has accepted, in the same types."""
    file = pq.ParquetFile(source)
    wanted = [name for name in (*texts, *_NUMBERS) if name in file.schema_arrow.names]
    return _complete(file.read(columns=wanted), texts)


def _texts_of(named: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys((*PATH_COLUMNS, *_TEXTS, *named))


def _complete(table: pa.Table, texts: Iterable[str]) -> pa.Table:
    """Every column there, in one type each, absent values as empty or UNKNOWN; and the number of each row."""
    columns: dict[str, Any] = {}
    for name in texts:
        columns[name] = _column(table, name, pa.large_string(), "")
    counts = _within(_column(table, "instanceCount", pa.int64(), None), _MOST_INSTANCES, "instanceCount")
    columns["instanceCount"] = pc.fill_null(counts, UNKNOWN)
    columns[_REVISED] = _column(table, _REVISED, pa.int32(), 0)
    megabytes = _column(table, "series_size_MB", pa.float64(), None)
    size = _within(pc.round(pc.multiply(megabytes, float(_BYTES_PER_MB))), _MOST_BYTES, "series_size_MB")
    size = pc.fill_null(pc.cast(size, pa.int64()), UNKNOWN)
    columns["bytes"] = pc.if_else(pc.equal(size, 0), UNKNOWN, size)  # no instance is empty: rounded away, or not known
    columns["index_row"] = pa.array(np.arange(table.num_rows, dtype=np.int32))
    return pa.table(columns)


def _without_shared_contents(table: pa.Table, source: Path) -> pa.Table:
    """``table``, without a content UUID where it stands for several series: the one's instances would be shown in all.

    In idc-index each stands once (v25: all of 1,044,191). The same series in several places may share its own.
    """
    column = table.schema.get_field_index("crdc_series_uuid")
    contents = table.column(column)
    named = contents.filter(pc.not_equal(contents, ""))
    if pc.count_distinct(named).as_py() == len(named):
        return table
    series = table.group_by("crdc_series_uuid").aggregate([("SeriesInstanceUID", "count_distinct")])
    several = series.filter(pc.greater(series.column("SeriesInstanceUID_count_distinct"), 1))
    is_shared = pc.and_(
        pc.is_in(contents, several.column("crdc_series_uuid").combine_chunks()), pc.not_equal(contents, "")
    )
    count = pc.sum(is_shared).as_py()
    if count:
        log.warning(
            "%s: %d series share their crdc_series_uuid with another one: taken for series without", source, count
        )
    return table.set_column(column, "crdc_series_uuid", pc.if_else(is_shared, "", contents).cast(contents.type))


def _within(column: Any, most: int, name: str) -> Any:
    """``column``, if every number in it is one between 0 and ``most``; NaN is not."""
    if pc.all(pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, most))).as_py() is False:
        raise ValueError(f"{name} holds a number that is not between 0 and {most:g}")
    return column


def _column(table: pa.Table, name: str, kind: pa.DataType, default: object) -> Any:
    if name not in table.schema.names:
        return pa.chunked_array([pa.array([default] * table.num_rows, kind)])
    column = pc.cast(table.column(name), kind)
    return column if default is None else pc.fill_null(column, pa.scalar(default, kind))


def read_records(lines: Iterable[bytes]) -> tuple[str, Iterator[SentSeries]]:
    """The collection's name and its series, from lines of JSON: ``[name, how many]``, then lists of ``SentSeries``.

    :raises UsageError: at the end, if it comes early: who sent them was killed, and a part must not pass for the whole.
    """
    # As index.py writes them: in UTF-8 but for lone surrogates, which no escape keeps apart from a pair.
    values = (json.loads(line.decode("utf-8", "surrogatepass")) for line in lines)
    try:
        collection, count = next(values, ("", None))
    except (ValueError, TypeError) as error:
        raise UsageError(f"the list of series is damaged: {error}") from error
    return collection, _counted(values, count)


def _counted(values: Iterator[Any], count: int | None) -> Iterator[SentSeries]:
    found = 0
    try:
        for records in values:
            yield from starmap(SentSeries, records)
            found += len(records)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the list of series is damaged after {found}: {error}") from error
    if found != count:
        raise UsageError(f"the list of series ended early, after {found}")


def index_of_records(collection: str, records: Iterable[SearchedSeries], named: Iterable[str] = ()) -> pa.Table:
    """The table over what a DICOMweb server lists, under one collection.

    :param named: columns of text that the layout names; what a search does not tell is empty.
    """
    left = iter(records)
    told = ["Modality", *(name for name in named if name in _WORDS)]
    parts = [_index_of(collection, [], told)]  # so that there is one
    while some := list(islice(left, _RECORDS_AT_ONCE)):
        parts.append(_index_of(collection, some, told))
    return _complete(pa.concat_tables(parts), _texts_of(named))


def _index_of(collection: str, records: list[SearchedSeries], told: Iterable[str]) -> pa.Table:
    """
    :param told: columns to make of those in ``_WORDS``.
    """
    counts = [record.instance_count for record in records]
    return pa.table(
        {
            "collection_id": _texts([collection] * len(records)),
            "PatientID": _texts([record.patient_id for record in records]),
            "StudyInstanceUID": _texts([record.study_uid for record in records]),
            "SeriesInstanceUID": _texts([record.series_uid for record in records]),
            "instanceCount": pa.array(
                [count if count is not None and 0 <= count <= _MOST_INSTANCES else None for count in counts], pa.int64()
            ),
        }
        | {name: _texts([_WORDS[name](record) for record in records]) for name in told}
    )


def _date(text: str) -> str:
    """A date as idc-index writes it: of YYYYMMDD, YYYY-MM-DD."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else text


_WORDS: dict[str, Callable[[SearchedSeries], str]] = {
    "Modality": attrgetter("modality"),
    "StudyDate": lambda record: _date(record.study_date),
    "StudyDescription": attrgetter("study_description"),
    "SeriesNumber": attrgetter("series_number"),
    "SeriesDescription": attrgetter("series_description"),
}
"""What a search may tell of a series, by idc-index's name for it."""


def _texts(values: list[str]) -> pa.Array:
    """``values`` as they are, though a server's JSON may hold lone surrogates, which Arrow would refuse."""
    encoded = [value.encode("utf-8", "surrogatepass") for value in values]
    return pa.array(encoded, pa.large_binary()).view(pa.large_string())

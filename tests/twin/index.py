"""Holdings of a whole idc-index: a million series in a few compact columns, their instances by formula.

Columns that repeat (patient, study, modality, …) are dictionary-encoded; the others stay as they are. A series is found
by its UID through a sorted array, everything else by comparing codes (about a millisecond over 1,044,191 series).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.twin.model import Instance, Series, SeriesQuery, date_matches
from tests.twin.synthetic import crdc_instance_uuid, instance_uid, series_from_row, synthetic_instance

_CODED = (
    "collection_id",
    "PatientID",
    "StudyInstanceUID",
    "Modality",
    "SOPClassUID",
    "TransferSyntaxUID",
    "StudyDate",
    "aws_bucket",
)
_PLAIN = ("SeriesInstanceUID", "crdc_series_uuid", "instanceCount", "series_size_MB")

T = TypeVar("T")
Rows = npt.NDArray[np.int64]


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made when asked for."""

    def __init__(self, keys: Sequence[int] | Rows, make: Callable[[int], T]) -> None:
        self._keys = keys
        self._make = make

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Lazy(self._keys[index], self._make)
        return self._make(int(self._keys[index]))

    def __iter__(self) -> Iterator[T]:
        return (self._make(int(key)) for key in self._keys)


class IndexHoldings:
    """Every series of an idc-index parquet, with synthetic instances."""

    def __init__(self, path: Path) -> None:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        # Column by column: a whole table at once costs twice the memory.
        self._columns: dict[str, Any] = {name: _column(path, name) for name in (*_CODED, *_PLAIN) if name in names}
        self._count = int(file.metadata.num_rows)
        self._by_uid = _order(self._columns["SeriesInstanceUID"])
        self._by_uuid: npt.NDArray[np.uint32] | None = None
        self._codes = {
            name: column.indices.to_numpy(zero_copy_only=False)
            for name, column in self._columns.items()
            if name in _CODED
        }
        pa.default_memory_pool().release_unused()

    def __len__(self) -> int:
        return self._count

    def series(self, query: SeriesQuery) -> Sequence[Series]:
        return Lazy(self._rows(query), self._series)

    def studies(self, query: SeriesQuery) -> Sequence[Series]:
        rows = self._rows(query)
        patients = self._codes["PatientID"][rows].astype(np.int64)
        keys = (patients << 32) | self._codes["StudyInstanceUID"][rows]
        _, first = np.unique(keys, return_index=True)
        return Lazy(rows[np.sort(first)], self._series)

    def instances(self, series: Series) -> Sequence[Instance]:
        return Lazy(range(series.instance_count), lambda ordinal: synthetic_instance(series, ordinal))

    def instance(self, series: Series, instance_uid: str) -> Instance | None:
        ordinal = ordinal_of(series, instance_uid)
        return None if ordinal is None else synthetic_instance(series, ordinal)

    def stored(self, series: Series, crdc_instance_uuid: str) -> Instance | None:
        ordinal = _names(series.series_uid, series.instance_count).get(crdc_instance_uuid)
        return None if ordinal is None else synthetic_instance(series, ordinal)

    def by_uuid(self, crdc_series_uuid: str) -> Series | None:
        column = self._columns.get("crdc_series_uuid")
        if column is None:
            return None
        if self._by_uuid is None:
            self._by_uuid = _order(column)
        row = _search(column, self._by_uuid, crdc_series_uuid)
        return None if row is None else self._series(row)

    def _series(self, row: int) -> Series:
        return series_from_row(dict.fromkeys(_CODED) | {k: c[row].as_py() for k, c in self._columns.items()})

    def _rows(self, query: SeriesQuery) -> Rows:
        if query.series_uid is not None:
            row = _search(self._columns["SeriesInstanceUID"], self._by_uid, query.series_uid)
            found = [] if row is None else [row]
            return np.array([r for r in found if self._matches(self._series(r), query)], dtype=np.int64)
        mask = np.ones(self._count, dtype=bool)
        wanted = {
            "StudyInstanceUID": query.study_uid,
            "PatientID": query.patient_id,
            "Modality": query.modality,
            "StudyDate": query.study_date,
        }
        for name, value in wanted.items():
            if value is not None:
                mask &= self._mask(name, value)
        return np.flatnonzero(mask)

    @lru_cache(maxsize=32)  # noqa: B019 - lives as long as the process
    def _mask(self, name: str, value: str) -> npt.NDArray[np.bool_]:
        values = self._columns[name].dictionary
        if name == "StudyDate":
            dates = [(v or "").replace("-", "") for v in values.to_pylist()]
            codes = [code for code, date in enumerate(dates) if date_matches(date, value)]
            return np.isin(self._codes[name], codes)
        code = pc.index(values, pa.scalar(value, values.type)).as_py()
        return np.asarray(self._codes[name] == code if code >= 0 else np.zeros(self._count, dtype=bool))

    @staticmethod
    def _matches(series: Series, query: SeriesQuery) -> bool:
        return (
            query.study_uid in (None, series.study_uid)
            and query.patient_id in (None, series.patient_id)
            and query.modality in (None, series.modality)
            and (query.study_date is None or date_matches(series.study_date, query.study_date))
        )


def ordinal_of(series: Series, uid: str) -> int | None:
    """Which instance of a synthetic series has that SOPInstanceUID."""
    prefix, _, number = uid.rpartition(".")
    if prefix != "2.25" or not number.isdecimal() or int(number) >> 128:
        return None
    stamps = _stamps(series.series_uid, series.instance_count)
    for ordinal in np.flatnonzero(stamps == np.uint64(int(number) >> 64)):
        if instance_uid(series.series_uid, int(ordinal)) == uid:
            return int(ordinal)
    return None


@lru_cache(maxsize=256)
def _stamps(series_uid: str, count: int) -> npt.NDArray[np.uint64]:
    """The upper halves of the 128-bit numbers in the instance UIDs: 8 bytes an instance instead of 100."""
    numbers = (int(instance_uid(series_uid, ordinal)[5:]) >> 64 for ordinal in range(count))
    return np.fromiter(numbers, dtype=np.uint64, count=count)


@lru_cache(maxsize=8)
def _names(series_uid: str, count: int) -> dict[str, int]:
    """Ordinals by name in the bucket."""
    return {crdc_instance_uuid(series_uid, ordinal): ordinal for ordinal in range(count)}


def _column(path: Path, name: str) -> Any:
    table = pq.read_table(path, columns=[name], read_dictionary=[name] if name in _CODED else [])
    column = table.column(0)
    if name in _CODED and not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.unify_dictionaries().combine_chunks() if name in _CODED else column.combine_chunks()


def _order(column: Any) -> npt.NDArray[np.uint32]:
    """Row numbers in the order of the column's values."""
    order: npt.NDArray[np.uint32] = pc.sort_indices(column).to_numpy().astype(np.uint32)
    return order


def _search(column: Any, order: npt.NDArray[np.uint32], value: str) -> int | None:
    """The row that has that value, by bisection; None if there is none."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if column[int(order[middle])].as_py() < value:
            low = middle + 1
        else:
            high = middle
    if low == len(order):
        return None
    row = int(order[low])
    return row if column[row].as_py() == value else None

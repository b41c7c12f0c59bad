"""The catalog: every series of the index, one row each, sorted by the names of the path that leads to it.

One flat table answers everything, because a directory is a run of rows: for each row it also holds where the run of
each directory above it ends. Children are found by jumping from end to end, names by bisection, and the position in a
directory is a row number. The table is an Arrow IPC file that is mapped, not read: pages come and go with use, and
several mounts share them. Names are read straight from the mapped buffers, in bytes, as the kernel wants them.

``table.py`` makes the table; ``schema.py`` is what the two agree on.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ..errors import Damaged, UsageError
from ..layout import PATH_COLUMNS, Layout
from .names import escape, unescape
from .nodes import Level
from .schema import FORMAT, ORDERS, UNKNOWN, end_at, layout_of, name_at, revised_at, schema


@dataclass(frozen=True, slots=True)
class Series:
    """One row of the catalog, spelled out."""

    study_uid: str
    series_uid: str
    instances: int | None
    total_bytes: int | None
    content: str
    transfer_syntaxes: frozenset[str]
    bucket: str = ""
    """Of IDC's public buckets, the one that holds its files, by its name at AWS."""
    collection_id: str = ""
    patient_id: str = ""
    modality: str = ""
    license: str = ""
    source_doi: str = ""


UNKNOWN_TIME = 315_619_200
"""For what nobody tells a time of: 1980-01-02 00:00 UTC, in seconds since the epoch. ZIP has no local time before
1980, so Python's zipfile would refuse the files, and GNU tar calls the epoch itself implausible.
"""


class Catalog:
    """The sorted series table."""

    def __init__(self, table: pa.Table) -> None:
        """Wrap a table of ``schema`` with the metadata that ``table.py`` gives it."""
        table = table.combine_chunks()
        meta = {key.decode(): value for key, value in (table.schema.metadata or {}).items()}
        layout = layout_of(table)
        columns = {name: _only_chunk(table, name) for name in table.schema.names}
        groups = range(1, len(layout.directories))
        self.rows: int = table.num_rows
        self.total_bytes = int(meta["total_bytes"])
        self.total_instances = int(meta["total_instances"])
        self._releases: dict[int, int] = {int(k): v for k, v in json.loads(meta["releases"]).items()}
        self._values: dict[str, str] = json.loads(meta["values"])
        self._names = {level: _Strings(columns[name_at(level)]) for level in groups}
        self._names[Level.SERIES] = _Strings(columns["series"])
        self._ends: dict[int, Any] = {level: _numbers(columns[end_at(level)]) for level in groups}
        self._ends |= {Level.ROOT: (self.rows,), Level.SERIES: range(1, self.rows + 1)}
        self._revised = {level: _numbers(columns[revised_at(level)]) for level in groups}
        self._revised[Level.SERIES] = _numbers(columns["series_revised"])
        self._below: dict[int, Level] = dict(pairwise((Level.ROOT, *map(Level, groups), Level.SERIES)))
        self._identifiers = {column: self._identifier(column, layout, columns) for column in PATH_COLUMNS}
        self._orders = {column: _numbers(columns[order]) for order, column in ORDERS.items()}
        self._instances = _numbers(columns["instances"])
        self._bytes = _numbers(columns["bytes"], "q")
        self._content = _Strings(columns["content"])
        self._transfer_syntaxes = _Strings(columns["transfer_syntaxes"])
        self._bucket = _Strings(columns["bucket"])
        self._texts = {name: _Strings(columns[name]) for name in ("modality", "license", "source_doi")}

    @classmethod
    def open(cls, path: Path) -> Catalog:
        """Map the catalog file at ``path``.

        :raises Damaged: if it is not a whole catalog file of this format.
        """
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            found = int((table.schema.metadata or {}).get(b"format", 0))
            if found != FORMAT or not table.schema.equals(schema(layout_of(table))):
                raise Damaged(f"{path} is a catalog of another format")
            return cls(table)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, UsageError) as error:
            raise Damaged(f"{path} is not a whole catalog file ({error})") from error

    def below(self, level: int) -> Level:
        """The level of what is in directories at ``level``."""
        return self._below[level]

    def end(self, level: int, row: int) -> int:
        """Row after the last series below the directory at (level, row)."""
        end: int = self._ends[level][row]
        return end

    def first(self, level: int, row: int) -> int:
        """First row below the directory at ``level`` that ``row`` is in."""
        return bisect_left(self._ends[level], self.end(level, row))

    def path(self, level: int, row: int) -> list[bytes]:
        """Path components from the root's child down to the directory at (level, row)."""
        levels = [above for above in self._below.values() if above <= level]
        return [self._names[above][row] for above in levels]

    def name(self, level: int, row: int) -> bytes:
        """Path component of the directory at (level, row)."""
        return self._names[level][row]

    def find(self, level: int, row: int, name: bytes) -> int | None:
        """Row of the child called ``name`` of the directory at (level, row), if there is one."""
        end = self.end(level, row)
        names = self._names[self.below(level)]
        child = bisect_left(names, name, row, end)
        return child if child < end and names[child] == name else None

    def children(self, level: int, row: int, start: int) -> Iterator[tuple[bytes, int, int]]:
        """(name, row, end) of each child of the directory at (level, row), from row ``start`` on.

        ``end`` is where the next child starts, so it serves as ``start`` to go on from there.
        """
        end = self.end(level, row)
        below = self.below(level)
        names, ends = self._names[below], self._ends[below]
        child = max(start, row)
        while child < end:
            after = ends[child]
            if after <= child:
                raise Damaged(f"the catalog is damaged at row {child}: remove it from the cache directory")
            yield names[child], child, after
            child = after

    def revised_time(self, level: int, row: int) -> int:
        """When anything below (level, row) was last revised, in seconds since the epoch: the date of that IDC release.

        Release 0 stands for what the index names no known release for: a file's own date. Without: ``UNKNOWN_TIME``.
        """
        if level == Level.ROOT:
            return max(self._releases.values(), default=UNKNOWN_TIME)
        return self._releases.get(self._revised[level][row]) or self._releases.get(0, UNKNOWN_TIME)

    def value(self, column: str, row: int) -> str:
        """What identifies row ``row``: its value of ``column``, one of ``PATH_COLUMNS``."""
        return self._identifiers[column].value(row)

    def rows_of(self, column: str, uid: str) -> Sequence[int]:
        """The rows, in order, that have ``uid`` in ``column``: StudyInstanceUID or SeriesInstanceUID."""
        order, identifier = self._orders[column], self._identifiers[column]
        wanted, key = identifier.stored(uid), identifier.strings.__getitem__
        return order[bisect_left(order, wanted, key=key) : bisect_right(order, wanted, key=key)]

    def release(self, level: int, row: int) -> int:
        """The newest IDC release in which anything below (level, row) was revised; 0 where the index does not say."""
        return 0 if level == Level.ROOT else int(self._revised[level][row])

    def total_in(self, amount: Literal["instances", "bytes"], start: int, stop: int) -> int | None:
        """Sum of ``amount`` over rows [start, stop); None where the index does not give it for each of them."""
        numbers = (self._instances if amount == "instances" else self._bytes)[start:stop].tolist()
        return None if min(numbers, default=0) == UNKNOWN else sum(numbers)

    def distinct(self, text: Literal["modality", "license", "source_doi"], start: int, stop: int) -> set[str]:
        """The different values in rows [start, stop), of those that are not empty."""
        return {_shown(value) for value in self._texts[text].distinct(start, stop) if value}

    def common_value(self, column: str, start: int, stop: int) -> str | None:
        """What all rows [start, stop), one at least, have in ``column``, one of ``PATH_COLUMNS``; None: they differ."""
        identifier = self._identifiers[column]
        return identifier.value(start) if identifier.strings.is_same(start, stop) else None

    def common_content(self, start: int, stop: int) -> str:
        """The content UUID that all rows [start, stop), one at least, have; empty where they differ, or have none."""
        return self._content[start].decode() if self._content.is_same(start, stop) else ""

    def rows_of_content(self, content: str) -> list[int]:
        """The rows whose content is ``content``, a UUID of the index."""
        return self._content.find(content.encode())

    def series(self, row: int) -> Series:
        """Row ``row``, spelled out."""
        return Series(
            collection_id=self.value("collection_id", row),
            patient_id=self.value("PatientID", row),
            study_uid=self.value("StudyInstanceUID", row),
            series_uid=self.value("SeriesInstanceUID", row),
            instances=_known(self._instances[row]),
            total_bytes=_known(self._bytes[row]),
            content=self._content[row].decode(),
            transfer_syntaxes=_split(self._transfer_syntaxes[row]),
            bucket=self._bucket[row].decode(),
            modality=_shown(self._texts["modality"][row]),
            license=_shown(self._texts["license"][row]),
            source_doi=_shown(self._texts["source_doi"][row]),
        )

    def _identifier(self, column: str, layout: Layout, columns: dict[str, pa.Array]) -> _Identifier:
        directory = layout.directory_of(column)
        if directory is None:
            return _Identifier(_Strings(columns[column]))
        is_last = directory + 1 == len(layout.directories)
        return _NameIdentifier(self._names[Level.SERIES if is_last else directory + 1], self._values, directory > 0)


class _Identifier:
    """A column of what identifies series, as it is in the index."""

    def __init__(self, strings: _Strings) -> None:
        self.strings = strings

    def value(self, row: int) -> str:
        """The value at ``row``."""
        return self.strings[row].decode("utf-8", "surrogatepass")

    def stored(self, value: str) -> bytes:
        """How the column has ``value``."""
        return value.encode("utf-8", "surrogatepass")


class _NameIdentifier(_Identifier):
    """The same where it is the name of a directory."""

    def __init__(self, strings: _Strings, shortened: dict[str, str], hidden: bool) -> None:
        """
        :param shortened: the value behind each shortened name.
        :param hidden: whether a leading dot stays.
        """
        super().__init__(strings)
        self._shortened = shortened
        self._hidden = hidden

    def value(self, row: int) -> str:
        name = self.strings[row]
        return self._shortened.get(name.decode("latin-1")) or unescape(name)

    def stored(self, value: str) -> bytes:
        return escape(value, hidden=self._hidden)


class _Strings:
    """A column of byte strings, plain or dictionary-encoded, read from its buffers without a copy of the column."""

    __slots__ = ("_codes", "_data", "_offsets")

    def __init__(self, array: pa.Array) -> None:
        self._codes = None
        if isinstance(array, pa.DictionaryArray):
            self._codes = _numbers(array.indices)
            array = array.dictionary
        _, offsets, data = array.buffers()
        self._offsets = memoryview(offsets).cast("b").cast("i") if offsets else memoryview(b"")
        self._data = memoryview(data or b"")

    def __getitem__(self, row: int) -> bytes:
        if self._codes is not None:
            row = self._codes[row]
        return bytes(self._data[self._offsets[row] : self._offsets[row + 1]])

    def find(self, value: bytes) -> list[int]:
        """The rows of a plain column that are ``value``, which is not empty and overlaps itself nowhere."""
        found = (bisect_right(self._offsets, match.start()) - 1 for match in re.finditer(re.escape(value), self._data))
        return [row for row in found if row < len(self) and self[row] == value]

    def __len__(self) -> int:
        return len(self._codes if self._codes is not None else self._offsets)

    def is_same(self, start: int, stop: int) -> bool:
        """Whether all rows [start, stop), one at least, have one value."""
        if self._codes is not None:
            return bool(self._codes[start : stop - 1] == self._codes[start + 1 : stop])
        value = self[start]
        return value == self[stop - 1] and all(self[row] == value for row in range(start + 1, stop - 1))

    def distinct(self, start: int, stop: int) -> set[bytes]:
        """The different values in rows [start, stop) of a dictionary-encoded column."""
        assert self._codes is not None
        if start < stop and self.is_same(start, stop):
            return {self[start]}
        codes = set(self._codes[start:stop].tolist())
        return {bytes(self._data[self._offsets[code] : self._offsets[code + 1]]) for code in codes}


def _only_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _numbers(array: pa.Array, code: Literal["i", "q"] = "i") -> memoryview:
    data = array.buffers()[1]
    return memoryview(data).cast("b").cast(code) if data is not None and len(array) else memoryview(b"")


def _shown(value: bytes) -> str:
    """A text that identifies nothing: in a server's JSON it may hold what is no Unicode."""
    return value.decode("utf-8", "replace")


def _known(number: int) -> int | None:
    return None if number == UNKNOWN else number


@lru_cache(maxsize=1024)
def _split(transfer_syntaxes: bytes) -> frozenset[str]:
    return frozenset(filter(None, (uid.strip() for uid in transfer_syntaxes.decode().split(","))))

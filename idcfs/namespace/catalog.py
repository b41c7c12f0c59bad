"""The catalog: every series of the index, one row each, sorted by the names of the path that leads to it.

One flat table answers everything, because a directory is a run of rows: for each row it also holds where the run of its
study, patient and collection ends. Children are found by jumping from end to end, names by bisection, and the position
in a directory is a row number. The table is an Arrow IPC file that is mapped, not read: pages come and go with use, and
several mounts share them. Names are read straight from the mapped buffers, in bytes, as the kernel wants them.

``build.py`` makes the table; ``SCHEMA`` is what the two agree on.
"""

from __future__ import annotations

import fcntl
import json
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from ..errors import Damaged
from .names import escape, is_shortened, unescape
from .nodes import Level

FORMAT = 3
"""Raised whenever ``SCHEMA`` or its meaning changes, so that an older file is built anew."""

UNKNOWN = -1
"""A number that the index does not give."""

_NAME = pa.dictionary(pa.int32(), pa.binary())
SCHEMA = pa.schema(
    [
        ("collection", _NAME),  # path components, escaped
        ("patient", _NAME),
        ("study", _NAME),
        ("series", pa.binary()),
        ("collection_end", pa.int32()),  # row after the last of this row's collection, …
        ("patient_end", pa.int32()),
        ("study_end", pa.int32()),
        ("collection_revised", pa.int32()),  # IDC release in which anything below was last revised, …
        ("patient_revised", pa.int32()),
        ("study_revised", pa.int32()),
        ("series_revised", pa.int32()),
        ("instances", pa.int32()),  # instances in the series, or UNKNOWN
        ("bytes", pa.int64()),  # exact sum of their sizes, or UNKNOWN
        ("content", pa.binary()),  # crdc_series_uuid: names the content version; empty if the index has none
        ("transfer_syntaxes", _NAME),  # UIDs, comma-separated; empty if the index has none
        ("bucket", _NAME),  # aws_bucket: where the files stand; empty if the index has none
    ]
)


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


class SearchedSeries(Protocol):
    """A series as a search returns it."""

    @property
    def patient_id(self) -> str: ...
    @property
    def study_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def instance_count(self) -> int | None: ...


class Catalog:
    """The sorted series table."""

    def __init__(self, table: pa.Table) -> None:
        """Wrap a table of ``SCHEMA`` with the metadata that ``build.py`` gives it."""
        table = table.combine_chunks()
        meta = {key.decode(): value for key, value in (table.schema.metadata or {}).items()}
        columns = {name: _only_chunk(table, name) for name in SCHEMA.names}
        self.rows: int = table.num_rows
        self.total_bytes = int(meta["total_bytes"])
        self.total_instances = int(meta["total_instances"])
        self._releases: dict[int, int] = {int(k): v for k, v in json.loads(meta["releases"]).items()}
        self._values: dict[str, str] = json.loads(meta["values"])
        self._names: dict[int, _Strings] = {
            Level.COLLECTION: _Strings(columns["collection"]),
            Level.PATIENT: _Strings(columns["patient"]),
            Level.STUDY: _Strings(columns["study"]),
            Level.SERIES: _Strings(columns["series"]),
        }
        self._ends: dict[int, Any] = {
            Level.ROOT: (self.rows,),
            Level.COLLECTION: _numbers(columns["collection_end"]),
            Level.PATIENT: _numbers(columns["patient_end"]),
            Level.STUDY: _numbers(columns["study_end"]),
            Level.SERIES: range(1, self.rows + 1),
        }
        self._revised: dict[int, Any] = {
            Level.COLLECTION: _numbers(columns["collection_revised"]),
            Level.PATIENT: _numbers(columns["patient_revised"]),
            Level.STUDY: _numbers(columns["study_revised"]),
            Level.SERIES: _numbers(columns["series_revised"]),
        }
        self._instances = _numbers(columns["instances"])
        self._bytes = _numbers(columns["bytes"], "q")
        self._content = _Strings(columns["content"])
        self._transfer_syntaxes = _Strings(columns["transfer_syntaxes"])
        self._bucket = _Strings(columns["bucket"])

    @classmethod
    def open(cls, path: Path) -> Catalog:
        """Map the catalog file at ``path``.

        :raises Damaged: if it is not a whole catalog file of this format.
        """
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            found = int((table.schema.metadata or {}).get(b"format", 0))
            if found != FORMAT or not table.schema.equals(SCHEMA):
                raise Damaged(f"{path} is a catalog of another format")
            return cls(table)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{path} is not a whole catalog file ({error})") from error

    def end(self, level: int, row: int) -> int:
        """Row after the last series below the directory at (level, row)."""
        end: int = self._ends[level][row]
        return end

    def name(self, level: int, row: int) -> bytes:
        """Path component of the directory at (level, row)."""
        return self._names[level][row]

    def find(self, level: int, row: int, name: bytes) -> int | None:
        """Row of the child called ``name`` of the directory at (level, row), if there is one."""
        end = self.end(level, row)
        names = self._names[level + 1]
        child = bisect_left(names, name, row, end)
        return child if child < end and names[child] == name else None

    def children(self, level: int, row: int, start: int) -> Iterator[tuple[bytes, int, int]]:
        """(name, row, end) of each child of the directory at (level, row), from row ``start`` on.

        ``end`` is where the next child starts, so it serves as ``start`` to go on from there.
        """
        end = self.end(level, row)
        names, ends = self._names[level + 1], self._ends[level + 1]
        child = max(start, row)
        while child < end:
            after = ends[child]
            if after <= child:
                raise Damaged(f"the catalog is damaged at row {child}: remove it from the cache directory")
            yield names[child], child, after
            child = after

    def revised_time(self, level: int, row: int) -> int:
        """When anything below (level, row) was last revised, in seconds since the epoch: the date of that IDC release.

        Release 0 stands for what the index names no known release for: a file's own date.
        """
        if level == Level.ROOT:
            return max(self._releases.values(), default=0)
        return self._releases.get(self._revised[level][row]) or self._releases.get(0, 0)

    def value(self, level: int, row: int) -> str:
        """The identifier itself (collection_id, PatientID or UID), not its path component."""
        name = self.name(level, row)
        return self._values.get(name.decode("latin-1")) or unescape(name)

    def series(self, row: int) -> Series:
        """Row ``row``, spelled out."""
        return Series(
            study_uid=self.value(Level.STUDY, row),
            series_uid=self.value(Level.SERIES, row),
            instances=_known(self._instances[row]),
            total_bytes=_known(self._bytes[row]),
            content=self._content[row].decode(),
            transfer_syntaxes=_split(self._transfer_syntaxes[row]),
            bucket=self._bucket[row].decode(),
        )


def unsearched_table(collection: str) -> pa.Table:
    """The table of one collection of which nothing else is known.

    It is what ``build.py`` makes of one series without a name or an instance, at a fraction of the cost: every mount
    that searches its archive starts with it, and here neither numpy nor pyarrow.compute is loaded.
    """
    name = escape(collection, hidden=False)
    row: dict[str, bytes | int] = {
        "collection": name,
        **dict.fromkeys(("patient", "study", "series"), escape("")),
        **dict.fromkeys(("collection_end", "patient_end", "study_end"), 1),
        **dict.fromkeys(("collection_revised", "patient_revised", "study_revised", "series_revised"), 0),
        "instances": 0,
        "bytes": UNKNOWN,
        "content": b"",
        "transfer_syntaxes": b"",
        "bucket": b"",
    }
    values = {name.decode("latin-1"): collection} if is_shortened(name) else {}
    return pa.Table.from_pylist([row], schema=SCHEMA.with_metadata(metadata(0, 0, {}, values)))


def metadata(
    total_bytes: int, total_instances: int, releases: dict[int, int], values: dict[str, str]
) -> dict[str, str]:
    """What a table of ``SCHEMA`` says beside its rows.

    :param releases: time of each IDC release, in seconds since the epoch.
    :param values: the value behind each shortened name, whose bytes stand as Latin-1.
    """
    return {
        "format": str(FORMAT),
        "total_bytes": str(total_bytes),
        "total_instances": str(total_instances),
        "releases": json.dumps(releases),
        "values": json.dumps(values),
    }


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else writes or clears catalogs in ``directory`` meanwhile. The lock's file stays: it is what all share."""
    with (directory / "catalog.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_whole(path: Path) -> bool:
    """Whether a catalog file of this format is at ``path``."""
    try:
        Catalog.open(path)
    except Damaged:
        return False
    return True


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

    def __len__(self) -> int:
        return len(self._codes if self._codes is not None else self._offsets)


def _only_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _numbers(array: pa.Array, code: Literal["i", "q"] = "i") -> memoryview:
    data = array.buffers()[1]
    return memoryview(data).cast("b").cast(code) if data is not None and len(array) else memoryview(b"")


def _known(number: int) -> int | None:
    return None if number == UNKNOWN else number


@lru_cache(maxsize=1024)
def _split(transfer_syntaxes: bytes) -> frozenset[str]:
    return frozenset(filter(None, (uid.strip() for uid in transfer_syntaxes.decode().split(","))))

"""The plain values the twin serves, and what a place that holds them must be able to answer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, slots=True)
class Series:
    """One series, as much of it as a row of idc-index tells."""

    patient_id: str
    study_uid: str
    series_uid: str
    modality: str
    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    """As listed in idc-index; several when the series is mixed."""
    instance_count: int
    size_bytes: int
    """Sum of the sizes of all its files, in bytes."""
    study_date: str = ""
    """YYYYMMDD, or empty."""
    description: str = ""
    collection_id: str = ""
    aws_bucket: str = "idc-open-data"
    crdc_series_uuid: str = ""


class Source(Protocol):
    """Where the bytes of one instance come from."""

    def chunks(self, start: int, stop: int, chunk_bytes: int) -> Iterator[bytes]:
        """The bytes [start, stop), in pieces of at most ``chunk_bytes``."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored instance: one Part-10 file of ``size_bytes``."""

    series: Series
    ordinal: int
    """Position in the series, from 0, in the order the archive stored it."""
    instance_uid: str
    sop_class_uid: str
    transfer_syntax: str
    size_bytes: int
    number: int
    """InstanceNumber."""
    rows: int
    columns: int
    crdc_instance_uuid: str
    source: Source


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """Exact-match filters on the series level; None lets everything through."""

    patient_id: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    modality: str | None = None
    study_date: str | None = None
    """YYYYMMDD, or a range ``from-to`` with either end open."""


class Holdings(Protocol):
    """What an archive holds."""

    def series(self, query: SeriesQuery) -> Sequence[Series]:
        """Every series that matches, in stored order."""

    def studies(self, query: SeriesQuery) -> Sequence[Series]:
        """For every (patient, study) that matches, its first series."""

    def instances(self, series: Series) -> Sequence[Instance]:
        """The instances of a series, in stored order."""

    def instance(self, series: Series, instance_uid: str) -> Instance | None:
        """One instance of a series, by its UID."""

    def stored(self, series: Series, crdc_instance_uuid: str) -> Instance | None:
        """One instance of a series, by its name in the bucket."""

    def by_uuid(self, crdc_series_uuid: str) -> Series | None:
        """The series stored under a prefix of a bucket."""


class SourceIO(io.RawIOBase):
    """A seekable file over an instance's bytes, for readers that want a file (pydicom)."""

    def __init__(self, instance: Instance) -> None:
        self._source = instance.source
        self._size = instance.size_bytes
        self._position = 0
        self.name = instance.instance_uid  # pydicom asks every buffered file for its name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        stop = min(self._size, self._position + len(buffer))
        if stop <= self._position:
            return 0
        data = b"".join(self._source.chunks(self._position, stop, len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_instance(instance: Instance) -> io.BufferedReader:
    """A buffered, seekable file over an instance's bytes."""
    return io.BufferedReader(SourceIO(instance), buffer_size=64 * 1024)


def date_matches(date: str, wanted: str) -> bool:
    """Whether a YYYYMMDD date is the wanted one, or inside the wanted range ``from-to``."""
    if "-" not in wanted:
        return date == wanted
    first, _, last = wanted.partition("-")
    return bool(date) and (not first or first <= date) and (not last or date <= last)

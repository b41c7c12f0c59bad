"""What an open file is: an instance being read, or content made at opening. Here the namespace's listing of a series
and the content wing's view of it meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .content.instance import Instance
from .content.prefetch import Prefetcher
from .content.reader import Reader
from .errors import WrongSize
from .namespace.listing import Listing, Listings


class File(Protocol):
    """What a handle stands for."""

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length), fewer only at its end."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Content that was made when the file was opened."""

    content: bytes
    closed: Callable[[], None] = lambda: None

    async def read(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]

    def close(self) -> None:
        self.closed()


@dataclass(frozen=True, slots=True)
class SeriesContent:
    """The instances of a listing as the content wing sees them: ``content.instance.Siblings``."""

    row: int
    listing: Listing
    listings: Listings

    @property
    def series(self) -> int:
        """Row of the catalog."""
        return self.row

    def __len__(self) -> int:
        return len(self.listing)

    def instance(self, ordinal: int) -> Instance:
        """The instance as it is to be fetched.

        :raises Damaged: if the archive gave no valid UID for it.
        """
        series = self.listing.series
        return Instance(
            content=self.listing.content,
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            instance_uid=self.listing.instance_uid(ordinal),
            transfer_syntaxes=series.transfer_syntaxes,
            is_fixed=bool(series.content),
            bucket=series.bucket,
            instances=series.instances,
            size=self.listing.exact_size(ordinal),
        )

    def size(self, ordinal: int) -> int:
        """Size in bytes, provisional where it is not known."""
        return self.listing.size(ordinal).size

    def exact_size(self, ordinal: int) -> int | None:
        """Size in bytes, where it is known."""
        return self.listing.exact_size(ordinal)

    def learn(self, ordinal: int, size: int) -> None:
        """Take ``size`` for exact, now and in mounts to come."""
        self.listings.remember_size(self.listing, ordinal, size)

    def doubt(self, ordinal: int) -> None:
        """The archive has another size: the next open asks it."""
        self.listings.forget_size(self.listing, ordinal)


class InstanceFile:
    """An open instance of exactly known size."""

    def __init__(self, reader: Reader, prefetcher: Prefetcher, series: SeriesContent, ordinal: int) -> None:
        """Counts as open from now on, and until ``close``; ``prepare`` has to come before the first ``read``."""
        self._reader = reader
        self._prefetcher = prefetcher
        self._series = series
        self._ordinal = ordinal
        self._instance = series.instance(ordinal)
        self._size = 0
        self._read_bytes = 0
        self._in_doubt = False  # the archive has another size; the one known stands as long as the file is open
        reader.open(self._instance)
        prefetcher.opened(series, ordinal)

    async def prepare(self) -> None:
        """Learn the exact size, from the archive if need be.

        :raises IdcfsError: if it cannot be had.
        """
        size = self._series.exact_size(self._ordinal)
        if size is None:
            size = await self._reader.size(self._instance)
            self._series.learn(self._ordinal, size)
        self._size = size

    def has_void_pages(self) -> bool:
        """Whether what the kernel keeps of it is not to be relied on.

        What an archive may have replaced is none of it: the kernel keeps pages longer than anybody knows what they
        were of.
        """
        return self._reader.was_replaced(self._instance) or not self._instance.is_fixed

    async def read(self, offset: int, length: int) -> bytes:
        try:
            data = await self._reader.read(self._instance, self._size, offset, length)
        except WrongSize:
            self._in_doubt = True
            raise
        self._read_bytes += len(data)
        return data

    def close(self) -> None:
        self._reader.close(self._instance)
        self._prefetcher.closed(self._series, self._ordinal, self._read_bytes)
        if self._in_doubt:
            self._series.doubt(self._ordinal)

"""The instances of one series: asked for once, sorted by name, kept while the mount lives or memory allows.

A listing also owns what is known of its instances' sizes. Exact are the size of a one-instance series (the index's sum
is that of the file) and of every instance that was ever opened. For the others the index gives only a sum; each shows
an equal share of what is unaccounted for, rounded up: too big beats too small for nearly every tool, and 0 is worst of
all (docs/measured.md). ``st_blocks`` comes from the unrounded share, so that ``du`` of a series is the index's sum.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import trio
from cachetools import LRUCache

from ..errors import Damaged, Gone
from ..flight import SingleFlight
from ..settings import KIB, MIB
from .catalog import Series
from .names import INSTANCE_SUFFIX, instance_name, unescape
from .nodes import MAX_ORDINAL
from .sizes import SizeStore

ROUND_BYTES = 64 * KIB
"""Provisional sizes are rounded up to this."""

UNKNOWN_BYTES = 1 * MIB
"""Provisional size where the index gives no sum."""

MAX_KEPT = 250_000
"""Instances whose names are kept in memory (about 120 bytes each); the largest series of IDC v25 has 91,980."""

_DISK_BLOCK = 512  # the unit of st_blocks, whatever st_blksize says (stat(2))

log = logging.getLogger(__name__)

Lister = Callable[[str, str, int | None], Awaitable[Sequence[str]]]
"""(study_uid, series_uid, expected number) → the SOPInstanceUIDs of a series."""


class Size(NamedTuple):
    """What ``stat`` says of an instance."""

    size: int
    """Bytes."""
    blocks: int
    """In units of 512 bytes."""
    exact: bool


class Listing:
    """The instances of one series, by ordinal in the order of their names."""

    def __init__(self, series: Series, content: str, uids: Sequence[str], sizes: dict[str, int]) -> None:
        self.series = series
        self.content = content
        self.names: list[bytes] = sorted({instance_name(uid) for uid in uids})
        self.size_is_indexed = series.total_bytes is not None and len(self.names) == series.instances == 1
        """Of a one-instance series the index's sum is the file's size."""
        self._exact: dict[int, int] = {}
        self._exact_order: list[int] = []
        self._accounted = 0
        if self.size_is_indexed and series.total_bytes is not None:
            self.learn(0, series.total_bytes)
        for uid, size in sizes.items():
            ordinal = self.find(instance_name(uid))
            if ordinal is not None and ordinal not in self._exact:
                self.learn(ordinal, size)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: bytes) -> int | None:
        """Ordinal of the instance whose file is called ``name``."""
        ordinal = bisect_left(self.names, name)
        return ordinal if ordinal < len(self.names) and self.names[ordinal] == name else None

    def instance_uid(self, ordinal: int) -> str:
        """SOPInstanceUID of an instance.

        :raises Damaged: if its name had to be shortened, which no valid UID (≤ 64 characters, PS3.5 section 9) needs.
        """
        name = self.names[ordinal]
        try:
            return unescape(name[: -len(INSTANCE_SUFFIX)])
        except ValueError:
            raise Damaged(f"{name.decode(errors='replace')}: the archive gave no valid SOPInstanceUID") from None

    def exact_size(self, ordinal: int) -> int | None:
        """The instance's size in bytes, where it is known."""
        return self._exact.get(ordinal)

    def learn(self, ordinal: int, size: int) -> None:
        """Take ``size`` for exact from now on."""
        if ordinal not in self._exact:
            insort(self._exact_order, ordinal)
        self._accounted += size - self._exact.get(ordinal, 0)
        self._exact[ordinal] = size

    def forget(self, ordinal: int) -> None:
        """Take the instance's size for unknown again."""
        if ordinal in self._exact:
            self._exact_order.remove(ordinal)
            self._accounted -= self._exact.pop(ordinal)

    def size(self, ordinal: int) -> Size:
        """Exact or provisional size of an instance."""
        exact = self._exact.get(ordinal)
        if exact is not None:
            return Size(exact, _blocks(exact), exact=True)
        if self.series.total_bytes is None:
            return Size(UNKNOWN_BYTES, _blocks(UNKNOWN_BYTES), exact=False)
        left = max(0, self.series.total_bytes - self._accounted)
        count = len(self.names) - len(self._exact)
        rounded = -(-left // (count * ROUND_BYTES)) * ROUND_BYTES
        place = ordinal - bisect_left(self._exact_order, ordinal)
        blocks = _blocks(left)
        return Size(max(ROUND_BYTES, rounded), blocks * (place + 1) // count - blocks * place // count, exact=False)


def _blocks(size: int) -> int:
    return -(-size // _DISK_BLOCK)


class Listings:
    """Every series' listing, fetched once each."""

    def __init__(self, lister: Lister, sizes: SizeStore, nursery: trio.Nursery, archive: str) -> None:
        """``archive`` names the content of series that the index gives no content UUID for."""
        self._lister = lister
        self._sizes = sizes
        self._archive = archive
        self._flights: SingleFlight[int, Listing] = SingleFlight(nursery)
        self._kept: LRUCache[int, Listing] = LRUCache(MAX_KEPT, getsizeof=lambda one: min(len(one) + 1, MAX_KEPT))
        self._seen: dict[int, int] = {}  # row → fingerprint, of every listing ever made: some 100 bytes each

    def kept(self, row: int) -> Listing | None:
        """The listing of the series at ``row``, if it is at hand."""
        return self._kept.get(row)

    async def get(self, row: int, series: Series) -> Listing:
        """The listing of the series at ``row``.

        :raises Gone: if the archive no longer has the series, or lists other instances than it did before.
        """
        kept = self._kept.get(row)
        return kept if kept is not None else await self._flights.run(row, lambda: self._fetch(row, series))

    def remember_size(self, listing: Listing, ordinal: int, size: int) -> None:
        """Take ``size`` for exact, now and in mounts to come."""
        listing.learn(ordinal, size)
        self._sizes.remember(listing.content, listing.instance_uid(ordinal), size)

    def forget_size(self, listing: Listing, ordinal: int) -> None:
        """Doubt a size: the next open asks the archive.

        The sum of an index that names the content is beyond doubt; that of any other index may have been rounded.
        """
        if listing.size_is_indexed and listing.series.content:
            return
        listing.forget(ordinal)
        self._sizes.forget(listing.content, listing.instance_uid(ordinal))

    async def _fetch(self, row: int, series: Series) -> Listing:
        uids = await self._lister(series.study_uid, series.series_uid, series.instances)
        where = f"series {series.series_uid} of study {series.study_uid}"
        if not uids and series.instances:
            raise Gone(f"{where}: the index lists {series.instances} instances, the archive has none of them")
        content = series.content or f"{self._archive}/{series.study_uid}/{series.series_uid}"
        listing = Listing(series, content, uids, await self._sizes.load(content))
        if series.instances is not None and len(listing) != series.instances:
            log.warning("%s: the index lists %d instances, the archive %d", where, series.instances, len(listing))
        if len(listing) > MAX_ORDINAL:
            raise Damaged(f"{where}: {len(listing)} instances are more than inode numbers have room for")
        self._check_same(row, listing, where)
        self._kept[row] = listing
        return listing

    def _check_same(self, row: int, listing: Listing, where: str) -> None:
        """An inode number holds an ordinal: after a change it would name another instance, so a change is an error."""
        now = hash(tuple(listing.names))
        if self._seen.setdefault(row, now) != now:
            raise Gone(f"{where}: the archive now lists other instances than before: mount again to see them")

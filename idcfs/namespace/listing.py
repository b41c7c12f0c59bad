"""The instances of one series: asked for once, sorted by name, kept while the mount lives or memory allows.

What the archive lists is kept on disk too (``store.py``). Where the index gives a content UUID, which names what never
changes, it is used from there without a request if it is as many as the index says. Else each mount asks once, since
an archive may get other instances, as many as before; and what is kept serves while the archive cannot be asked.

A listing also owns what is known of its instances' sizes. Exact are the size of a one-instance series (the index's sum
is that of the file) and of every instance that was ever opened. For the others the index gives only a sum; each shows
an equal share of what is unaccounted for, rounded up: too big beats too small for nearly every tool, and 0 is worst of
all (docs/measured.md). ``st_blocks`` comes from the unrounded share, so that ``du`` of a series is the index's sum.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import trio
from cachetools import LRUCache

from ..errors import Damaged, DeadlinePassed, Gone, IdcfsError, NotFound, QuotaSpent, Unreachable
from ..flight import SingleFlight
from ..settings import KIB, MAX_INSTANCE_BYTES, MIB
from ..stats import Stats
from .catalog import Series
from .names import INSTANCE_SUFFIX, instance_name, is_shortened, unescape
from .nodes import MAX_ORDINAL
from .store import Kept, SeriesStore

ROUND_BYTES = 64 * KIB
"""Provisional sizes are rounded up to this."""

UNKNOWN_BYTES = 1 * MIB
"""Provisional size where the index gives no sum."""

MAX_KEPT = 250_000
"""Instances whose names are kept in memory (about 120 bytes each); the largest series of IDC v25 has 91,980."""

log = logging.getLogger(__name__)


class ArchiveList(Protocol):
    """What an archive says of a series."""

    @property
    def uids(self) -> Sequence[str]:
        """SOPInstanceUIDs."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Exact sizes in bytes by SOPInstanceUID, of as many as it tells."""


Lister = Callable[[Series], Awaitable[ArchiveList]]


class Size(NamedTuple):
    """What ``stat`` says of an instance."""

    size: int
    """Bytes."""
    blocks: int
    """In units of 512 bytes."""
    exact: bool


class Listing:
    """The instances of one series, by ordinal in the order of their names."""

    def __init__(self, series: Series, content: str, uids: Collection[str], sizes: dict[str, int]) -> None:
        self.series = series
        self.content = content
        self.names: list[bytes] = sorted({instance_name(uid) for uid in uids})
        total = series.total_bytes
        is_one = len(self.names) == series.instances == 1
        self.size_is_indexed = is_one and total is not None and total <= MAX_INSTANCE_BYTES
        """Of a one-instance series the index's sum is the file's size."""
        known = ((self.find(instance_name(uid)), size) for uid, size in sizes.items() if size <= MAX_INSTANCE_BYTES)
        self._exact = {ordinal: size for ordinal, size in known if ordinal is not None}
        if self.size_is_indexed and total is not None:
            self._exact[0] = total
        self._exact_order = sorted(self._exact)
        self._accounted = sum(self._exact.values())
        self._fresh: set[int] = set()
        """Ordinals of exact sizes that were learnt since and not yet announced."""

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: bytes) -> int | None:
        """Ordinal of the instance whose file is called ``name``."""
        ordinal = bisect_left(self.names, name)
        return ordinal if ordinal < len(self.names) and self.names[ordinal] == name else None

    def checked(self, ordinal: int) -> int:
        """``ordinal``, which came in an inode number.

        :raises NotFound: if no instance has it.
        """
        if ordinal >= len(self.names):
            raise NotFound(f"series {self.series.series_uid} has no instance number {ordinal}")
        return ordinal

    def instance_uid(self, ordinal: int) -> str:
        """SOPInstanceUID of an instance.

        :raises Damaged: if its name had to be shortened, which no valid UID (≤ 64 characters, PS3.5 section 9) needs.
        """
        name = self.names[ordinal]
        try:
            return unescape(name[: -len(INSTANCE_SUFFIX)])
        except ValueError:
            raise Damaged(f"{name.decode(errors='replace')}: the archive gave no valid SOPInstanceUID") from None

    def has_uid(self, ordinal: int) -> bool:
        """Whether ``instance_uid`` knows that of an instance."""
        return not is_shortened(self.names[ordinal])

    def exact_size(self, ordinal: int) -> int | None:
        """The instance's size in bytes, where it is known."""
        return self._exact.get(ordinal)

    @property
    def is_of_another_size(self) -> bool:
        """Whether every size is known, of as many instances as the index says, and they do not add up to its sum."""
        is_all_known = len(self._exact) == len(self.names) == self.series.instances
        return is_all_known and self.series.total_bytes not in (None, self._accounted)

    def learn(self, ordinal: int, size: int) -> None:
        """Take ``size`` for exact from now on; news to be announced, unless it was known."""
        if self._exact.get(ordinal) == size:
            return
        if ordinal not in self._exact:
            insort(self._exact_order, ordinal)
        self._accounted += size - self._exact.get(ordinal, 0)
        self._exact[ordinal] = size
        self._fresh.add(ordinal)

    def learnt(self) -> tuple[list[str], dict[str, int]]:
        """Its SOPInstanceUIDs, and the exact sizes in bytes that the index does not tell.

        :raises Damaged: as ``instance_uid`` does.
        """
        exact = {} if self.size_is_indexed else dict(self._exact)  # a copy: it may grow while a thread is in here
        uids = [self.instance_uid(ordinal) for ordinal in range(len(self))]
        return uids, {uids[ordinal]: size for ordinal, size in exact.items()}

    def announce(self, ordinal: int) -> bool:
        """Whether an instance's exact size is news, to be told once: the kernel may hold a provisional one."""
        if ordinal not in self._fresh:
            return False
        self._fresh.remove(ordinal)
        return True

    def announce_again(self) -> None:
        """Take every exact size for news: an earlier listing of the series may have given provisional ones."""
        self._fresh.update(self._exact)

    def forget(self, ordinal: int) -> None:
        """Take the instance's size for unknown again."""
        if ordinal in self._exact:
            self._exact_order.remove(ordinal)
            self._accounted -= self._exact.pop(ordinal)

    def size(self, ordinal: int) -> Size:
        """Exact or provisional size of an instance."""
        exact = self._exact.get(ordinal)
        if exact is not None:
            return Size(exact, stat_blocks(exact), exact=True)
        if self.series.total_bytes is None:
            return Size(UNKNOWN_BYTES, stat_blocks(UNKNOWN_BYTES), exact=False)
        left = max(0, self.series.total_bytes - self._accounted)
        count = len(self.names) - len(self._exact)
        rounded = -(-left // (count * ROUND_BYTES)) * ROUND_BYTES
        place = ordinal - bisect_left(self._exact_order, ordinal)
        blocks = stat_blocks(left)
        return Size(max(ROUND_BYTES, rounded), blocks * (place + 1) // count - blocks * place // count, exact=False)


def stat_blocks(size: int) -> int:
    """``st_blocks`` of a file of ``size`` bytes: in units of 512, whatever ``st_blksize`` says (stat(2))."""
    return -(-size // 512)


class Listings:
    """Every series' listing, fetched once each."""

    def __init__(
        self,
        lister: Lister,
        store: SeriesStore,
        nursery: trio.Nursery,
        archive: str,
        stats: Stats,
        *,
        wants_sizes: bool = False,
        offline: bool = False,
    ) -> None:
        """
        :param archive: names the content of series that the index gives no content UUID for.
        :param wants_sizes: a kept list will not do as long as sizes are missing that the archive may tell.
        :param offline: nobody expects the archive to be asked, so that it cannot be is no reason to warn.
        """
        self._lister = lister
        self._store = store
        self._archive = archive
        self._stats = stats
        self._wants_sizes = wants_sizes
        self._offline = offline
        self._losses = store.losses  # after how many of them what is in memory has been written again
        self._writing_again = trio.Lock()
        self._drifted: set[str] = set()  # contents that are not what the index says
        self._told: set[int] = set()  # rows whose kept list was used because the archive was away
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

    async def at_hand(self, row: int, series: Series) -> Listing | None:
        """The same, if no request is needed for it."""
        if row not in self._kept:
            kept = await self._store.load(self.content_of(series))
            if kept.uids is None or not self._may_trust(row, series, kept.uids, kept.sizes):
                return None
        return await self.get(row, series)

    def content_of(self, series: Series) -> str:
        """What names the content of ``series``, in caches that outlive mounts; ends in its UID if not by the index."""
        return series.content or f"{self._archive}/{series.study_uid}/{series.series_uid}"

    def remember_size(self, listing: Listing, ordinal: int, size: int) -> None:
        """Take ``size`` for exact, now and in mounts to come."""
        if listing.exact_size(ordinal) == size:
            return
        listing.learn(ordinal, size)
        self._store.remember_size(listing.content, listing.instance_uid(ordinal), size)
        self._note_size(listing)

    def learn_sizes(self, content: str, sizes: Mapping[str, int]) -> None:
        """Take ``sizes``, in bytes by SOPInstanceUID, for exact in whatever shows ``content`` and has none yet.

        What is known already was proven by an answer, and its contents may be kept: another size is of other contents.
        """
        for listing in [listing for listing in self._kept.values() if listing.content == content]:
            known = {uid: listing.find(instance_name(uid)) for uid in sizes}
            for uid, ordinal in known.items():
                if ordinal is not None and listing.exact_size(ordinal) is None:
                    self.remember_size(listing, ordinal, sizes[uid])
            self._tell_of_other_sizes(listing, sizes)

    def rows_listing(self, instance_uid: str) -> list[int]:
        """The series whose lists are at hand and have that instance."""
        name = instance_name(instance_uid)
        return [row for row, listing in self._kept.items() if listing.find(name) is not None]

    async def contents_listing(self, instance_uid: str) -> list[str]:
        """The contents whose lists have that instance, of those on disk."""
        return await self._store.contents_listing(instance_uid)

    def forget_size(self, listing: Listing, ordinal: int) -> None:
        """Doubt a size: the next open asks the archive.

        The sum of an index that names the content is beyond doubt; that of any other index may have been rounded.
        """
        if listing.size_is_indexed and listing.series.content:
            return
        listing.forget(ordinal)
        self._store.forget_size(listing.content, listing.instance_uid(ordinal))

    async def sync(self) -> bool:
        """Return when what has been learnt by now is on disk; whether it can be."""
        await self._store.look()
        await self._write_again()
        return await self._store.sync()

    async def _write_again(self) -> None:
        """Have the store keep what is in memory, if it has lost what it was given before."""
        async with self._writing_again:
            if (losses := self._store.losses) == self._losses:
                return
            for listing in list(self._kept.values()):
                with suppress(Damaged):  # a name that is no UID: such a list is asked for again
                    uids, sizes = await trio.to_thread.run_sync(listing.learnt)
                    self._store.remember_list(listing.content, uids)
                    for uid, size in sizes.items():
                        self._store.remember_size(listing.content, uid, size)
            self._losses = losses

    async def _fetch(self, row: int, series: Series) -> Listing:
        where = f"series {series.series_uid} of study {series.study_uid}"
        content = self.content_of(series)
        kept = await self._store.load(content)
        await self._write_again()
        uids, sizes, told = kept.uids, kept.sizes, dict[str, int]()
        if uids is None or not self._may_trust(row, series, uids, sizes):
            uids, told = await self._ask(row, series, content, kept, where)
            sizes = told | sizes  # what is known was proven: see ``learn_sizes``
        if len(uids) > MAX_ORDINAL:
            raise Damaged(f"{where}: {len(uids)} instances are more than inode numbers have room for")
        # In a thread: 91,980 names take 0.4 s, which must not hold up everything else.
        listing = await trio.to_thread.run_sync(Listing, series, content, uids, sizes)
        self._note_size(listing)
        self._tell_of_other_sizes(listing, told)
        if row in self._seen:
            listing.announce_again()
        self._check_same(row, listing, where)
        self._kept[row] = listing
        return listing

    def _may_trust(self, row: int, series: Series, kept: tuple[str, ...], sizes: dict[str, int]) -> bool:
        """Whether a kept list needs no asking: its content never changes, or this mount has shown the series before."""
        if (
            self._wants_sizes
            and series.content
            and series.bucket
            and series.instances != 1
            and any(uid not in sizes for uid in kept)
        ):
            return False
        return len(kept) == series.instances and (bool(series.content) or row in self._seen)

    async def _ask(
        self, row: int, series: Series, content: str, known: Kept, where: str
    ) -> tuple[tuple[str, ...], dict[str, int]]:
        """The archive's list, each instance once, and the sizes it tells; while it is away, the list it gave last."""
        kept = known.uids
        try:
            listed = await self._lister(series)
        except (Unreachable, DeadlinePassed, QuotaSpent) as error:
            if kept is None or (series.instances and not kept):
                raise
            self._tell_away(row, f"{where}: shown are the {len(kept)} instances listed earlier", error)
            return kept, {}
        uids = tuple(dict.fromkeys(listed.uids))
        if not uids and series.instances:
            raise Gone(f"{where}: the index lists {series.instances} instances, the archive has none of them")
        if series.instances is not None and len(uids) != series.instances:
            self._note_drift(content, f"{where}: the index lists {series.instances} instances, the archive {len(uids)}")
        if kept is None or set(kept) != set(uids):
            self._store.remember_list(content, uids)
        for uid in listed.sizes.keys() - known.sizes.keys():
            self._store.remember_size(content, uid, listed.sizes[uid])
        return uids, dict(listed.sizes)

    def _note_size(self, listing: Listing) -> None:
        if listing.is_of_another_size:
            of = f"series {listing.series.series_uid}: its instances are not of the {listing.series.total_bytes} bytes"
            self._note_drift(listing.content, f"{of} in all that the index gives: it may be of another release")

    def _tell_of_other_sizes(self, listing: Listing, told: Mapping[str, int]) -> None:
        """That instances are of other sizes in another place than they were proven to be."""
        found = ((uid, listing.find(instance_name(uid))) for uid in told)
        known = {uid: listing.exact_size(ordinal) for uid, ordinal in found if ordinal is not None}
        others = [uid for uid, size in known.items() if size != told[uid]]
        if others:
            one = f"instance {others[0]} is of {known[others[0]]} bytes, and listed with {told[others[0]]}"
            log.warning("series %s: %s; %d others so", listing.series.series_uid, one, len(others) - 1)

    def _note_drift(self, content: str, message: str) -> None:
        """Once for each series: that it is not what the index says."""
        if content not in self._drifted:
            self._drifted.add(content)
            self._stats.count("series_drifted")
            log.warning("%s", message)

    def _tell_away(self, row: int, message: str, error: IdcfsError) -> None:
        """Once per series: that it is shown as it was, since the archive is away."""
        if row not in self._told:
            loudness, why = (logging.INFO, "offline") if self._offline else (logging.WARNING, error)
            log.log(loudness, "%s (%s)", message, why)
        self._told.add(row)

    def _check_same(self, row: int, listing: Listing, where: str) -> None:
        """An inode number holds an ordinal: after a change it would name another instance, so a change is an error."""
        now = hash(tuple(listing.names))
        if self._seen.setdefault(row, now) != now:
            raise Gone(f"{where}: the archive now lists other instances than before: mount again to see them")

"""Bytes [offset, end) of an instance: from the block cache, else from a running download, else from a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio
from cachetools import LRUCache

from ..errors import Replaced, WrongSize
from ..settings import BLOCK_BYTES, ContentSettings
from ..stats import Detail, Stats
from .amounts import affordable_ahead
from .blocks import Key, Slice, block_count, slices
from .downloads import Downloads
from .fetching import Means
from .instance import Instance, Source
from .places import Agreed
from .slots import Slots
from .tiers import Tiers

_PLACED = 10_000
"""Instances of which it is remembered, for some 1,000 bytes each, where they are the same and how they begin."""


class Wish:
    """To have an instance fetched before anyone asks; it counts as one reader more until it is given up."""

    def __init__(self, reader: Reader, instance: Instance) -> None:
        self.instance = instance
        self.given_up = False
        self.downloads = reader.open(instance)
        self._reader = reader

    def give_up(self) -> None:
        """It need not be fetched any more, unless somebody reads it."""
        if not self.given_up:
            self.given_up = True
            self._reader.close(self.instance)


class Reader:
    """Reads instances; knows which are open or being fetched."""

    def __init__(
        self, source: Source, tiers: Tiers, settings: ContentSettings, nursery: trio.Nursery, stats: Stats
    ) -> None:
        self._tiers = tiers
        affordable = affordable_ahead(tiers.capacity, settings.max_downloads)
        self._settings = replace(settings, read_ahead_bytes=min(settings.read_ahead_bytes, affordable))
        self._nursery = nursery
        self._stats = stats
        self._slots = Slots(settings.max_downloads)
        self._replaced: set[Key] = set()
        self._agreed: LRUCache[Key, Agreed] = LRUCache(_PLACED)
        self._means = Means(
            source, tiers, self._settings, self._slots, self._agreed_of, self._replaced.add, nursery, stats
        )
        self._downloads: dict[Key, Downloads] = {}
        tiers.tell_of_replaced(self._void)
        stats.gauge("files_in_use", lambda: len(self._downloads))
        stats.gauge("running_downloads", lambda: sum(len(one.running) for one in self._downloads.values()))
        stats.detail("downloads", self._under_way)

    def open(self, instance: Instance) -> Downloads:
        """One reader more."""
        downloads = self._downloads.get(instance.key)
        if downloads is None:
            downloads = self._downloads[instance.key] = Downloads(instance, self._means, self._forget)
        downloads.open()
        return downloads

    def close(self, instance: Instance) -> None:
        """One reader less; after the last, its downloads stop, nearly at once."""
        self._downloads[instance.key].close()

    def _under_way(self) -> list[Detail]:
        """The downloads that have a slot, so never more than there are of these; ``size`` is what each is to bring."""
        return [
            {
                "uid": downloads.instance.instance_uid,
                "start": one.start,
                "got": one.position - one.start,
                "size": None if (end := one.known_size if one.stop is None else one.stop) is None else end - one.start,
            }
            for downloads in self._downloads.values()
            for one in downloads.running
            if one.has_slot
        ]

    def was_replaced(self, instance: Instance) -> bool:
        """Whether other bytes have come than before, since this was asked last: what others keep of it is void."""
        if instance.key not in self._replaced:
            return False
        self._replaced.remove(instance.key)
        return True

    def _agreed_of(self, key: Key) -> Agreed:
        return self._agreed.setdefault(key, Agreed())

    def _void(self, key: Key) -> None:
        """Another mount has dropped an instance and keeps other bytes of it: nothing that is known of it is left."""
        if (downloads := self._downloads.get(key)) is not None:
            downloads.contradict(Replaced(f"{downloads.instance}: another mount has found other bytes of it"))
        else:
            self._replaced.add(key)
            self._tiers.drop(key)

    def _forget(self, downloads: Downloads) -> None:
        if self._downloads.get(downloads.instance.key) is downloads:
            del self._downloads[downloads.instance.key]

    async def size(self, instance: Instance) -> int:
        """Exact size of ``instance`` in bytes, proven by the archive's answer.

        :raises IdcfsError: if it cannot be had.
        """
        downloads = self.open(instance)
        try:
            await self._tiers.load(instance.key)
            return await downloads.prove_size()
        finally:
            downloads.close()

    async def read(self, instance: Instance, size: int, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length) of ``instance``, fewer only at its end; ``size`` is its exact size.

        :raises IdcfsError: if they cannot be had; never fewer bytes instead.
        """
        end = min(offset + length, size)
        if end <= offset:
            return b""
        downloads = self.open(instance)
        try:
            await downloads.expect(size, offset, end)
            data = b"".join([await self._piece(downloads, size, one, end) for one in slices(offset, end)])
            downloads.check()
            return data
        except WrongSize as error:
            downloads.contradict(error)
            raise
        finally:
            downloads.close()

    async def fetch_ahead(self, wish: Wish, size: int | None, learn: Callable[[int], None]) -> None:
        """Fetch all of an instance into the cache, giving way to who reads; or less, if the wish is given up.

        :param size: the exact size in bytes, if known.
        :param learn: told the exact size, before anybody could ask for it in vain.
        :raises IdcfsError: if it cannot be had, or the download was stopped.
        """
        key, downloads = wish.instance.key, wish.downloads
        await self._tiers.load(key)
        size = size if downloads.size is None else downloads.size
        block = 0 if size is None else self._first_missing(key, size, 0)
        if size is not None:
            learn(size)
        while block is not None and not wish.given_up:
            size, fetched = await downloads.fetch(size, block)
            learn(size)
            block = self._first_missing(key, size, fetched)  # what has gone again is not worth it

    async def sync(self) -> None:
        """Return when what has arrived by now is on disk, or cannot be."""
        await self._tiers.sync()

    async def look_up(self, instance: Instance) -> None:
        """Learn what the disk keeps of an instance: whoever asks next need not wait for that."""
        await self._tiers.load(instance.key)

    async def has_all(self, instance: Instance, size: int) -> bool:
        """Whether all of an instance of ``size`` bytes seems to be kept."""
        await self._tiers.load(instance.key)
        return self._first_missing(instance.key, size, 0) is None

    async def cached_bytes(self, instance: Instance, size: int) -> int:
        """How many bytes of an instance of ``size`` bytes seem to be kept, in memory or on disk."""
        await self._tiers.load(instance.key)
        kept = (part for part in slices(0, size) if self._tiers.has(instance.key, part.block))
        return sum(part.stop - part.start for part in kept)

    async def read_first(self, instance: Instance) -> None:
        """Have the beginning of an instance in memory that ``has_all`` has found on disk."""
        await self._tiers.read_first(instance.key)

    def is_fetching(self, instance: Instance) -> bool:
        """Whether a download of it is running."""
        downloads = self._downloads.get(instance.key)
        return downloads is not None and bool(downloads.running)

    async def _piece(self, downloads: Downloads, size: int, wanted: Slice, end: int) -> bytes:
        """Bytes of one block, by who reads up to byte ``end``."""
        if (found := self._at_hand(downloads, size, wanted)) is not None:
            self._stats.count("hits")
            return found
        self._stats.count("misses")
        await self._tiers.load(downloads.instance.key)
        while True:
            if (found := await self._kept(downloads, size, wanted)) is not None:
                return found
            if (download := await downloads.serve(size, wanted, end)) is not None:
                return await download.wait(wanted)

    def _at_hand(self, downloads: Downloads, size: int, wanted: Slice) -> bytes | None:
        """What needs no waiting: bytes in memory, or in a block that is arriving."""
        block = self._tiers.in_memory(downloads.instance.key, wanted.block)
        if block is not None:
            return self._part(downloads.instance, size, wanted, block)
        return downloads.get(size, wanted)

    async def _kept(self, downloads: Downloads, size: int, wanted: Slice) -> bytes | None:
        """Bytes that are at hand, or on disk."""
        if (found := self._at_hand(downloads, size, wanted)) is not None:
            return found
        key = downloads.instance.key
        block = await self._tiers.get(key, wanted.block)
        if block is not None:
            self._read_on(key, wanted.block)
            return self._part(downloads.instance, size, wanted, block)
        return self._at_hand(downloads, size, wanted)  # it may have arrived while the disk was asked

    def _read_on(self, key: Key, block: int) -> None:
        """Somebody reads from disk; in order, it seems, if the block before is at hand."""
        if block == 0 or self._tiers.in_memory(key, block - 1) is not None:
            for following in self._tiers.next_on_disk(key, block):
                self._nursery.start_soon(self._tiers.read_ahead, key, following)

    @staticmethod
    def _part(instance: Instance, size: int, wanted: Slice, block: bytes) -> bytes:
        if len(block) != min(BLOCK_BYTES, size - wanted.block * BLOCK_BYTES):
            raise WrongSize(f"{instance}: the archive has not the {size} bytes expected")
        return block[wanted.start : wanted.stop]

    def _first_missing(self, key: Key, size: int, start: int) -> int | None:
        blocks = range(start, block_count(size))
        return next((block for block in blocks if not self._tiers.has(key, block)), None)

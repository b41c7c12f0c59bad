"""Bytes [offset, end) of an instance: from the block cache, else from its one running download, else from a new one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from ..errors import WrongSize
from ..settings import BLOCK_BYTES, ContentSettings
from ..stats import Stats
from .blocks import Key, Slice, slices
from .download import Download
from .instance import Instance, Source
from .slots import Slots
from .tiers import Tiers


class Wish:
    """To have an instance fetched before anyone asks; it counts as one reader more until it is given up."""

    def __init__(self, reader: Reader, instance: Instance) -> None:
        self.instance = instance
        self.given_up = False
        self._reader = reader
        reader.open(instance)

    def give_up(self) -> None:
        """It need not be fetched any more, unless somebody reads it."""
        if not self.given_up:
            self.given_up = True
            self._reader.close(self.instance)


class Reader:
    """Reads instances; owns the running downloads and the count of who has what open."""

    def __init__(
        self, source: Source, tiers: Tiers, settings: ContentSettings, nursery: trio.Nursery, stats: Stats
    ) -> None:
        self._source = source
        self._tiers = tiers
        self._settings = replace(settings, read_ahead_bytes=_affordable_read_ahead(settings, tiers.capacity))
        self._nursery = nursery
        self._stats = stats
        self._running: dict[Key, Download] = {}
        self._opened: Counter[Key] = Counter()
        self._sizes: dict[Key, int] = {}  # proven by downloads that ended while the instance was open
        self._lingering: dict[Key, trio.CancelScope] = {}
        self._slots = Slots(settings.max_downloads)
        stats.gauge("running_downloads", lambda: len(self._running))

    def open(self, instance: Instance) -> None:
        """One reader more."""
        self._opened[instance.key] += 1
        if (lingering := self._lingering.pop(instance.key, None)) is not None:
            lingering.cancel()

    def close(self, instance: Instance) -> None:
        """One reader less; after the last, the download stops: see ``_leave``."""
        key = instance.key
        self._opened[key] -= 1
        if self._opened[key] > 0:
            return
        del self._opened[key]
        self._sizes.pop(key, None)
        if key in self._running:
            self._leave(key, self._running[key])

    async def size(self, instance: Instance) -> int:
        """Exact size of ``instance`` in bytes, proven by the archive's answer.

        :raises IdcfsError: if it cannot be had.
        """
        self.open(instance)
        try:
            await self._tiers.load(instance.key)
            if instance.key in self._sizes:
                return self._sizes[instance.key]
            while (download := self._download(instance, None, 0)).retiring:
                await self._end(download)
            self._hurry(download)
            return await download.size()
        finally:
            self.close(instance)

    async def read(self, instance: Instance, size: int, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length) of ``instance``, fewer only at its end; ``size`` is its exact size.

        :raises IdcfsError: if they cannot be had; never fewer bytes instead.
        """
        end = min(offset + length, size)
        if end <= offset:
            return b""
        self.open(instance)
        try:
            if instance.key in self._running:
                self._running[instance.key].want(end)
            return b"".join([await self._piece(instance, size, one) for one in slices(offset, end)])
        finally:
            self.close(instance)

    async def fetch_ahead(self, wish: Wish, size: int | None, learn: Callable[[int], None]) -> None:
        """Fetch all of an instance into the cache, giving way to who reads; or less, if the wish is given up.

        :param size: the exact size in bytes, if known.
        :param learn: told the exact size, before anybody could ask for it in vain.
        :raises IdcfsError: if it cannot be had, or the download was stopped.
        """
        instance = wish.instance
        await self._tiers.load(instance.key)
        size = self._sizes.get(instance.key, size)
        block = 0 if size is None else self._first_missing(instance.key, size, 0)
        if size is not None:
            learn(size)
        while block is not None and not wish.given_up:
            size = await self._fetch_whole(instance, size, block)
            learn(size)
            block = self._first_missing(instance.key, size, block + 1)  # what has gone again is not worth it

    async def _fetch_whole(self, instance: Instance, size: int | None, block: int) -> int:
        """Fetch what is missing from ``block`` on, in this task unless it is being fetched; the exact size."""
        download = self._running.get(instance.key)
        if download is None or download.closed:
            download = self._new_download(instance, size, block)
            download.want_all()
            await self._run(instance.key, download)
        return await download.whole()

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

    async def read_first(self, instance: Instance) -> None:
        """Have the beginning of an instance in memory that ``has_all`` has found on disk."""
        await self._tiers.read_first(instance.key)

    def is_fetching(self, instance: Instance) -> bool:
        """Whether a download of it is running."""
        return instance.key in self._running

    async def _piece(self, instance: Instance, size: int, wanted: Slice) -> bytes:
        """Bytes of one block."""
        if (found := self._at_hand(instance, size, wanted)) is not None:
            self._stats.count("hits")
            return found
        self._stats.count("misses")
        await self._tiers.load(instance.key)
        while True:
            if (found := await self._kept(instance, size, wanted)) is not None:
                return found
            download = self._download(instance, size, wanted.block)
            if download.serves(wanted):
                self._hurry(download)
                return await download.wait(wanted)
            await self._end(download)

    def _at_hand(self, instance: Instance, size: int, wanted: Slice) -> bytes | None:
        """What needs no waiting: bytes in memory, or in the block that is arriving."""
        block = self._tiers.in_memory(instance.key, wanted.block)
        if block is not None:
            return self._part(instance, size, wanted, block)
        download = self._running.get(instance.key)
        if download is None:
            return None
        if download.known_size not in (None, size):
            raise WrongSize(f"{instance}: the archive has {download.known_size} bytes, not the {size} expected")
        return download.get(wanted)

    async def _kept(self, instance: Instance, size: int, wanted: Slice) -> bytes | None:
        """Bytes that are at hand, or on disk."""
        if (found := self._at_hand(instance, size, wanted)) is not None:
            return found
        block = await self._tiers.get(instance.key, wanted.block)
        if block is not None:
            self._read_on(instance.key, wanted.block)
            return self._part(instance, size, wanted, block)
        return self._at_hand(instance, size, wanted)  # it may have arrived while the disk was asked

    def _read_on(self, key: Key, block: int) -> None:
        """Somebody reads from disk; in order, it seems, if the block before is at hand."""
        if block == 0 or self._tiers.in_memory(key, block - 1) is not None:
            for following in self._tiers.next_on_disk(key, block):
                self._nursery.start_soon(self._tiers.read_ahead, key, following)

    def _part(self, instance: Instance, size: int, wanted: Slice, block: bytes) -> bytes:
        if len(block) != min(BLOCK_BYTES, size - wanted.block * BLOCK_BYTES):
            self._tiers.drop(instance.key)  # of the size and the block one is wrong: both are asked for again
            raise WrongSize(f"{instance}: the archive has not the {size} bytes expected")
        return block[wanted.start : wanted.stop]

    def _first_missing(self, key: Key, size: int, start: int) -> int | None:
        blocks = range(start, -(-size // BLOCK_BYTES))
        return next((block for block in blocks if not self._tiers.has(key, block)), None)

    def _download(self, instance: Instance, size: int | None, block: int) -> Download:
        """The running download, else a new one that starts with ``block``, which is missing, or earlier."""
        key = instance.key
        download = self._running.get(key)
        if download is None or download.closed:
            download = self._new_download(instance, size, block)
            self._nursery.start_soon(self._run, key, download)
        return download

    def _new_download(self, instance: Instance, size: int | None, block: int) -> Download:
        """One that is to be run."""
        start, stop = self._missing(instance, size, block)
        store = partial(self._tiers.put, instance)
        download = Download(instance, size, self._settings, store, self._tiers.room, start, stop)
        self._running[instance.key] = download
        self._stats.count("downloads")
        return download

    def _missing(self, instance: Instance, size: int | None, block: int) -> tuple[int, int | None]:
        """What to ask for, [start, stop), where ``block`` is missing: up to what is kept.

        From the beginning unless that is kept: only there it shows that the archive sends the right instance. And
        unless the bytes can never change: then a whole body is compared with what is kept as it passes.
        """
        if size is None or not instance.is_fixed or not self._tiers.has(instance.key, 0):
            return 0, None
        blocks = range(block + 1, -(-size // BLOCK_BYTES))
        stop = next((later for later in blocks if self._tiers.has(instance.key, later)), None)
        return block * BLOCK_BYTES, None if stop is None else stop * BLOCK_BYTES

    def _hurry(self, download: Download) -> None:
        """Somebody waits for it now."""
        if not download.urgent:
            download.hurry()
            self._slots.serve_urgent()

    async def _end(self, download: Download) -> None:
        """End a download that does not bring what is wanted, once those it still serves have theirs.

        Readers ahead of it then wait for the next download as well: each download serves at least one piece to
        everyone who waits, so two readers far apart in an instance larger than the cache both get on.
        """
        await download.retired()
        download.cancel()

    def _leave(self, key: Key, download: Download) -> None:
        """Nobody reads any more: stop, but not for one who only opens the file anew, as ITK does eight times."""
        if download.is_nearly_done or not download.has_begun:
            download.abandon()
        else:
            download.rest()
            scope = self._lingering[key] = trio.CancelScope()
            self._nursery.start_soon(self._stop_later, key, download, scope)

    async def _stop_later(self, key: Key, download: Download, scope: trio.CancelScope) -> None:
        """Unless it is opened again meanwhile."""
        with scope:
            await trio.sleep(self._settings.linger_seconds)
            del self._lingering[key]
            download.abandon()

    async def _run(self, key: Key, download: Download) -> None:
        try:
            await download.run(self._source, self._slots)
        finally:
            self._stats.count("downloads_cancelled", download.cancelled)
            if self._opened[key] and download.proven_size is not None:
                self._sizes[key] = download.proven_size
            if self._running.get(key) is download:
                del self._running[key]


def _affordable_read_ahead(settings: ContentSettings, capacity_bytes: int) -> int:
    """How far downloads may run ahead: no further than the cache can keep for all of them at once.

    Else they would push each other's blocks out before anybody has read them, and fetch them again and again.
    """
    share = capacity_bytes // settings.max_downloads
    return min(settings.read_ahead_bytes, max(0, share - BLOCK_BYTES))

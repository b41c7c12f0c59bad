"""Bytes [offset, end) of an instance: from the memory tier, else from its one running download, else from a new one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import trio

from ..errors import Damaged, WrongSize
from ..settings import BLOCK_BYTES, ContentSettings
from ..stats import Stats
from .blocks import Key, MemoryTier, Slice, slices
from .download import Download
from .instance import Instance, Source
from .slots import Slots


class Reader:
    """Reads instances; owns the running downloads and the count of who has what open."""

    def __init__(
        self, source: Source, memory: MemoryTier, settings: ContentSettings, nursery: trio.Nursery, stats: Stats
    ) -> None:
        self._source = source
        self._memory = memory
        self._settings = replace(settings, read_ahead_bytes=_affordable_read_ahead(settings, memory.capacity))
        self._nursery = nursery
        self._stats = stats
        self._running: dict[Key, Download] = {}
        self._opened: Counter[Key] = Counter()
        self._slots = Slots(settings.max_downloads)
        stats.gauge("running_downloads", lambda: len(self._running))

    def open(self, instance: Instance) -> None:
        """One reader more."""
        self._opened[instance.key] += 1

    def close(self, instance: Instance) -> None:
        """One reader less; after the last, the download stops unless nearly done."""
        key = instance.key
        self._opened[key] -= 1
        if self._opened[key] > 0:
            return
        del self._opened[key]
        if key in self._running:
            self._running[key].abandon()

    async def size(self, instance: Instance) -> int:
        """Exact size of ``instance`` in bytes, proven by the archive's answer.

        :raises IdcfsError: if it cannot be had.
        """
        self.open(instance)
        try:
            while (download := self._download(instance, None)).retiring:
                await self._end(download)
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

    async def _piece(self, instance: Instance, size: int, wanted: Slice) -> bytes:
        """Bytes of one block."""
        if (found := self._kept(instance, size, wanted)) is not None:
            self._stats.count("hits")
            return found
        self._stats.count("misses")
        while not (download := self._download(instance, size)).serves(wanted):
            await self._end(download)
            if (found := self._kept(instance, size, wanted)) is not None:
                return found
        return await download.wait(wanted)

    def _kept(self, instance: Instance, size: int, wanted: Slice) -> bytes | None:
        """What needs no waiting: bytes in the memory tier, or in the block that is arriving."""
        block = self._memory.get(instance.key, wanted.block)
        if block is not None:
            if len(block) != min(BLOCK_BYTES, size - wanted.block * BLOCK_BYTES):
                raise WrongSize(f"{instance}: the archive has not the {size} bytes expected")
            return block[wanted.start : wanted.stop]
        download = self._running.get(instance.key)
        if download is None:
            return None
        if download.known_size not in (None, size):
            raise WrongSize(f"{instance}: the archive has {download.known_size} bytes, not the {size} expected")
        return download.get(wanted)

    def _download(self, instance: Instance, size: int | None) -> Download:
        """The running download, else a new one."""
        key = instance.key
        download = self._running.get(key)
        if download is None or download.closed:
            download = Download(instance, size, self._settings, partial(self._store, instance))
            self._nursery.start_soon(self._run, key, download)
            self._running[key] = download
            self._stats.count("downloads")
        return download

    def _store(self, instance: Instance, block: int, data: bytes) -> None:
        """Keep a block that has arrived; it may be there already, and must then be the same.

        :raises Damaged: if not: the archive has replaced the instance, and old bytes must not be mixed with new ones.
        """
        before = self._memory.get(instance.key, block)
        if before is not None and before != data:
            self._memory.drop(instance.key)
            raise Damaged(f"{instance}: the archive sends other bytes than it sent before")
        self._memory.put(instance.key, block, data)

    async def _end(self, download: Download) -> None:
        """End a download that has passed by what is wanted, once those it still serves have theirs.

        Readers ahead of it then wait for the next download as well: each download serves at least one piece to
        everyone who waits, so two readers far apart in an instance larger than the cache both get on.
        """
        await download.retired()
        download.cancel()

    async def _run(self, key: Key, download: Download) -> None:
        try:
            await download.run(self._source, self._slots)
        finally:
            self._stats.count("downloads_cancelled", download.cancelled)
            if self._running.get(key) is download:
                del self._running[key]


def _affordable_read_ahead(settings: ContentSettings, capacity_bytes: int) -> int:
    """How far downloads may run ahead: no further than the memory tier can keep for all of them at once.

    Else they would push each other's blocks out before anybody has read them, and fetch them again and again.
    """
    share = capacity_bytes // settings.max_downloads
    return min(settings.read_ahead_bytes, max(0, share - BLOCK_BYTES))

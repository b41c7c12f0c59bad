"""The disk tier: blocks that outlive the mount. Reads and writes in threads; one writer, for all there is to do.

Contents are written when no more of them come, or when as many wait as memory may hold: with the reader, the archive
and the disk all at once, each takes longer than one after the other (docs/measured.md).

What is known of the disk is kept per instance, so ``has`` costs nothing. A block that waits to be written is served
from the queue. All state changes between two checkpoints, in the thread of the event loop.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Set
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from ..errors import Replaced
from ..settings import MIB
from ..stats import Stats
from .block_files import NewBlock, name_of
from .blocks import Key
from .disk_known import Known
from .disk_reads import Reads
from .disk_store import UNBOUNDED, BlockStore, open_store
from .disk_work import Miss, Outcome, Work

__all__ = ["UNBOUNDED", "DiskTier"]

log = logging.getLogger(__name__)

_SERIES_BLOCKS = 1_000
"""Up to so many, what is kept of a series is asked for at once, in 2 ms: to ask for each file takes 1 ms every time."""
_RETRY_SECONDS = 10.0
"""How long it is taken for true that what could not be kept cannot be kept."""
_READS_AT_ONCE = 8
"""Enough to keep an SSD busy; more only take threads."""
_QUEUE_BYTES = 16 * MIB
"""May wait to be written beyond what may be behind, before ``room`` waits."""
_MOST_BEHIND_BYTES = 128 * MIB
"""May wait that are in memory anyway: half a second's work, at the end of the mount too."""
_BATCH_BYTES = 4 * MIB
"""Written together: their locks cost little, and what comes meanwhile finds room in the queue."""
_USES_AT_ONCE = 256
_QUIET_SECONDS = 0.25
"""Contents that come no closer to each other do not hold up the writing."""
_LONGEST_SECONDS = 5.0
"""Nothing waits longer for its turn."""
_PATIENCE_SECONDS = 20.0
"""A disk that does not give, or take, some MiB in this time hangs; one that has to spin up does not take as long."""

_THREADS = trio.CapacityLimiter(math.inf)
"""Whoever needs one has waited already: what counts against the patience is the work, not who was there before."""

T = TypeVar("T")


class DiskTier:
    """Whole blocks in a directory, which several mounts may share; least recently used out first, bounded in bytes."""

    def __init__(self, directory: Path, capacity_bytes: int, stats: Stats, behind_bytes: int = 0) -> None:
        """Never raises: where the directory cannot be used, the log says so once, and nothing is kept.

        :param capacity_bytes: 0 turns it off, and the directory is not touched.
        :param behind_bytes: may wait to be written, since they are in memory as well: see ``evicted``.
        """
        self._directory = directory
        self._is_wanted = capacity_bytes > 0
        self._stats = stats
        self._known = Known()
        self._behind_bytes = min(behind_bytes, _MOST_BEHIND_BYTES)
        self._generation = 0  # of the store, to which that belongs
        self._next = Work()
        self._current = Work()  # the writer's: it is not changed any more
        self._reading = Reads()
        self._has_work = trio.Event()
        self._is_urgent = trio.Event()
        self._is_quiet = True
        self._hurry()  # there may be more than the capacity allows
        self._has_room = trio.Event()
        self._unexpected: set[type[Exception]] = set()
        self._retry: float | None = None
        """When what could not be kept may be tried again."""
        self._memory: Callable[[Key, int], bytes | None] = lambda _key, _block: None
        self._replaced: Callable[[Key], None] = lambda _key: None
        self._reads = trio.CapacityLimiter(_READS_AT_ONCE)
        self._looking_up = trio.Lock()
        self._look_ups = trio.CapacityLimiter(1)
        self._writes = trio.CapacityLimiter(1)
        self._store = open_store(directory, capacity_bytes) if capacity_bytes > 0 else None

    @property
    def size(self) -> int:
        """Bytes it takes on disk, of all mounts that share it, as last seen."""
        return self._store.size if self._store else 0

    @property
    def capacity(self) -> int:
        """Bytes it may take on disk, as last seen; 0 where nothing can be kept."""
        return self._store.capacity if self._store else 0

    # --- readers -----------------------------------------------------------------------------------------------------

    async def load(self, key: Key) -> None:
        """Learn which blocks of an instance are kept."""
        if self._store is None or key in self._known:
            return
        if key in self._next.drops or key in self._current.drops:
            self._known.drop(key)  # what the index has of it is to be removed
        elif not self._known.learn_from_series(key):
            async with self._looking_up:
                await self._look_up(key)

    async def _look_up(self, key: Key) -> None:
        content, _ = key
        if (store := self._store) is not None and key not in self._known and not self._known.has_series(content):
            found = await self._in_time(partial(store.look_up_series, content, _SERIES_BLOCKS), self._look_ups)
            self._forget_if_anew()
            self._known.learn_series(content, found)
        if (store := self._store) is None or key in self._known or self._known.learn_from_series(key):
            return
        digests = await self._in_time(partial(store.look_up, key), self._look_ups)
        self._forget_if_anew()
        if digests is not None:
            self._known.learn(key, digests)

    def has(self, key: Key, block: int) -> bool:
        """Whether a block is kept, as far as is known from ``load`` and ``put``."""
        return self._digest(key, block) is not None

    async def get(self, key: Key, block: int) -> bytes | None:
        """A block, proven to be as it was written; None if there is none."""
        await self.load(key)
        queued = self._queued(key, block)
        if queued is not None:
            return queued.data
        digest = self._digest(key, block)
        if digest is None:
            return None
        data = await self._read(key, block, digest)
        return data if self._digest(key, block) == digest else None  # else it has been dropped meanwhile

    def put(self, key: Key, block: int, data: bytes) -> None:
        """Keep a block, unless the same is kept already; it is written a moment later.

        :raises Replaced: if other bytes are kept: the archive has replaced the instance.
        """
        if self._store is None:
            self._stats.count("disk_unkept", self._is_wanted)
            return
        new = NewBlock.of(key, block, data)
        kept = self._digest(key, block)
        if kept is None:
            self._next.add(new)
            self._is_quiet = False
            self._gather()
        elif kept != new.digest:
            raise Replaced(f"instance {key[1]}: the archive sends other bytes than are kept on disk")

    def use(self, key: Key, block: int, data: bytes) -> None:
        """A block was found in memory: it is not the one to go from here, or, where it has gone, is kept again."""
        if self._store is None or self._queued(key, block) is not None:
            return
        if key in self._known and self._known.digest(key, block) is None:
            self._keep_again(key, block, data)
        else:
            self._note_use(key, block)

    def _keep_again(self, key: Key, block: int, data: bytes) -> None:
        if self._retry is not None and trio.current_time() < self._retry:
            self._stats.count("disk_unkept")
        else:
            self.put(key, block, data)

    def restore_from(self, memory: Callable[[Key, int], bytes | None]) -> None:
        """Keep again what has gone from here, by another's doing, and ``memory`` still has when it is used."""
        self._memory = memory

    def tell_of_replaced(self, replaced: Callable[[Key], None]) -> None:
        """Call ``replaced`` with an instance of which another mount keeps other bytes now than were kept."""
        self._replaced = replaced

    def evicted(self, key: Key, block: int) -> None:
        """A block is in memory no longer: should it wait to be written, it is time."""
        if (key, block) in self._next.blocks:
            self._hurry()

    @property
    def has_room(self) -> bool:
        """Whether not too much waits to be written."""
        waiting = self._next.size + self._current.size
        return self._store is None or waiting <= self._behind_bytes + _QUEUE_BYTES

    async def room(self) -> None:
        """Wait while much waits to be written."""
        while not self.has_room:
            await self._has_room.wait()

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that memory had better keep it."""
        return self._next.size + self._current.size > _QUEUE_BYTES

    async def sync(self) -> None:
        """Return when what waits now is written, or cannot be."""
        for _ in range(2):  # the first time it may turn out that blocks have gone which memory has
            blocks = self._next.blocks.keys() | self._current.blocks.keys()
            uses = self._next.used, self._current.used  # as they are taken: the same blocks may be used without end
            self._hurry()
            while self._store is not None and self._waits(blocks, uses):
                await self._has_room.wait()

    def _waits(self, blocks: Set[tuple[Key, int]], uses: tuple[object, ...]) -> bool:
        """Whether any of ``blocks`` and ``uses`` is yet to be written."""
        works = self._next, self._current
        return any(work.blocks.keys() & blocks or any(work.used is one for one in uses) for work in works)

    def drop(self, key: Key) -> None:
        """Keep nothing of the instance ``key`` any more."""
        if self._store is None:
            return
        self._next.drop(key)
        self._known.drop(key)
        self._hurry()
        self._tell_of_room()

    # --- the writer --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what there is to write, until cancelled; returns at once where nothing is kept."""
        while self._store is not None:
            await self._has_work.wait()
            await self._until_quiet()
            self._has_work, self._is_urgent = trio.Event(), trio.Event()
            if self._store is not None:  # it may have begun to hang
                await self._write_some(self._store)

    async def _until_quiet(self) -> None:
        """Wait until no more contents come, unless what waits should not."""
        with trio.move_on_after(_LONGEST_SECONDS):
            while not self._is_urgent.is_set():
                self._is_quiet = True
                with trio.move_on_after(_QUIET_SECONDS):
                    await self._is_urgent.wait()
                if self._is_quiet:
                    return

    def close(self) -> None:
        """Write the rest and let go of the index; ``run`` must have ended."""
        store = self._store
        if store is None:
            return
        while not self._next.is_empty:
            self._current = self._next.take(_BATCH_BYTES)
            outcome = store.apply(self._current)
            self._learn(outcome)
            self._finish()
            if not outcome.has_dropped:
                break
        self._store = None
        store.close()

    async def _write_some(self, store: BlockStore) -> None:
        """Do what is to be done next; what cannot be done is not kept."""
        work = self._current = self._next.take(_BATCH_BYTES)
        with trio.CancelScope(shield=True):  # what has been taken is written: a batch takes milliseconds
            outcome = await self._in_time(partial(store.apply, work), self._writes) or Outcome()
        try:
            self._learn(outcome)
        except Exception as error:
            self._tell_unexpected(error)
            self._next.drops |= work.drops
        unkept = len(work.blocks) - len(outcome.kept)
        self._stats.count("disk_unkept", unkept)
        self._retry = trio.current_time() + _RETRY_SECONDS if unkept else self._retry
        self._finish()

    def _learn(self, outcome: Outcome) -> None:
        """What has become of the current work."""
        self._forget_if_anew()
        for row in outcome.gone:
            self._known.forget(row.key, row.number)
        for key, number in outcome.absent:
            self._known.forget(key, number)
            data = self._memory(key, number)
            if data is not None and self._digest(key, number) is None and key not in self._next.drops:
                self._keep_again(key, number, data)
        for block in outcome.kept:
            if block.key not in self._next.drops:
                self._known.add(block)
        if not outcome.has_dropped:
            self._next.drops |= self._current.drops
        if outcome.has_more:
            self._hurry()

    def _finish(self) -> None:
        """The current work is done, or given up."""
        self._current = Work()
        if self._next.blocks:
            self._hurry()
        self._tell_of_room()

    def _hurry(self) -> None:
        """There is work that should not wait."""
        self._has_work.set()
        self._is_urgent.set()

    def _gather(self) -> None:
        """There is work that gets cheaper with more of its kind."""
        self._has_work.set()
        if self._next.size >= max(self._behind_bytes, _BATCH_BYTES) or len(self._next.used) >= _USES_AT_ONCE:
            self._hurry()

    def _note_use(self, key: Key, block: int) -> None:
        self._next.use(name_of(key, block), key, block)
        self._gather()

    async def _in_time(self, work: Callable[[], T], limiter: trio.CapacityLimiter) -> T | None:
        """What ``work``, in a thread, gives; None where it fails. If it does not end, the disk is not asked any more.

        Never raises, but for being cancelled.
        """
        try:
            async with limiter:
                with trio.move_on_after(_PATIENCE_SECONDS):
                    return await trio.to_thread.run_sync(work, limiter=_THREADS, abandon_on_cancel=True)
        except Exception as error:  # no thread can be started, say
            self._tell_unexpected(error)
        else:
            self._give_up()
        return None

    def _tell_unexpected(self, error: Exception) -> None:
        if type(error) not in self._unexpected:
            log.error("%s: unexpected; not all is kept on disk", self._directory, exc_info=error)
        self._unexpected.add(type(error))

    def _give_up(self) -> None:
        """The disk hangs."""
        if self._store is not None:
            log.warning("%s does not answer: contents are kept in memory only", self._directory)
        self._store = None
        self._stats.count("disk_unkept", len(self._next.blocks))
        self._next = Work()
        self._known.clear()
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        self._has_room.set()
        self._has_room = trio.Event()

    # --- what is known -----------------------------------------------------------------------------------------------

    def _queued(self, key: Key, block: int) -> NewBlock | None:
        """A block that waits to be written, or is being written."""
        queued = self._next.blocks.get((key, block))
        if queued is None and key not in self._next.drops:
            queued = self._current.blocks.get((key, block))
        return queued

    def _digest(self, key: Key, block: int) -> bytes | None:
        """Digest of a block that is kept, or will be."""
        queued = self._queued(key, block)
        return queued.digest if queued is not None else self._known.digest(key, block)

    def _forget_if_anew(self) -> None:
        """All that was known is gone, if the store had to be started anew."""
        store = self._store
        if store is not None and self._generation != store.generation:
            self._generation = store.generation
            self._known.clear()

    async def _read(self, key: Key, block: int, digest: bytes) -> bytes | None:
        """Read a block, once for all who want it now."""
        name = name_of(key, block)

        async def read() -> bytes | None:
            if self._store is None:
                return None
            found = await self._in_time(partial(self._store.read, name, block, digest), self._reads)
            return None if found is None else self._judge(key, block, name, found)

        return await self._reading.share((name, digest), read)

    def _judge(self, key: Key, block: int, name: bytes, found: bytes | Miss) -> bytes | None:
        """Note what a read has shown."""
        if isinstance(found, bytes):
            self._stats.count("disk_hits")
            self._note_use(key, block)
            return found
        self._stats.count("disk_damaged", found is Miss.DAMAGED)
        if found is Miss.REPLACED:
            self._known.doubt(key)
            self._replaced(key)
        else:
            self._known.forget(key, block)
        if found in (Miss.ABSENT, Miss.DAMAGED):
            self._next.lost.add(name)
            self._hurry()
        return None

"""The disk tier: blocks that outlive the mount. Reads and writes in threads; one writer, for all there is to do.

Contents are written when no more of them come, or when as many wait as memory may hold: with the reader, the archive
and the disk all at once, each takes longer than one after the other (docs/measured.md).

What is known of the disk is kept per instance, so ``has`` costs nothing. A block that waits to be written is served
from the queue. All state changes between two checkpoints, in the thread of the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from ..errors import Replaced
from ..patience import in_time
from ..stats import Stats
from .block_files import NewBlock, name_of
from .blocks import Key
from .disk_known import Known
from .disk_queue import Queue
from .disk_reads import Reads
from .disk_store import open_store
from .disk_work import Miss, Outcome

log = logging.getLogger(__name__)

_SERIES_BLOCKS = 1_000
"""Up to so many, what is kept of a series is asked for at once, in 2 ms: to ask for each file takes 1 ms every time."""
_RETRY_SECONDS = 10.0
"""How long it is taken for true that what could not be kept cannot be kept."""
_READS_AT_ONCE = 8
"""Enough to keep an SSD busy; more only take threads."""
_LOOKS = 10
"""So often a series is looked up whose blocks are being written: a batch of those takes as long as many looks."""

T = TypeVar("T")


class DiskTier:
    """Whole blocks in a directory, which several mounts may share; least recently used out first, bounded in bytes."""

    def __init__(self, directory: Path, capacity_bytes: int, stats: Stats, behind_bytes: int = 0) -> None:
        """Never raises: where the directory cannot be used, the log says so once, and nothing is kept.

        :param capacity_bytes: 0 turns it off, and the directory is not touched.
        :param behind_bytes: may wait to be written, since they are in memory as well: see ``Queue``.
        """
        self._directory = directory
        self._is_wanted = capacity_bytes > 0
        self._stats = stats
        self.queue = Queue(behind_bytes)
        """What waits to be written."""
        self._known = Known()
        self._generation = 0  # of the store, to which that belongs
        self._reads_under_way = Reads()
        self._unexpected: set[type[Exception]] = set()
        self._retry: float | None = None
        """When what could not be kept may be tried again."""
        self._memory: Callable[[Key, int], bytes | None] = lambda _key, _block: None
        self._replaced: Callable[[Key], None] = lambda _key: None
        self._read_turns = trio.CapacityLimiter(_READS_AT_ONCE)
        self._look_up_turn = trio.Lock()
        self._store = open_store(directory, capacity_bytes) if capacity_bytes > 0 else None
        if self._store is None:
            self.queue.give_up()
        self.queue.hurry()  # there may be more than the capacity allows

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
        if self.queue.is_to_drop(key):
            self._known.drop(key)  # what the index has of it is to be removed
        elif not self._known.learn_from_series(key):
            async with self._look_up_turn:
                await self._look_up(key)

    async def _look_up(self, key: Key) -> None:
        content, _ = key
        if (store := self._store) is not None and key not in self._known and not self._known.has_series(content):
            found = await self._looked_up(content, partial(store.look_up_series, content, _SERIES_BLOCKS))
            self._known.learn_series(content, found)
        if (store := self._store) is None or key in self._known or self._known.learn_from_series(key):
            return
        digests = await self._looked_up(content, partial(store.look_up, key))
        if digests is not None:
            self._known.learn(key, digests)

    async def _looked_up(self, content: str, look: Callable[[], T]) -> T | None:
        """What ``look`` finds of a series in the index; None if that cannot be told.

        Again, if a block of it has been written meanwhile, which it may have missed.
        """
        for _ in range(_LOOKS):
            self._known.begin_look_up(content)
            found = await self._in_time(look)
            self._forget_if_anew()
            if self._known.is_still_so:
                return found
        return None

    def has(self, key: Key, block: int) -> bool:
        """Whether a block is kept, as far as is known from ``load`` and ``put``."""
        return self._digest(key, block) is not None

    def keeps_any(self, key: Key) -> bool:
        """Whether any block of an instance has been written, as far as is known."""
        return self._known.keeps_any(key)

    async def get(self, key: Key, block: int) -> bytes | None:
        """A block, proven to be as it was written; None if there is none."""
        await self.load(key)
        queued = self.queue.find(key, block)
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
            self.queue.add(new)
        elif kept != new.digest:
            raise Replaced(f"instance {key[1]}: the archive sends other bytes than are kept on disk")

    def use(self, key: Key, block: int, data: bytes) -> None:
        """Note a use of a block that memory has; if the disk has lost the block, keep it again."""
        if self._store is None or self.queue.find(key, block) is not None:
            return
        if key in self._known and self._known.digest(key, block) is None:
            self._keep_again(key, block, data)
        else:
            self.queue.use(key, block)

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

    async def sync(self) -> None:
        """Return when what waits now is written, or cannot be."""
        await self.queue.sync()

    def drop(self, key: Key) -> None:
        """Keep nothing of the instance ``key`` any more."""
        if self._store is None:
            return
        self._known.drop(key)
        self.queue.drop(key)

    # --- the writer --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what there is to write, until cancelled; returns at once where nothing is kept."""
        while self._store is not None:
            await self.queue.ready()
            await self.write_some()

    def close(self) -> None:
        """Write the rest and let go of the index; ``run`` must have ended."""
        store = self._store
        if store is None:
            return
        while not self.queue.next.is_empty:
            outcome = store.apply(self.queue.take())
            self._learn(outcome)
            self.queue.finish()
            if not outcome.has_dropped:
                break
        self._store = None
        self.queue.give_up()
        store.close()

    async def write_some(self) -> None:
        """Do what is to be done next, unless the disk has begun to hang; what cannot be done is not kept."""
        store = self._store
        if store is None:
            return
        work = self.queue.take()
        with trio.CancelScope(shield=True):  # what has been taken is written: a batch takes milliseconds
            outcome = await self._in_time(partial(store.apply, work)) or Outcome()
        try:
            self._learn(outcome)
        except Exception as error:
            self._tell_unexpected(error)
            self.queue.drop_later()
        unkept = len(work.blocks) - len(outcome.kept)
        self._stats.count("disk_unkept", unkept)
        self._retry = trio.current_time() + _RETRY_SECONDS if unkept else self._retry
        self.queue.finish()

    def _learn(self, outcome: Outcome) -> None:
        """What has become of the current work."""
        self._forget_if_anew()
        for row in outcome.gone:
            self._known.forget(row.key, row.number)
        for key, number in outcome.absent:
            self._known.forget(key, number)
            data = self._memory(key, number)
            if data is not None and self._digest(key, number) is None and key not in self.queue.next.drops:
                self._keep_again(key, number, data)
        for block in outcome.kept:
            if block.key not in self.queue.next.drops:
                self._known.add(block)
        if not outcome.has_dropped:
            self.queue.drop_later()
        if outcome.has_more:
            self.queue.hurry()

    async def _in_time(self, work: Callable[[], T]) -> T | None:
        """What ``work``, in a thread, gives; None where it fails. If it does not end, the disk is not asked any more.

        Never raises, but for being cancelled.
        """
        try:
            return await in_time(work)
        except trio.TooSlowError:
            self._give_up()
        except Exception as error:  # no thread can be started, say
            self._tell_unexpected(error)
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
        self._stats.count("disk_unkept", self.queue.give_up())
        self._known.clear()

    # --- what is known -----------------------------------------------------------------------------------------------

    def _digest(self, key: Key, block: int) -> bytes | None:
        """Digest of a block that is kept, or will be."""
        queued = self.queue.find(key, block)
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
            async with self._read_turns:
                if self._store is None:  # it may have been given up while this waited for its turn
                    return None
                found = await self._in_time(partial(self._store.read, name, block, digest))
            return None if found is None else self._judge(key, block, name, found)

        return await self._reads_under_way.share((name, digest), read)

    def _judge(self, key: Key, block: int, name: bytes, found: bytes | Miss) -> bytes | None:
        """Note what a read has shown."""
        if isinstance(found, bytes):
            self._stats.count("disk_hits")
            self.queue.use(key, block)
            return found
        self._stats.count("disk_damaged", found is Miss.DAMAGED)
        if found is Miss.REPLACED:
            self._known.doubt(key)
            self._replaced(key)
        else:
            self._known.forget(key, block)
        if found in (Miss.ABSENT, Miss.DAMAGED):
            self.queue.lose(name)
        return None

"""The disk tier: blocks that outlive the mount. Reads and writes in threads; one writer, for all there is to do.

What is known of the disk is kept per instance, so ``has`` costs nothing. A block that waits to be written is served
from the queue. All state changes between two checkpoints, in the thread of the event loop.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio
from cachetools import LRUCache

from ..errors import Damaged, UsageError
from ..settings import MIB
from ..stats import Stats
from .block_files import NewBlock, name_of
from .blocks import Key
from .disk_store import BlockStore, Miss, Outcome, Work

log = logging.getLogger(__name__)

_KNOWN_INSTANCES = 4_000
"""Instances of which it is remembered what is kept: some 100 bytes a block."""
_READS_AT_ONCE = 8
"""Enough to keep an SSD busy; more only take threads."""
_QUEUE_BYTES = 16 * MIB
"""May wait to be written before ``room`` waits."""
_BATCH_BYTES = 4 * MIB
"""Written together: their locks cost little, and what comes meanwhile finds room in the queue."""
_USES_AT_ONCE = 256
_USE_SECONDS = 1.0
"""Hits that are noted in the index together: so many, or those of so long. A kill forgets fewer, which may cost a block
its place."""

_Place = tuple[Key, int]


@dataclass(slots=True)
class _Reading:
    """One read of a file, shared by all who want it."""

    data: bytes | None = None
    is_done: bool = False
    ended: trio.Event = field(default_factory=trio.Event)


class DiskTier:
    """Whole blocks in a directory, which several mounts may share; least recently used out first, bounded in bytes."""

    def __init__(
        self,
        directory: Path,
        capacity_bytes: int,
        stats: Stats,
        elsewhere: Callable[[Key, int], bytes | None] = lambda key, block: None,
    ) -> None:
        """Never raises: where the directory cannot be used, the log says so once, and nothing is kept.

        :param capacity_bytes: 0 turns it off, and the directory is not touched.
        :param elsewhere: a block, if it is at hand in memory: what others have removed here is written again.
        """
        self._elsewhere = elsewhere
        self._capacity = max(0, capacity_bytes)
        self._stats = stats
        self._known: LRUCache[Key, dict[int, bytes]] = LRUCache(_KNOWN_INSTANCES)  # digests of what is on disk
        self._queue: dict[_Place, NewBlock] = {}
        self._queued_bytes = 0
        self._writing: dict[_Place, NewBlock] = {}
        self._written_bytes = 0
        self._drops: set[Key] = set()
        self._dropping: set[Key] = set()
        self._lost: set[bytes] = set()
        self._used: dict[bytes, _Place] = {}  # by name
        self._reading: dict[tuple[bytes, bytes], _Reading] = {}
        self._wake = trio.Event()
        self._hurry = trio.Event()
        self._call()  # there may be more than the capacity allows
        self._has_room = trio.Event()
        self._reads = trio.CapacityLimiter(_READS_AT_ONCE)
        self._looking_up = trio.Lock()
        self._look_ups = trio.CapacityLimiter(1)
        self._writes = trio.CapacityLimiter(1)
        self._store = _open(directory, capacity_bytes) if capacity_bytes > 0 else None

    @property
    def size(self) -> int:
        """Bytes it takes on disk, of all mounts that share it, as last seen."""
        return self._store.size if self._store else 0

    @property
    def capacity(self) -> int:
        """Bytes it may take on disk."""
        return self._capacity

    # --- readers -----------------------------------------------------------------------------------------------------

    async def load(self, key: Key) -> None:
        """Learn which blocks of an instance are kept."""
        if self._store is None or key in self._known:
            return
        if key in self._drops or key in self._dropping:  # what the index has is to be removed
            self._known[key] = {}
            return
        async with self._looking_up:
            if key in self._known:
                return
            digests = await trio.to_thread.run_sync(self._store.look_up, key, limiter=self._look_ups)
            if digests is not None:
                self._known.setdefault(key, digests)  # it may have been dropped meanwhile
            elif self._store.is_damaged:
                self._call()

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

        :raises Damaged: if other bytes are kept: the archive has replaced the instance.
        """
        if self._store is None:
            return
        new = NewBlock.of(key, block, data)
        kept = self._digest(key, block)
        if kept is None:
            self._queue[key, block] = new
            self._queued_bytes += len(data)
            self._call()
        elif kept != new.digest:
            raise Damaged(f"instance {key[1]}: the archive sends other bytes than are kept on disk")

    def use(self, key: Key, block: int) -> None:
        """A block that is kept here too was found elsewhere: it is not the one to go."""
        if self._known.get(key, {}).get(block) is not None:
            self._note_use(name_of(key, block), (key, block))

    async def room(self) -> None:
        """Wait while much waits to be written."""
        while self._store is not None and self._queued_bytes + self._written_bytes > _QUEUE_BYTES:
            await self._has_room.wait()

    def drop(self, key: Key) -> None:
        """Keep nothing of the instance ``key`` any more."""
        if self._store is None:
            return
        for place in [place for place in self._queue if place[0] == key]:
            self._queued_bytes -= len(self._queue.pop(place).data)
        for place in [place for place in self._writing if place[0] == key]:
            del self._writing[place]
        self._known[key] = {}
        self._drops.add(key)
        self._call()
        self._tell_of_room()

    # --- the writer --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what there is to write, until cancelled."""
        while self._store is not None:
            await self._wake.wait()
            with trio.move_on_after(_USE_SECONDS):
                await self._hurry.wait()
            self._wake, self._hurry = trio.Event(), trio.Event()
            work = self._take()
            with trio.CancelScope(shield=True):  # what has been taken is written: a batch takes milliseconds
                outcome = await trio.to_thread.run_sync(self._store.apply, work, limiter=self._writes)
            self._settle(work, outcome)
        await trio.sleep_forever()

    def close(self) -> None:
        """Write the rest and let go of the index; ``run`` must have ended."""
        store = self._store
        if store is None:
            return
        while self._queue or self._drops or self._lost or self._used:
            work = self._take()
            outcome = store.apply(work)
            self._settle(work, outcome)
            if not outcome.has_dropped:
                break
        self._store = None
        store.close()

    def _take(self) -> Work:
        """What is to be done next."""
        work = Work(self._drops, self._lost, self._used)
        self._dropping = self._drops
        self._drops, self._lost, self._used = set(), set(), {}
        while self._queue and self._written_bytes < _BATCH_BYTES:
            place = next(iter(self._queue))
            block = self._writing[place] = self._queue.pop(place)
            work.blocks.append(block)
            self._queued_bytes -= len(block.data)
            self._written_bytes += len(block.data)
        return work

    def _settle(self, work: Work, outcome: Outcome) -> None:
        """Learn what has become of ``work``."""
        if outcome.is_anew:
            self._known.clear()
        for row in outcome.gone:
            self._forget(row.key, row.number)
        for block in outcome.kept:
            if self._writing.get((block.key, block.number)) is block and block.key in self._known:
                self._known[block.key][block.number] = block.digest
        if not outcome.has_dropped:
            self._drops |= work.drops
        self._dropping = set()
        self._writing = {}
        self._written_bytes = 0
        for name in outcome.absent:
            self._write_again(work.used.get(name))
        if self._queue or outcome.has_more:
            self._call()
        self._tell_of_room()

    def _write_again(self, place: _Place | None) -> None:
        """Somebody has removed a block that was used a moment ago."""
        if place is None:
            return
        self._forget(*place)
        data = self._elsewhere(*place)
        if data is not None:
            self.put(*place, data)

    def _call(self) -> None:
        """There is work that should not wait."""
        self._wake.set()
        self._hurry.set()

    def _note_use(self, name: bytes, place: _Place) -> None:
        self._used.pop(name, None)
        self._used[name] = place
        self._wake.set()
        if len(self._used) >= _USES_AT_ONCE:
            self._call()

    def _tell_of_room(self) -> None:
        self._has_room.set()
        self._has_room = trio.Event()

    # --- what is known -----------------------------------------------------------------------------------------------

    def _queued(self, key: Key, block: int) -> NewBlock | None:
        """A block that waits to be written, or is being written."""
        return self._queue.get((key, block)) or self._writing.get((key, block))

    def _digest(self, key: Key, block: int) -> bytes | None:
        """Digest of a block that is kept, or will be."""
        queued = self._queued(key, block)
        return queued.digest if queued is not None else self._known.get(key, {}).get(block)

    def _forget(self, key: Key, block: int) -> None:
        """A block is on disk no longer."""
        self._known.get(key, {}).pop(block, None)

    async def _read(self, key: Key, block: int, digest: bytes) -> bytes | None:
        """Read a block, once for all who want it now. If the one who does is cancelled before, another does."""
        name = name_of(key, block)
        while (reading := self._reading.get((name, digest))) is not None:
            await reading.ended.wait()
            if reading.is_done:
                return reading.data
        if self._store is None:
            return None
        reading = self._reading[name, digest] = _Reading()
        try:
            found = await trio.to_thread.run_sync(self._store.read, name, block, digest, limiter=self._reads)
            reading.data = self._judge(key, block, name, found)
            reading.is_done = True
        finally:
            del self._reading[name, digest]
            reading.ended.set()
        return reading.data

    def _judge(self, key: Key, block: int, name: bytes, found: bytes | Miss) -> bytes | None:
        """Note what a read has shown."""
        if isinstance(found, bytes):
            self._note_use(name, (key, block))
            return found
        self._stats.count("disk_damaged", found is Miss.DAMAGED)
        if found is Miss.REPLACED:
            self._known.pop(key, None)
        else:
            self._forget(key, block)
        if found in (Miss.ABSENT, Miss.DAMAGED):
            self._lost.add(name)
            self._call()
        return None


def _open(directory: Path, capacity_bytes: int) -> BlockStore | None:
    try:
        return BlockStore(directory, capacity_bytes)
    except (OSError, UsageError, sqlite3.Error) as error:
        log.warning("%s cannot be used (%s): contents are kept in memory only", directory, error)
        return None

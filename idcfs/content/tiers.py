"""The block cache as one: memory above disk. A block is looked for in memory, then on disk, and kept in both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import Replaced
from ..settings import BLOCK_BYTES, MIB
from .blocks import Key, MemoryTier
from .disk import DiskTier

_READ_ON_BLOCKS = 4
"""A disk gives four blocks at once in little more time than one."""
_SIBLINGS_BYTES = 64 * MIB
"""Of memory, from which on first blocks of siblings are read ahead: half of it holds as many as are asked for."""


class Tiers:
    """Where blocks are kept. What is put in must be what is kept of the instance already, in either tier."""

    def __init__(self, memory: MemoryTier, disk: DiskTier) -> None:
        self._memory = memory
        self._disk = disk
        memory.tell_of_evictions(disk.queue.evicted)
        disk.restore_from(memory.get)

    def tell_of_replaced(self, replaced: Callable[[Key], None]) -> None:
        """Call ``replaced`` with an instance that another mount has found to be replaced: all that was read is old."""
        self._disk.tell_of_replaced(replaced)

    @property
    def capacity(self) -> int:
        """Bytes that can be kept in whichever tier keeps more."""
        return max(self._memory.capacity, self._disk.capacity)

    def in_memory(self, key: Key, block: int) -> bytes | None:
        """Block ``block`` of the instance ``key``, if that costs no waiting."""
        data = self._memory.get(key, block)
        if data is not None:
            self._disk.use(key, block, data)
        return data

    async def load(self, key: Key) -> None:
        """Learn what the disk keeps of an instance; ``has`` and ``get`` know it then."""
        await self._disk.load(key)

    def has(self, key: Key, block: int) -> bool:
        """Whether a block seems to be kept; a damaged one shows when it is read."""
        return self._memory.get(key, block) is not None or self._disk.has(key, block)

    def keeps_any(self, key: Key) -> bool:
        """Whether any block of an instance is on disk."""
        return self._disk.keeps_any(key)

    async def get(self, key: Key, block: int) -> bytes | None:
        """A block from disk, which is in memory then too; None if it is not kept, or damaged."""
        data = await self._disk.get(key, block) if self._disk.has(key, block) else None
        if data is not None and not self._disk.queue.is_behind:  # else it would push out what waits to be written
            self._memory.put(key, block, data)
        return data

    async def read_ahead(self, key: Key, block: int) -> None:
        """Have a block in memory that is on disk."""
        if self._memory.get(key, block) is None and not self._disk.queue.is_behind:
            await self.get(key, block)

    async def read_first(self, key: Key) -> None:
        """Have the first block of an instance in memory, if it is on disk and memory has room for its siblings' too."""
        if self._memory.capacity >= _SIBLINGS_BYTES:
            await self.read_ahead(key, 0)

    def next_on_disk(self, key: Key, block: int) -> list[int]:
        """Blocks after ``block`` that are on disk and not in memory: worth reading before they are asked for.

        None where memory has no room for them.
        """
        if self._memory.capacity < 4 * _READ_ON_BLOCKS * BLOCK_BYTES:
            return []
        following = range(block + 1, block + 1 + _READ_ON_BLOCKS)
        return [one for one in following if self._memory.get(key, one) is None and self._disk.has(key, one)]

    def put(self, key: Key, block: int, data: bytes) -> None:
        """Keep a block that has arrived of the instance ``key``; it may be there already, and must then be the same.

        :raises Replaced: if not: the archive has replaced the instance, and old bytes must not be mixed with new ones.
        """
        before = self._memory.get(key, block)
        if before is not None and before != data:
            self.drop(key)
            raise Replaced(f"instance {key[1]}: the archive sends other bytes than it sent before")
        try:
            self._disk.put(key, block, data)
        except Replaced:
            self.drop(key)
            raise
        self._memory.put(key, block, data)

    def room(self) -> Awaitable[None] | None:
        """None; or, if the disk is behind with writing, what waits until it is no longer."""
        return None if self._disk.queue.has_room else self._disk.queue.room()

    async def sync(self) -> None:
        """Return when what has been put by now is on disk, or cannot be."""
        await self._disk.sync()

    def drop(self, key: Key) -> None:
        """Keep nothing of the instance ``key`` any more."""
        self._memory.drop(key)
        self._disk.drop(key)

"""Blocks: what the cache keeps. An instance is cut at every MiB; its last block is as long as what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cachetools import LRUCache

from ..settings import BLOCK_BYTES

Key = tuple[str, str]


class Slice(NamedTuple):
    """Bytes [start, stop) of block ``block``."""

    block: int
    start: int
    stop: int

    @property
    def end(self) -> int:
        """Offset in the instance after the last byte."""
        return self.block * BLOCK_BYTES + self.stop


def block_count(size: int) -> int:
    """How many blocks the first ``size`` bytes of an instance lie in."""
    return -(-size // BLOCK_BYTES)


def slices(offset: int, end: int) -> Iterator[Slice]:
    """The blocks that bytes [offset, end) of an instance lie in."""
    while offset < end:
        block, start = divmod(offset, BLOCK_BYTES)
        stop = min(BLOCK_BYTES, start + end - offset)
        yield Slice(block, start, stop)
        offset += stop - start


class MemoryTier:
    """Whole blocks in memory, least recently used out first, bounded in bytes."""

    def __init__(self, capacity_bytes: int) -> None:
        self._blocks = _Blocks(capacity_bytes, getsizeof=len)

    def tell_of_evictions(self, evicted: Callable[[Key, int], None]) -> None:
        """Call ``evicted`` with each block that has to go for another."""
        self._blocks.evicted = evicted

    @property
    def capacity(self) -> int:
        """Bytes it may keep."""
        return int(self._blocks.maxsize)

    @property
    def size(self) -> int:
        """Bytes kept."""
        return int(self._blocks.currsize)

    def get(self, key: Key, block: int) -> bytes | None:
        """Block ``block`` of the instance ``key``, if it is kept."""
        return self._blocks.get((key, block))

    def put(self, key: Key, block: int, data: bytes) -> None:
        """Keep a block, if it fits at all."""
        if len(data) <= self._blocks.maxsize:
            self._blocks[key, block] = data

    def drop(self, key: Key) -> None:
        """Keep nothing of the instance ``key`` any more."""
        for known in [known for known in self._blocks if known[0] == key]:
            del self._blocks[known]


class _Blocks(LRUCache[tuple[Key, int], bytes]):
    """Tells what it evicts."""

    evicted: Callable[[Key, int], None] | None = None

    def popitem(self) -> tuple[tuple[Key, int], bytes]:
        place, data = super().popitem()
        if self.evicted is not None:
            self.evicted(*place)
        return place, data

"""What a mount knows of what is kept on disk: digests of blocks. No I/O, no waiting.

It may be out of date, since other mounts change the disk too. What is kept and is not known costs a request; what is
known and not kept any more shows when it is read. That nothing is kept is believed for some seconds only.
"""

from __future__ import annotations

from cachetools import LRUCache, TTLCache

from .block_files import NewBlock
from .blocks import Key

KEPT_SECONDS = 10.0
"""How long it is taken for true that other mounts keep nothing more."""
_INSTANCES = 4_000
"""Of which it is remembered what is kept: some 100 bytes a block."""
_SERIES = 32
"""Remembered at once as they were looked up: up to some 200 KB each."""

Digests = dict[int, bytes]
"""By number of the block."""


class Known:
    """Digests of the blocks that are kept, by instance."""

    def __init__(self) -> None:
        self._kept: LRUCache[Key, Digests] = LRUCache(_INSTANCES)
        self._absent: TTLCache[Key, None] = TTLCache(_INSTANCES, KEPT_SECONDS)
        """Instances of which nothing is kept."""
        self._series: TTLCache[str, dict[Key, Digests] | None] = TTLCache(_SERIES, KEPT_SECONDS)
        """By content, as they were looked up; None: too long for that."""
        self._looked_up: str | None = None  # the series that is being looked up, unless a block of it was added since

    def __contains__(self, key: Key) -> bool:
        """Whether it is known what is kept of an instance."""
        return key in self._kept or key in self._absent

    def digest(self, key: Key, block: int) -> bytes | None:
        """Digest of a block, if it is known to be kept."""
        return self._kept.get(key, {}).get(block)

    def keeps_any(self, key: Key) -> bool:
        """Whether any block of an instance is known to be kept."""
        return bool(self._kept.get(key))

    def has_series(self, content: str) -> bool:
        """Whether a series has been looked up lately."""
        return content in self._series

    def begin_look_up(self, content: str) -> None:
        """A series, or an instance of it, is looked up; one at a time is."""
        self._looked_up = content

    @property
    def is_still_so(self) -> bool:
        """Whether what has been looked up holds: no block of that series was added meanwhile."""
        return self._looked_up is not None

    def learn_series(self, content: str, found: dict[Key, Digests] | None) -> None:
        """What is kept of a series; None where each of its instances has to be looked up."""
        self._series[content] = found

    def learn_from_series(self, key: Key) -> bool:
        """Know of an instance what has been found of its series; whether that tells it."""
        found = self._series.get(key[0])
        if found is not None:
            self.learn(key, found.get(key, {}))
        return found is not None

    def learn(self, key: Key, digests: Digests) -> None:
        """What is kept of an instance, unless more is known already: it may have been dropped meanwhile."""
        if key in self:
            return
        if digests:
            self._kept[key] = dict(digests)
        else:
            self._absent[key] = None

    def add(self, block: NewBlock) -> None:
        """A block is kept now."""
        if block.key[0] == self._looked_up:
            self._looked_up = None
        if block.key in self:
            self._kept.setdefault(block.key, {})[block.number] = block.digest
            self._absent.pop(block.key, None)
        else:  # there may be more of the instance
            self._series.pop(block.key[0], None)

    def forget(self, key: Key, block: int) -> None:
        """A block is kept no longer."""
        self._kept.get(key, {}).pop(block, None)

    def drop(self, key: Key) -> None:
        """Nothing of an instance is kept any more."""
        self._kept[key] = {}
        self._series.pop(key[0], None)

    def doubt(self, key: Key) -> None:
        """Another mount has replaced what is kept of an instance: it has to be looked up again."""
        self._kept.pop(key, None)
        self._series.pop(key[0], None)

    def clear(self) -> None:
        """Know nothing."""
        for memory in (self._kept, self._absent, self._series):
            memory.clear()

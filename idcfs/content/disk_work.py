"""What is to be done to the disk cache, and what has become of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from .block_files import NewBlock
from .blocks import Key
from .disk_index import Row


class Miss(Enum):
    """Why a block that is known has no bytes."""

    ABSENT = auto()
    DAMAGED = auto()
    REPLACED = auto()  # another mount has found that the archive has other bytes now
    UNREADABLE = auto()  # perhaps later: too many open files, say


@dataclass(slots=True)
class Work:
    """What has gathered, in the order in which it is done."""

    drops: set[Key] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    """Names of blocks whose files were not there."""
    used: dict[bytes, tuple[Key, int]] = field(default_factory=dict)
    """Blocks by name, last used last."""
    blocks: dict[tuple[Key, int], NewBlock] = field(default_factory=dict)
    size: int = 0
    """Bytes of data in ``blocks``."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.drops or self.lost or self.used or self.blocks)

    def add(self, block: NewBlock) -> None:
        """Keep ``block``; there is none of its number."""
        self.blocks[block.key, block.number] = block
        self.size += len(block.data)

    def use(self, name: bytes, key: Key, number: int) -> None:
        """The block ``name`` has been used just now."""
        self.used.pop(name, None)
        self.used[name] = key, number

    def drop(self, key: Key) -> None:
        """Keep nothing of the instance ``key``."""
        for place in [place for place in self.blocks if place[0] == key]:
            self.size -= len(self.blocks.pop(place).data)
        self.drops.add(key)

    def take(self, enough_bytes: int) -> Work:
        """Move out what is to be done next: everything, but of the blocks only the first that are enough."""
        taken = Work(self.drops, self.lost, self.used)
        self.drops, self.lost, self.used = set(), set(), {}
        while self.blocks and taken.size < enough_bytes:
            block = self.blocks.pop(next(iter(self.blocks)))
            self.size -= len(block.data)
            taken.add(block)
        return taken


@dataclass(slots=True)
class Outcome:
    """What has become of it."""

    has_dropped: bool = False
    kept: list[NewBlock] = field(default_factory=list)
    gone: list[Row] = field(default_factory=list)
    """Blocks that were evicted, or belonged to an instance that has been replaced."""
    absent: list[tuple[Key, int]] = field(default_factory=list)
    """Blocks that have been used and are not kept (any more)."""
    has_more: bool = False
    """More is to be evicted."""

"""Nodes: what an inode number means, by arithmetic.

A node is (level, row, ordinal) packed into 63 bits::

    62   60 59                        24 23                 0
    ┌──────┬────────────────────────────┬────────────────────┐
    │level │ row of the sorted catalog  │ ordinal            │
    └──────┴────────────────────────────┴────────────────────┘

A directory is named by the *first* row of the series below it; an instance by its series' row and its ordinal in the
sorted listing. So no table per inode is needed, whatever ``find`` does, ``forget`` has nothing to do, and numbers are
the same after a remount with the same index and layout. Level 0 is the root (1, as FUSE wants it) and the hidden files
beside it.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

_ORDINAL_BITS = 24  # 16.7 M instances in a series; the largest in IDC v25 has 91,980
_ROW_BITS = 36
MAX_ORDINAL = (1 << _ORDINAL_BITS) - 1

ROOT_INODE = 1


class Level(enum.IntEnum):
    """What a node is. Between root and series lie as many levels as the layout has (``Catalog.below``).

    COLLECTION, PATIENT and STUDY are what these are in the default layout.
    """

    ROOT = 0
    COLLECTION = 1
    PATIENT = 2
    STUDY = 3
    FOURTH = 4
    FIFTH = 5
    SERIES = 6
    INSTANCE = 7


_LEVELS = tuple(Level)


class Node(NamedTuple):
    """One directory or file."""

    level: Level
    row: int
    ordinal: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether the node holds other nodes."""
        return Level.ROOT < self.level < Level.INSTANCE or self == ROOT


ROOT = Node(Level.ROOT, 0, ROOT_INODE)
STATUS = Node(Level.ROOT, 0, 2)
"""The hidden ``/.status.json``."""
BULK = Node(Level.ROOT, 0, 3)
"""The hidden ``/.bulk``."""


def inode_of(level: int, row: int, ordinal: int = 0) -> int:
    """The inode number of a node."""
    return level << (_ROW_BITS + _ORDINAL_BITS) | row << _ORDINAL_BITS | ordinal


def node_of(inode: int) -> Node:
    """The node behind an inode number that ``inode_of`` made."""
    level = _LEVELS[inode >> (_ROW_BITS + _ORDINAL_BITS)]
    return Node(level, inode >> _ORDINAL_BITS & ((1 << _ROW_BITS) - 1), inode & MAX_ORDINAL)

"""Nodes: what an inode number means, by arithmetic.

A node is (view, level, row, ordinal) packed into 63 bits::

    62   59 58   56 55                     24 23                 0
    ┌──────┬───────┬─────────────────────────┬────────────────────┐
    │view  │level  │row of the sorted catalog│ordinal             │
    └──────┴───────┴─────────────────────────┴────────────────────┘

A directory is named by the *first* row of the series below it; an instance by its series' row and its ordinal in the
sorted listing. So no table per inode is needed, whatever ``find`` does, ``forget`` has nothing to do, and numbers are
the same after a remount with the same index and layout. View 0 is the tree itself, whose root is 1, as FUSE wants it;
the others hang below a hidden name of the root, and show the same series and instances as something else.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

_ORDINAL_BITS = 24  # 16.7 M instances in a series; the largest in IDC v25 has 91,980
_ROW_BITS = 32
_LEVEL_BITS = 3
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


class View(enum.IntEnum):
    """What a node is shown as."""

    TREE = 0
    OWN = 1
    """Files of idcfs itself."""
    UID = 2
    """Links named by UIDs."""
    INDEX = 3
    """The index itself, as files."""
    METADATA = 4
    """DICOM JSON."""
    RENDERED = 5
    """Pictures."""


_LEVELS = tuple(Level)
_VIEWS = tuple(View)


class Node(NamedTuple):
    """One directory, file or link."""

    level: Level
    row: int
    ordinal: int = 0
    view: View = View.TREE

    @property
    def is_directory(self) -> bool:
        """Whether a node of the tree holds other nodes."""
        return Level.ROOT < self.level < Level.INSTANCE or self == ROOT

    def shown_as(self, view: View) -> Node:
        """The same in another view."""
        return self._replace(view=view)


ROOT = Node(Level.ROOT, 0, ROOT_INODE)
"""Of the tree. That of each other view differs in nothing else."""


def inode_of(level: int, row: int, ordinal: int = 0, view: int = View.TREE) -> int:
    """The inode number of a node."""
    return (view << _LEVEL_BITS | level) << (_ROW_BITS + _ORDINAL_BITS) | row << _ORDINAL_BITS | ordinal


def node_of(inode: int) -> Node:
    """The node behind an inode number that ``inode_of`` made."""
    kind = inode >> (_ROW_BITS + _ORDINAL_BITS)
    row = inode >> _ORDINAL_BITS & ((1 << _ROW_BITS) - 1)
    return Node(_LEVELS[kind & ((1 << _LEVEL_BITS) - 1)], row, inode & MAX_ORDINAL, _VIEWS[kind >> _LEVEL_BITS])

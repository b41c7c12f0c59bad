"""What a view of the archive has to offer. The tree of collections, patients, studies and series is one (``tree.py``);
the others hang below hidden names of its root."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..errors import IsADirectory, NotADirectory, NotALink
from ..files import File
from ..namespace.nodes import Node, inode_of


class Kind(enum.Enum):
    """What ``stat`` tells a node is."""

    DIRECTORY = enum.auto()
    FILE = enum.auto()
    LINK = enum.auto()


class Attributes(NamedTuple):
    """What ``stat`` says of a node."""

    inode: int
    kind: Kind
    size: int
    """Bytes; 0 for directories, whose blocks would spoil ``du``."""
    blocks: int
    """Units of 512 bytes."""
    modified: int
    """Seconds since the epoch."""
    lasting: bool
    """Whether this will not change while the mount lives."""


Entry = tuple[bytes, Attributes, int]
"""(name, attributes, where the next entry starts)"""


class Directory(Protocol):
    """A directory as it was when it was opened."""

    def entries(self, start: int) -> Iterator[Entry]:
        """Entries from position ``start`` on: 0 for the first, then what an entry gave as its next."""


class EmptyDirectory:
    """One that lists nothing."""

    def entries(self, start: int) -> Iterator[Entry]:
        return iter(())


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening a node gives."""

    file: File
    resized: bool = False
    """The size that ``stat`` gave before has become exact: cached attributes are out of date."""
    live: bool = False
    """The content is made at opening, and its size with it: nothing of it may be cached."""
    replaced: bool = False
    """Other bytes have come than before, or may have: what is cached of it may be of either kind."""


class SideView(Protocol):
    """One view. Every method raises IdcfsError for what cannot be had."""

    @property
    def roots(self) -> Mapping[bytes, Node]:
        """What of it is in the root, by its name there."""

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        """The child of ``parent`` called ``name``, or None."""

    async def attributes(self, node: Node) -> Attributes:
        """What ``stat`` says of ``node``."""

    async def directory(self, node: Node) -> Directory:
        """``node`` as it is to be listed."""

    async def open(self, node: Node) -> Opening:
        """The content of ``node``, its exact size known."""

    async def target(self, node: Node) -> bytes:
        """Where the link ``node`` leads."""


def not_a_directory(node: Node) -> NotADirectory:
    """What is wrong where ``node`` is taken for a directory."""
    return NotADirectory(f"inode {inode_of(*node)} is not a directory")


def not_a_file(node: Node) -> IsADirectory:
    """What is wrong where ``node`` is taken for a file."""
    return IsADirectory(f"inode {inode_of(*node)} is not a file")


def not_a_link(node: Node) -> NotALink:
    """What is wrong where ``node`` is taken for a link."""
    return NotALink(f"inode {inode_of(*node)} is not a link")

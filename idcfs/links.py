"""``/.uid/<UID>``: links from the UID of a study or series to its place. They are not listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .errors import IsADirectory, NotADirectory, NotALink
from .namespace.catalog import Catalog
from .namespace.nodes import ROOT, Level, Node, View, inode_of
from .settings import UID_NAME
from .tree import Tree
from .views import Attributes, Directory, EmptyDirectory, Kind, Opening

_UP = b"../"
_ROOT = ROOT.shown_as(View.UID)


class UidLinks:
    """Links named by UIDs: ``views.SideView``. A link is the node of the tree that it leads to, shown as another."""

    roots: ClassVar[Mapping[bytes, Node]] = {UID_NAME.encode(): _ROOT}

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        if parent != _ROOT:
            raise NotADirectory(f"inode {inode_of(*parent)} is not a directory")
        catalog = await self._tree.catalog()
        uid = name.decode(errors="replace")
        if rows := catalog.rows_of("SeriesInstanceUID", uid):
            return Node(Level.SERIES, rows[0], view=View.UID)
        rows = catalog.rows_of("StudyInstanceUID", uid)
        place = _place_of_study(catalog, rows[0], rows[-1]) if rows else ROOT
        return None if place == ROOT else place.shown_as(View.UID)

    async def attributes(self, node: Node) -> Attributes:
        if node == _ROOT:
            return Attributes(inode_of(*node), Kind.DIRECTORY, 0, 0, self._tree.newest(), lasting=True)
        size = len(await self.target(node))
        return Attributes(inode_of(*node), Kind.LINK, size, 0, self._tree.newest(), lasting=True)

    async def directory(self, node: Node) -> Directory:
        if node != _ROOT:
            raise NotADirectory(f"inode {inode_of(*node)} is not a directory")
        return EmptyDirectory()

    async def open(self, node: Node) -> Opening:
        raise IsADirectory(f"inode {inode_of(*node)} cannot be opened")

    async def target(self, node: Node) -> bytes:
        if node == _ROOT:
            raise NotALink(f"inode {inode_of(*node)} is not a link")
        return _UP + await self._tree.path(node.shown_as(View.TREE))


def _place_of_study(catalog: Catalog, first: int, last: int) -> Node:
    """The deepest directory above the series that holds all of a study, whose series are between two rows; the root, if
    no other does."""
    level, place = Level.ROOT, ROOT
    while (level := catalog.below(level)) != Level.SERIES and last < catalog.end(level, first):
        place = Node(level, catalog.first(level, first))
    return place

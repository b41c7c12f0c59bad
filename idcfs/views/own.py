"""The files of idcfs itself: hidden, directly in the root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from ..files import Snapshot
from ..namespace.nodes import Level, Node, View, inode_of
from ..settings import BULK_NAME, STATUS_NAME
from .tree import Tree
from .view import Attributes, Directory, Kind, Opening, not_a_directory, not_a_link

_STATUS = Node(Level.ROOT, 0, 2, View.OWN)
_BULK = Node(Level.ROOT, 0, 3, View.OWN)


class OwnFiles:
    """``/.status.json`` and ``/.bulk``: ``view.SideView``."""

    roots: ClassVar[Mapping[bytes, Node]] = {STATUS_NAME.encode(): _STATUS, BULK_NAME.encode(): _BULK}

    def __init__(
        self,
        tree: Tree,
        status: Callable[[], bytes],
        begin_bulk: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        """
        :param status: makes the content of ``/.status.json``.
        :param begin_bulk: called when ``/.bulk`` is opened; what it returns, when it is closed again.
        """
        self._tree = tree
        self._status = status
        self._begin_bulk = begin_bulk

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        raise not_a_directory(parent)

    async def attributes(self, node: Node) -> Attributes:
        size = len(self._status()) if node == _STATUS else 0
        return Attributes(inode_of(*node), Kind.FILE, size, 0, self._tree.newest(), lasting=False)

    async def directory(self, node: Node) -> Directory:
        raise not_a_directory(node)

    async def open(self, node: Node) -> Opening:
        if node == _STATUS:
            return Opening(Snapshot(self._status()), live=True)
        return Opening(Snapshot(b"", self._begin_bulk()), live=True)

    async def target(self, node: Node) -> bytes:
        raise not_a_link(node)

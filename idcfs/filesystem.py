"""The filesystem, without the kernel: nodes and handles in, names, attributes and bytes out.

Everything a mount promises is decided here and below; ``fuse.py`` only translates. So it can be tested without a mount,
and given another face than the kernel's.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from .files import File
from .namespace.nodes import ROOT, Node, View, node_of
from .stats import Stats
from .views.tree import Totals, Tree
from .views.view import Attributes, Directory, Entry, SideView


class Opened(NamedTuple):
    """What ``open`` gives: ``view.Opening``, with a handle for its file."""

    handle: int
    resized: bool
    live: bool
    replaced: bool


class Filesystem:
    """Lookup, attributes, directories and contents of one archive: handles, and which view each node belongs to."""

    def __init__(
        self, tree: Tree, side_views: Sequence[SideView], stats: Stats, sync: Callable[[], Awaitable[None]]
    ) -> None:
        """
        :param sync: returns when what has been fetched and learnt by then is on disk.
        """
        self._tree = tree
        self._sync = sync
        self._hidden = {name: node for view in side_views for name, node in view.roots.items()}
        self._views: dict[View, SideView] = {View.TREE: tree}
        self._views |= {node.view: view for view in side_views for node in view.roots.values()}
        self._numbers = itertools.count(1)
        self._directories: dict[int, Directory] = {}
        self._files: dict[int, File] = {}
        stats.gauge("open_files", lambda: len(self._files))
        stats.gauge("open_directories", lambda: len(self._directories))

    # --- names and attributes ----------------------------------------------------------------------------------------

    async def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """The child of ``parent`` called ``name``, or None.

        :raises IdcfsError: if the listing that would tell cannot be had.
        """
        node = node_of(parent)
        child = self._hidden.get(name) if node == ROOT else None
        child = child or await self._view(node).lookup(node, name)
        return None if child is None else await self._view(child).attributes(child)

    async def getattr(self, inode: int) -> Attributes:
        """Attributes of a node.

        :raises IdcfsError: if the listing that would tell cannot be had.
        """
        node = node_of(inode)
        return await self._view(node).attributes(node)

    async def readlink(self, inode: int) -> bytes:
        """Where a link leads.

        :raises IdcfsError: if it is none, or that cannot be told.
        """
        node = node_of(inode)
        return await self._view(node).target(node)

    async def xattr(self, inode: int, name: bytes) -> bytes | None:
        """The extended attribute ``name`` of a node, if it has it; what is hidden has none.

        :raises IdcfsError: if there is no such node.
        """
        node = node_of(inode)
        return await self._tree.xattr(node, name) if node.view == View.TREE else None

    async def xattrs(self, inode: int) -> dict[bytes, bytes]:
        """All extended attributes of a node.

        :raises IdcfsError: if there is no such node.
        """
        node = node_of(inode)
        return await self._tree.xattrs(node) if node.view == View.TREE else {}

    def totals(self) -> Totals:
        """Sums over the whole index; of a searched archive, over what has been listed."""
        return self._tree.totals()

    # --- directories -------------------------------------------------------------------------------------------------

    async def opendir(self, inode: int) -> int:
        """Freeze the view of a directory; returns its handle.

        :raises IdcfsError: if its listing cannot be had.
        """
        node = node_of(inode)
        directory = await self._view(node).directory(node)
        handle = next(self._numbers)
        self._directories[handle] = directory
        return handle

    def readdir(self, handle: int, start: int) -> Iterator[Entry]:
        """Entries from position ``start`` on: 0 for the first, then what an entry gave as its next."""
        return self._directories[handle].entries(start)

    def releasedir(self, handle: int) -> None:
        """Let go of a directory."""
        del self._directories[handle]

    async def sync(self) -> None:
        """Return when what has been fetched and learnt by now is on disk; contents may not have found room there.

        :raises IdcfsError: if lists and sizes cannot be kept.
        """
        await self._sync()

    # --- files -------------------------------------------------------------------------------------------------------

    async def open(self, inode: int) -> Opened:
        """Open a file; returns once its exact size is known.

        :raises IdcfsError: if it cannot be.
        """
        node = node_of(inode)
        opening = await self._view(node).open(node)
        handle = next(self._numbers)
        self._files[handle] = opening.file
        return Opened(handle, opening.resized, opening.live, opening.replaced)

    async def read(self, handle: int, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length) of an open file, fewer only at its end.

        :raises IdcfsError: if they cannot be had; never fewer bytes instead.
        """
        return await self._files[handle].read(offset, length)

    def release(self, handle: int) -> None:
        """Let go of a file."""
        self._files.pop(handle).close()

    def _view(self, node: Node) -> SideView:
        return self._views[node.view]

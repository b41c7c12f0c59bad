"""The filesystem, without the kernel: nodes and handles in, names, attributes and bytes out.

Everything a mount promises is decided here and below; ``fuse.py`` only translates. So it can be tested without a mount,
and given another face than the kernel's.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

import trio

from .content.prefetch import Prefetcher
from .content.reader import Reader
from .errors import IdcfsError, IsADirectory, NotADirectory, NotFound
from .files import File, InstanceFile, SeriesContent, Snapshot
from .flight import SingleFlight
from .namespace.catalog import Catalog
from .namespace.listing import Listing, Listings
from .namespace.nodes import BULK, ROOT, STATUS, Level, Node, inode_of, node_of
from .settings import BULK_NAME, STATUS_NAME
from .stats import Stats

HIDDEN = {STATUS_NAME.encode(): STATUS, BULK_NAME.encode(): BULK}
"""Files at the root that are not listed."""


class Attributes(NamedTuple):
    """What ``stat`` says of a node."""

    inode: int
    is_directory: bool
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


class Opened(NamedTuple):
    """What ``open`` gives."""

    handle: int
    resized: bool
    """The size that ``stat`` gave before has become exact: cached attributes are out of date."""
    live: bool
    """The content is made at opening, and its size with it: nothing of it may be cached."""
    replaced: bool = False
    """Other bytes have come than before, or may have: what is cached of it may be of either kind."""


class Totals(NamedTuple):
    """What ``statfs`` says."""

    size: int
    """Bytes of all series of the index."""
    instances: int


class _Directory(Protocol):
    def entries(self, start: int) -> Iterator[Entry]: ...


class Filesystem:
    """Lookup, attributes, directories and contents of one archive."""

    def __init__(
        self,
        catalog: Catalog,
        listings: Listings,
        reader: Reader,
        prefetcher: Prefetcher,
        stats: Stats,
        nursery: trio.Nursery,
        *,
        status: Callable[[], bytes],
        search: Callable[[], Awaitable[Catalog]] | None = None,
        begin_bulk: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        """
        :param begin_bulk: called when ``/.bulk`` is opened; what it returns, when it is closed again.
        :param status: makes the content of ``/.status.json``.
        :param search: makes the real catalog when somebody first looks below the collection that ``catalog`` names; or
            into the root, if it names none.
        """
        self._catalog = catalog
        self._listings = listings
        self._reader = reader
        self._prefetcher = prefetcher
        self._status = status
        self._search = search
        self._begin_bulk = begin_bulk
        self._searches: SingleFlight[str, Catalog | None] = SingleFlight(nursery)
        self._numbers = itertools.count(1)
        self._directories: dict[int, _Directory] = {}
        self._files: dict[int, File] = {}
        stats.gauge("open_files", lambda: len(self._files))

    # --- names and attributes ----------------------------------------------------------------------------------------

    async def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """The child of ``parent`` called ``name``, or None.

        :raises IdcfsError: if the listing that would tell cannot be had.
        """
        node = node_of(parent)
        if node == ROOT and name in HIDDEN:
            return self._hidden_attributes(HIDDEN[name])
        if not node.is_directory:
            raise NotADirectory(f"inode {parent} is not a directory")
        if node.level == Level.SERIES:
            listing = await self._listing(node.row)
            ordinal = listing.find(name)
            return None if ordinal is None else self._instance(node.row, listing, ordinal)
        catalog = await self._catalog_below(node)
        child = catalog.find(node.level, node.row, name) if catalog else None
        return None if child is None or not catalog else _directory(catalog, catalog.below(node.level), child)

    async def getattr(self, inode: int) -> Attributes:
        """Attributes of a node.

        :raises IdcfsError: if the listing that would tell cannot be had.
        """
        node = node_of(inode)
        if node in (STATUS, BULK):
            return self._hidden_attributes(node)
        if node.level == Level.INSTANCE:
            listing = await self._listing(node.row)
            return self._instance(node.row, listing, _existing(listing, node))
        return _directory(self._catalog, node.level, node.row)

    def totals(self) -> Totals:
        """Sums over the whole index; of a searched archive, over what has been listed."""
        return Totals(self._catalog.total_bytes, self._catalog.total_instances)

    # --- directories -------------------------------------------------------------------------------------------------

    async def opendir(self, inode: int) -> int:
        """Freeze the view of a directory; returns its handle.

        :raises IdcfsError: if its listing cannot be had.
        """
        node = node_of(inode)
        if not node.is_directory:
            raise NotADirectory(f"inode {inode} is not a directory")
        view: _Directory
        if node.level == Level.SERIES:
            view = _SeriesView(self, node.row, await self._listing(node.row))
        else:
            catalog = await self._catalog_below(node)
            view = _CatalogView(catalog, node) if catalog else _EmptyView()
        handle = next(self._numbers)
        self._directories[handle] = view
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
        await self._reader.sync()
        if not await self._listings.sync():
            raise IdcfsError("lists and sizes cannot be kept on disk")

    # --- files -------------------------------------------------------------------------------------------------------

    async def open(self, inode: int) -> Opened:
        """Open a file; returns once its exact size is known.

        :raises IdcfsError: if it cannot be.
        """
        node = node_of(inode)
        if node == STATUS:
            return Opened(self._keep(Snapshot(self._status())), resized=False, live=True)
        if node == BULK:
            return Opened(self._keep(Snapshot(b"", self._begin_bulk())), resized=False, live=True)
        if node.is_directory:
            raise IsADirectory(f"inode {inode} is a directory")
        listing = await self._listing(node.row)
        ordinal = _existing(listing, node)
        file = InstanceFile(self._reader, self._prefetcher, SeriesContent(node.row, listing, self._listings), ordinal)
        try:
            await file.prepare()
        except BaseException:
            file.close()
            raise
        resized, is_void = listing.announce(ordinal), file.has_void_pages()
        return Opened(self._keep(file), resized=resized, live=False, replaced=is_void)

    async def read(self, handle: int, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length) of an open file, fewer only at its end.

        :raises IdcfsError: if they cannot be had; never fewer bytes instead.
        """
        return await self._files[handle].read(offset, length)

    def release(self, handle: int) -> None:
        """Let go of a file."""
        self._files.pop(handle).close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _keep(self, file: File) -> int:
        handle = next(self._numbers)
        self._files[handle] = file
        return handle

    async def _catalog_below(self, node: Node) -> Catalog | None:
        """The catalog that holds the children of ``node``; None while the archive lists nothing."""
        if self._search is None or (node == ROOT and self._catalog.rows):
            return self._catalog
        return await self._searches.run("catalog", partial(self._look, self._search))

    async def _look(self, search: Callable[[], Awaitable[Catalog]]) -> Catalog | None:
        """Search, once with success: the catalog found is the one from then on."""
        found = await search()
        if not found.rows:
            return None
        self._catalog, self._search = found, None
        return found

    async def _listing(self, row: int) -> Listing:
        return self._listings.kept(row) or await self._listings.get(row, self._catalog.series(row))

    def _instance(self, row: int, listing: Listing, ordinal: int) -> Attributes:
        size = listing.size(ordinal)
        return Attributes(
            inode=inode_of(Level.INSTANCE, row, ordinal),
            is_directory=False,
            size=size.size,
            blocks=size.blocks,
            modified=self._catalog.revised_time(Level.SERIES, row),
            lasting=size.exact,
        )

    def _hidden_attributes(self, node: Node) -> Attributes:
        size = len(self._status()) if node == STATUS else 0
        return Attributes(inode_of(*node), False, size, 0, self._catalog.revised_time(Level.ROOT, 0), lasting=False)


class _CatalogView:
    """A directory above the series: a run of catalog rows. Positions are rows, so they need no table."""

    def __init__(self, catalog: Catalog, node: Node) -> None:
        self._catalog = catalog
        self._node = node

    def entries(self, start: int) -> Iterator[Entry]:
        level = self._catalog.below(self._node.level)
        for name, row, after in self._catalog.children(self._node.level, self._node.row, start):
            yield name, _directory(self._catalog, level, row), after


class _SeriesView:
    """The instances of a series, as they were when the directory was opened."""

    def __init__(self, filesystem: Filesystem, row: int, listing: Listing) -> None:
        self._filesystem = filesystem
        self._row = row
        self._listing = listing

    def entries(self, start: int) -> Iterator[Entry]:
        for ordinal in range(start, len(self._listing)):
            attributes = self._filesystem._instance(self._row, self._listing, ordinal)
            yield self._listing.names[ordinal], attributes, ordinal + 1


class _EmptyView:
    def entries(self, start: int) -> Iterator[Entry]:
        return iter(())


def _directory(catalog: Catalog, level: int, row: int) -> Attributes:
    inode = inode_of(level, row) if level else inode_of(*ROOT)
    return Attributes(inode, True, 0, 0, catalog.revised_time(level, row), lasting=True)


def _existing(listing: Listing, node: Node) -> int:
    if node.ordinal >= len(listing):
        raise NotFound(f"series {listing.series.series_uid} has no instance number {node.ordinal}")
    return node.ordinal

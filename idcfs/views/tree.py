"""The tree: collections, patients, studies and series from the catalog, instances from listings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import trio

from ..content.prefetch import Prefetcher
from ..content.reader import Reader
from ..files import InstanceFile, SeriesContent
from ..flight import SingleFlight
from ..namespace.catalog import Catalog, Series
from ..namespace.listing import Listing, Listings
from ..namespace.nodes import ROOT, Level, Node, inode_of
from .view import (
    Attributes,
    Directory,
    EmptyDirectory,
    Entry,
    Kind,
    Opening,
    not_a_directory,
    not_a_file,
    not_a_link,
)
from .xattrs import Facts, IndexFacts, encoded

_MOST_CACHED = 1_000
"""Files of a series of which it is added up what is cached: 1 ms each, where that has to be looked up."""


class Totals(NamedTuple):
    """What ``statfs`` says."""

    size: int
    """Bytes of all series of the index."""
    instances: int


class Tree:
    """One archive's series and instances: ``view.SideView``."""

    roots: ClassVar[Mapping[bytes, Node]] = {}

    def __init__(
        self,
        catalog: Catalog,
        listings: Listings,
        reader: Reader,
        prefetcher: Prefetcher,
        nursery: trio.Nursery,
        search: Callable[[], Awaitable[Catalog]] | None = None,
    ) -> None:
        """
        :param search: makes the real catalog when somebody first looks below the collection that ``catalog`` names; or
            into the root, if it names none.
        """
        self._catalog = catalog
        self._listings = listings
        self._reader = reader
        self._prefetcher = prefetcher
        self._search = search
        self._facts = IndexFacts()
        self._searches: SingleFlight[str, Catalog | None] = SingleFlight(nursery)

    # --- a view ------------------------------------------------------------------------------------------------------

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        if not parent.is_directory:
            raise not_a_directory(parent)
        if parent.level == Level.SERIES:
            ordinal = (await self.listing(parent.row)).find(name)
            return None if ordinal is None else Node(Level.INSTANCE, parent.row, ordinal)
        catalog = await self._catalog_below(parent)
        child = catalog.find(parent.level, parent.row, name) if catalog else None
        return None if child is None or not catalog else Node(catalog.below(parent.level), child)

    async def attributes(self, node: Node) -> Attributes:
        if node.level == Level.INSTANCE:
            listing = await self.listing(node.row)
            return self.instance_attributes(node.row, listing, listing.checked(node.ordinal))
        return _directory(self._catalog, node.level, node.row)

    async def directory(self, node: Node) -> Directory:
        if not node.is_directory:
            raise not_a_directory(node)
        if node.level == Level.SERIES:
            return _SeriesDirectory(self, node.row, await self.listing(node.row))
        catalog = await self._catalog_below(node)
        return _CatalogDirectory(catalog, node) if catalog else EmptyDirectory()

    async def open(self, node: Node) -> Opening:
        if node.is_directory:
            raise not_a_file(node)
        listing = await self.listing(node.row)
        ordinal = listing.checked(node.ordinal)
        file = InstanceFile(self._reader, self._prefetcher, SeriesContent(node.row, listing, self._listings), ordinal)
        try:
            await file.prepare()
        except BaseException:
            file.close()
            raise
        return Opening(file, resized=listing.announce(ordinal), replaced=file.has_void_pages())

    async def target(self, node: Node) -> bytes:
        raise not_a_link(node)

    async def xattr(self, node: Node, name: bytes) -> bytes | None:
        """The extended attribute ``name`` of ``node``, if it has it; no request is sent for it."""
        indexed = await self._indexed_xattrs(node)
        return indexed[name] if name in indexed else (await self._found_xattrs(node)).get(name)

    async def xattrs(self, node: Node) -> dict[bytes, bytes]:
        """All extended attributes of ``node``; no request is sent for them."""
        return await self._indexed_xattrs(node) | await self._found_xattrs(node)

    # --- for the views beside it -------------------------------------------------------------------------------------

    def totals(self) -> Totals:
        """Sums over the whole index; of a searched archive, over what has been listed."""
        return Totals(self._catalog.total_bytes, self._catalog.total_instances)

    def newest(self) -> int:
        """When anything was last revised, in seconds since the epoch."""
        return self._catalog.revised_time(Level.ROOT, 0)

    async def catalog(self) -> Catalog:
        """The catalog with every series in it.

        :raises IdcfsError: if the archive has to be asked and cannot be.
        """
        return await self._searched() or self._catalog

    def catalog_at_hand(self) -> Catalog:
        """The catalog as far as it is known without a request."""
        return self._catalog

    async def listing(self, row: int) -> Listing:
        """The instances of the series at ``row``.

        :raises IdcfsError: if they cannot be had.
        """
        return self._listings.kept(row) or await self._listings.get(row, self._catalog.series(row))

    async def listing_at_hand(self, row: int) -> Listing | None:
        """The same, if no request is needed for it."""
        return await self._listings.at_hand(row, self._catalog.series(row))

    def instance_attributes(self, row: int, listing: Listing, ordinal: int) -> Attributes:
        """What ``stat`` says of an instance of the series at ``row``."""
        size = listing.size(ordinal)
        return Attributes(
            inode=inode_of(Level.INSTANCE, row, ordinal),
            kind=Kind.FILE,
            size=size.size,
            blocks=size.blocks,
            modified=self._catalog.revised_time(Level.SERIES, row),
            lasting=size.exact,
        )

    def has(self, node: Node, name: bytes) -> bool:
        """Whether ``node``, a directory above the series that has been listed, has one called ``name``."""
        return self._catalog.find(node.level, node.row, name) is not None

    def series(self, row: int) -> Series:
        """The series at ``row``."""
        return self._catalog.series(row)

    async def rows_listing(self, instance_uid: str) -> Sequence[int]:
        """Series of whose lists, as far as any are kept, one had that instance."""
        if rows := self._listings.rows_listing(instance_uid):
            return rows
        contents = await self._listings.contents_listing(instance_uid)
        return [row for content in contents for row in self._rows_of_content(content)]

    def _rows_of_content(self, content: str) -> Sequence[int]:
        rows = self._catalog.rows_of_content(content)
        return rows or self._catalog.rows_of("SeriesInstanceUID", content.rpartition("/")[2])

    def content(self, row: int) -> str:
        """What names the content of the series at ``row``, in caches that outlive mounts."""
        return self._listings.content_of(self.series(row))

    async def path(self, node: Node) -> bytes:
        """Where ``node`` is, from the root.

        :raises IdcfsError: if it is an instance and its listing cannot be had.
        """
        if node.level != Level.INSTANCE:
            return b"/".join(self._catalog.path(node.level, node.row))
        listing = await self.listing(node.row)
        return b"/".join((*self._catalog.path(Level.SERIES, node.row), listing.names[listing.checked(node.ordinal)]))

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _catalog_below(self, node: Node) -> Catalog | None:
        """The catalog that holds the children of ``node``; None while the archive lists nothing."""
        if node == ROOT and self._catalog.rows:
            return self._catalog
        return await self._searched()

    async def _searched(self) -> Catalog | None:
        if self._search is None:
            return self._catalog
        return await self._searches.run("catalog", partial(self._look, self._search))

    async def _look(self, search: Callable[[], Awaitable[Catalog]]) -> Catalog | None:
        """Search, once with success: the catalog found is the one from then on."""
        found = await search()
        if not found.rows:
            return None
        self._catalog, self._search = found, None
        return found

    async def _indexed_xattrs(self, node: Node) -> dict[bytes, bytes]:
        if self._search is None:
            return await self._facts.of(self._catalog, node.level, node.row)
        # Of the one collection nothing but its name is known yet.
        return encoded({} if node == ROOT else {"collection_id": self._catalog.value("collection_id", node.row)})

    async def _found_xattrs(self, node: Node) -> dict[bytes, bytes]:
        """What tells one file from another, and what is cached: as long as the names of the series are in memory."""
        listing = self._listings.kept(node.row) if node.level >= Level.SERIES else None
        if listing is None:
            return {}
        content = SeriesContent(node.row, listing, self._listings)
        if node.level == Level.INSTANCE:
            ordinal = listing.checked(node.ordinal)
            return encoded(await self._file_facts(content, ordinal))
        if len(content) > _MOST_CACHED:
            return {}
        cached = [await self._cached_bytes(content, ordinal) for ordinal in range(len(content))]
        return encoded({"cached_bytes": str(sum(cached))})

    async def _file_facts(self, content: SeriesContent, ordinal: int) -> Facts:
        return {
            "instance_uid": content.listing.instance_uid(ordinal),
            "size_bytes": str(content.size(ordinal)),
            "size_exact": "false" if content.exact_size(ordinal) is None else "true",
            "cached_bytes": str(await self._cached_bytes(content, ordinal)),
        }

    async def _cached_bytes(self, content: SeriesContent, ordinal: int) -> int:
        """What of a file is cached; nothing, if its size has to be asked for before any of it can be read."""
        size = content.exact_size(ordinal)
        return 0 if size is None else await self._reader.cached_bytes(content.instance(ordinal), size)


class _CatalogDirectory:
    """A directory above the series: a run of catalog rows. Positions are rows, so they need no table."""

    def __init__(self, catalog: Catalog, node: Node) -> None:
        self._catalog = catalog
        self._node = node

    def entries(self, start: int) -> Iterator[Entry]:
        level = self._catalog.below(self._node.level)
        for name, row, after in self._catalog.children(self._node.level, self._node.row, start):
            yield name, _directory(self._catalog, level, row), after


class _SeriesDirectory:
    """The instances of a series, as they were when the directory was opened."""

    def __init__(self, tree: Tree, row: int, listing: Listing) -> None:
        self._tree = tree
        self._row = row
        self._listing = listing

    def entries(self, start: int) -> Iterator[Entry]:
        for ordinal in range(start, len(self._listing)):
            attributes = self._tree.instance_attributes(self._row, self._listing, ordinal)
            yield self._listing.names[ordinal], attributes, ordinal + 1


def _directory(catalog: Catalog, level: int, row: int) -> Attributes:
    inode = inode_of(level, row) if level else inode_of(*ROOT)
    return Attributes(inode, Kind.DIRECTORY, 0, 0, catalog.revised_time(level, row), lasting=True)

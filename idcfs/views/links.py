"""``/.uid/<UID>``: links from the UID of a study, series or instance to its place. They are not listed.

``/.uid-at-hand/<UID>`` is the same for who wants no request sent: what would take one is not there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import ClassVar, Protocol

import trio

from ..errors import NotFound
from ..filemeta import UID
from ..flight import SingleFlight
from ..namespace.catalog import Catalog
from ..namespace.listing import Listing
from ..namespace.names import instance_name
from ..namespace.nodes import ROOT, Level, Node, View, inode_of
from ..settings import UID_AT_HAND_NAME, UID_NAME
from .tree import Tree
from .view import Attributes, Directory, EmptyDirectory, Kind, Opening, not_a_directory, not_a_file, not_a_link

_UP = b"../"
_ROOT = ROOT.shown_as(View.UID)
_AT_HAND = _ROOT._replace(ordinal=_ROOT.ordinal + 1)
_ROOTS = (_ROOT, _AT_HAND)
_TO_THE_ROOT = _ROOT._replace(ordinal=_ROOT.ordinal + 2)
"""The link of a study that only the root holds all of; below ``/.uid`` it has none."""


class FoundSeries(Protocol):
    """Where the archive says that an instance is."""

    @property
    def study_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...


class UidLinks:
    """Links named by UIDs: ``view.SideView``. A link is the node of the tree that it leads to, shown as another."""

    roots: ClassVar[Mapping[bytes, Node]] = {UID_NAME.encode(): _ROOT, UID_AT_HAND_NAME.encode(): _AT_HAND}

    def __init__(
        self, tree: Tree, find_instance: Callable[[str], Awaitable[FoundSeries | None]], nursery: trio.Nursery
    ) -> None:
        """
        :param find_instance: asks the archive which series an instance is in.
        """
        self._tree = tree
        self._find_instance = find_instance
        self._searches: SingleFlight[str, Node | None] = SingleFlight(nursery)

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        uid = name.decode(errors="replace")
        if parent == _ROOT:
            node = await self._find(await self._tree.catalog(), uid, self._search)
            return None if node == _TO_THE_ROOT else node
        if parent != _AT_HAND:
            raise not_a_directory(parent)
        if (node := await self._find(self._tree.catalog_at_hand(), uid, self._at_hand)) is None:
            raise NotFound(f"{uid} is not at hand")  # not None, which the kernel would remember: it may come to be
        return node

    async def _find(
        self, catalog: Catalog, uid: str, find_instance: Callable[[Catalog, str], Awaitable[Node | None]]
    ) -> Node | None:
        if rows := catalog.rows_of("SeriesInstanceUID", uid):
            return Node(Level.SERIES, rows[0], view=View.UID)
        if rows := catalog.rows_of("StudyInstanceUID", uid):
            place = _place_of_study(catalog, rows[0], rows[-1])
            return _TO_THE_ROOT if place == ROOT else place.shown_as(View.UID)
        if not UID.fullmatch(uid):
            return None
        return await find_instance(catalog, uid)

    async def _at_hand(self, _catalog: Catalog, uid: str) -> Node | None:
        """The link of an instance, from the lists that are kept."""
        for row in await self._tree.rows_listing(uid):
            listing = await self._tree.listing_at_hand(row)
            if listing is not None and (node := _in_series(row, listing, uid)) is not None:
                return node
        return None

    async def _search(self, catalog: Catalog, uid: str) -> Node | None:
        return await self._searches.run(uid, partial(self._look, catalog, uid))

    async def _look(self, catalog: Catalog, uid: str) -> Node | None:
        """The link of an instance: from the lists that are kept, else from the archive.

        It is in a series of the catalog, and its list has it, or there is no link.
        """
        for row in await self._tree.rows_listing(uid):
            if (node := _in_series(row, await self._tree.listing(row), uid)) is not None:
                return node
        found = await self._find_instance(uid)
        for row in catalog.rows_of("SeriesInstanceUID", found.series_uid) if found else ():
            if found and self._tree.series(row).study_uid == found.study_uid:
                return _in_series(row, await self._tree.listing(row), uid)
        return None

    async def attributes(self, node: Node) -> Attributes:
        if node in _ROOTS:
            return Attributes(inode_of(*node), Kind.DIRECTORY, 0, 0, self._tree.newest(), lasting=True)
        size = len(await self.target(node))
        return Attributes(inode_of(*node), Kind.LINK, size, 0, self._tree.newest(), lasting=True)

    async def directory(self, node: Node) -> Directory:
        if node not in _ROOTS:
            raise not_a_directory(node)
        return EmptyDirectory()

    async def open(self, node: Node) -> Opening:
        raise not_a_file(node)

    async def target(self, node: Node) -> bytes:
        if node in _ROOTS:
            raise not_a_link(node)
        if node == _TO_THE_ROOT:
            return _UP.rstrip(b"/")
        return _UP + await self._tree.path(node.shown_as(View.TREE))


def _in_series(row: int, listing: Listing, uid: str) -> Node | None:
    ordinal = listing.find(instance_name(uid))
    return None if ordinal is None else Node(Level.INSTANCE, row, ordinal, View.UID)


def _place_of_study(catalog: Catalog, first: int, last: int) -> Node:
    """The deepest directory above the series that holds all of a study, whose series are between two rows; the root, if
    no other does."""
    level, place = Level.ROOT, ROOT
    while (level := catalog.below(level)) != Level.SERIES and last < catalog.end(level, first):
        place = Node(level, catalog.first(level, first))
    return place

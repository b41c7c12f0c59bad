"""Views that show the tree's directories, with other files in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

from ..namespace.listing import Listing, stat_blocks
from ..namespace.names import INSTANCE_SUFFIX
from ..namespace.nodes import Level, Node, View, inode_of, node_of
from .renditions import Rendition, Renditions
from .tree import Tree
from .view import Attributes, Directory, Entry, Kind, Opening, not_a_directory, not_a_file, not_a_link


class Mirror(ABC):
    """A view whose directories are the tree's down to the series, and whose files are renditions: ``view.SideView``.

    Who makes one says what nodes there are besides.
    """

    view: ClassVar[View]
    roots: ClassVar[Mapping[bytes, Node]] = {}

    def __init__(self, tree: Tree, renditions: Renditions) -> None:
        self._tree = tree
        self._renditions = renditions

    @abstractmethod
    async def rendition(self, node: Node) -> Rendition | None:
        """What the file ``node`` is; None of a directory.

        :raises NotFound: if there is no such node.
        """

    @abstractmethod
    async def find(self, parent: Node, name: bytes) -> Node | None:
        """What ``parent``, a directory, has besides the tree's directories."""

    @abstractmethod
    async def directory(self, node: Node) -> Directory:
        """``node`` as it is to be listed."""

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        await self.want_directory(parent)
        if parent.level < Level.SERIES and (found := await self._tree.lookup(parent.shown_as(View.TREE), name)):
            return found.shown_as(self.view)
        return await self.find(parent, name)

    async def attributes(self, node: Node) -> Attributes:
        rendition = await self.rendition(node)
        place = Node(Level.SERIES, node.row) if node.level >= Level.SERIES else node.shown_as(View.TREE)
        attributes = (await self._tree.attributes(place))._replace(inode=inode_of(*node))
        if rendition is None:
            return attributes
        await self._renditions.look_up(rendition.content)
        return self.file_attributes(node, attributes, rendition)

    async def open(self, node: Node) -> Opening:
        rendition = await self.rendition(node)
        if rendition is None:
            raise not_a_file(node)
        return await self._renditions.open(rendition)

    async def target(self, node: Node) -> bytes:
        raise not_a_link(node)

    async def want_directory(self, node: Node) -> None:
        """:raises NotADirectory: if ``node`` is a file."""
        if await self.rendition(node) is not None:
            raise not_a_directory(node)

    async def tree_directory(self, node: Node) -> Directory:
        """``node``, above the series, with its directories shown in this view."""
        return _Shown(await self._tree.directory(node.shown_as(View.TREE)), self.view)

    def file_attributes(self, node: Node, series: Attributes, rendition: Rendition) -> Attributes:
        """Attributes of the file ``node``, which is as old as its ``series``; its size as far as it is at hand."""
        exact = self._renditions.size(rendition)
        size = rendition.provisional_size if exact is None else exact
        lasting = exact is not None
        return Attributes(inode_of(*node), Kind.FILE, size, stat_blocks(size), series.modified, lasting)

    async def listed(self, node: Node) -> tuple[Listing, Attributes]:
        """The instances of the series that ``node`` is, or is in, and the attributes of its directory."""
        series = await self._tree.attributes(Node(Level.SERIES, node.row))
        listing = await self._tree.listing(node.row)
        await self._renditions.look_up(listing.content)
        return listing, series

    def rendition_of(self, listing: Listing, ordinal: int, media_type: str, frame: int = 0) -> Rendition:
        """What the archive makes of an instance.

        :raises Damaged: if the archive gave no valid UID for it.
        """
        uid, series = listing.instance_uid(ordinal), listing.series
        return Rendition(listing.content, series.study_uid, series.series_uid, uid, media_type, frame)


class _Shown:
    """A directory of the tree whose nodes are shown in another view."""

    def __init__(self, directory: Directory, view: View) -> None:
        self._directory = directory
        self._view = view

    def entries(self, start: int) -> Iterator[Entry]:
        for name, attributes, after in self._directory.entries(start):
            node = node_of(attributes.inode).shown_as(self._view)
            yield name, attributes._replace(inode=inode_of(*node)), after


def instance_called(listing: Listing, stem: bytes) -> int | None:
    """Ordinal of the instance whose file is called ``stem``, with or without its suffix."""
    found = listing.find(stem) if stem.endswith(INSTANCE_SUFFIX) else None
    return listing.find(stem + INSTANCE_SUFFIX) if found is None else found

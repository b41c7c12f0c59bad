"""``/.metadata``: the tree's directories, with DICOM JSON of series beside them and of instances in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from ..namespace.listing import Listing
from ..namespace.names import NAME_MAX
from ..namespace.nodes import ROOT, Level, Node, View, node_of
from ..settings import DICOM_JSON, METADATA_NAME
from .mirror import Mirror, instance_called
from .renditions import Rendition
from .view import Attributes, Directory, Entry, Opening

_SUFFIX = b".json"
_OF_SERIES = 1
"""Ordinal of a series' own metadata, which is no directory as the series is."""


class Metadata(Mirror):
    """``<series>.json`` beside each ``<series>``, and ``<SOPInstanceUID>.dcm.json`` in it."""

    view = View.METADATA
    roots: ClassVar = {METADATA_NAME.encode(): ROOT.shown_as(View.METADATA)}

    async def rendition(self, node: Node) -> Rendition | None:
        if node.level == Level.INSTANCE:
            listing = await self._tree.listing(node.row)
            return self.rendition_of(listing, listing.checked(node.ordinal), DICOM_JSON)
        return self._of_series(node.row) if (node.level, node.ordinal) == (Level.SERIES, _OF_SERIES) else None

    async def open(self, node: Node) -> Opening:
        rendition = await self.rendition(node)
        if rendition is None or rendition.instance_uid:
            return await super().open(node)
        # As many as there are, which need not be as many as the index says: metadata of fewer would be cut off.
        listing = await self._tree.listing(node.row)
        return await self._renditions.open(replace(rendition, instances=len(listing)))

    async def find(self, parent: Node, name: bytes) -> Node | None:
        if not name.endswith(_SUFFIX):
            return None
        stem = name.removesuffix(_SUFFIX)
        if parent.level == Level.SERIES:
            ordinal = instance_called(await self._tree.listing(parent.row), stem)
            return None if ordinal is None else Node(Level.INSTANCE, parent.row, ordinal, self.view)
        found = await self._tree.lookup(parent.shown_as(View.TREE), stem)
        is_series = found is not None and found.level == Level.SERIES
        return found._replace(ordinal=_OF_SERIES, view=self.view) if found and is_series else None

    async def directory(self, node: Node) -> Directory:
        await self.want_directory(node)
        if node.level == Level.SERIES:
            return _SeriesDirectory(self, node.row, *await self.listed(node))
        return _Directory(self, node, await self.tree_directory(node))

    def beside(self, parent: Node, series: bytes, attributes: Attributes) -> tuple[bytes, Attributes] | None:
        """The metadata of a series in ``parent``, by the name and attributes of its directory.

        None if no file can be called so, or a directory is.
        """
        name = series + _SUFFIX
        if len(name) > NAME_MAX or self._tree.has(parent, name):
            return None
        node = node_of(attributes.inode)._replace(ordinal=_OF_SERIES)
        return name, self.file_attributes(node, attributes, self._of_series(node.row))

    def _of_series(self, row: int) -> Rendition:
        series = self._tree.series(row)
        instances = max(1, series.instances or 1)
        content = self._tree.content(row)
        return Rendition(content, series.study_uid, series.series_uid, "", DICOM_JSON, instances=instances)


class _Directory:
    """A directory of the tree; after each series in it, its metadata. Positions are twice those of the tree, and one
    more where the metadata come first."""

    def __init__(self, metadata: Metadata, node: Node, directory: Directory) -> None:
        self._metadata = metadata
        self._node = node
        self._directory = directory

    def entries(self, start: int) -> Iterator[Entry]:
        has_shown_series = bool(start % 2)
        for name, attributes, after in self._directory.entries(start // 2):
            node = node_of(attributes.inode)
            if node.level != Level.SERIES:
                yield name, attributes, 2 * after
                continue
            if not has_shown_series:
                yield name, attributes, 2 * node.row + 1
            has_shown_series = False
            if metadata := self._metadata.beside(self._node, name, attributes):
                yield *metadata, 2 * after


class _SeriesDirectory:
    """Metadata of the instances of a series."""

    def __init__(self, metadata: Metadata, row: int, listing: Listing, series: Attributes) -> None:
        self._metadata = metadata
        self._row = row
        self._listing = listing
        self._series = series

    def entries(self, start: int) -> Iterator[Entry]:
        for ordinal in filter(self._listing.has_uid, range(start, len(self._listing))):
            node = Node(Level.INSTANCE, self._row, ordinal, View.METADATA)
            rendition = self._metadata.rendition_of(self._listing, ordinal, DICOM_JSON)
            attributes = self._metadata.file_attributes(node, self._series, rendition)
            yield self._listing.names[ordinal] + _SUFFIX, attributes, ordinal + 1

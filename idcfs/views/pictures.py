"""``/.rendered``: the tree's directories, with pictures of the instances in them, and of each instance's frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from ..namespace.listing import Listing
from ..namespace.names import INSTANCE_SUFFIX
from ..namespace.nodes import MAX_ORDINAL, ROOT, Level, Node, View
from ..settings import JPEG, PNG, RENDERED_NAME
from .mirror import Mirror, instance_called
from .renditions import Rendition
from .view import Attributes, Directory, Entry

_TYPES = {b".png": PNG, b".jpg": JPEG}
_SUFFIXES = tuple(_TYPES)
_LISTED = b".png"
_FRAME = re.compile(rb"([1-9][0-9]{0,8})(\.png|\.jpg)")


class Place(NamedTuple):
    """A node of an instance: one of its pictures, or the directory of its frames' pictures.

    All of a series share the ordinals of inode numbers: each instance has as many as fit, the first for the directory,
    then one for each type of picture of the instance, of its first frame, of its second, …
    """

    ordinal: int
    """Of the instance."""
    frame: int = 0
    """Numbered from 1; 0: the whole instance."""
    suffix: bytes = b""
    """Empty: the directory."""

    @property
    def slot(self) -> int:
        """Which of the instance's ordinals it has."""
        return 1 + self.frame * len(_SUFFIXES) + _SUFFIXES.index(self.suffix) if self.suffix else 0

    def name(self, listing: Listing) -> bytes:
        """What it is called in its directory."""
        stem = b"%d" % self.frame if self.frame else listing.names[self.ordinal].removesuffix(INSTANCE_SUFFIX)
        return stem + self.suffix

    def node(self, row: int, listing: Listing) -> Node | None:
        """Its node; None for a frame that inode numbers have no room for."""
        room = _room(listing)
        return Node(Level.INSTANCE, row, self.ordinal * room + self.slot, View.RENDERED) if self.slot < room else None


def _place(node: Node, listing: Listing) -> Place:
    """The place whose node is ``node``.

    :raises NotFound: if there is none.
    """
    ordinal, slot = divmod(node.ordinal, _room(listing))
    listing.checked(ordinal)
    frame, which = divmod(slot - 1, len(_SUFFIXES))
    return Place(ordinal, frame, _SUFFIXES[which]) if slot else Place(ordinal)


def _room(listing: Listing) -> int:
    """Ordinals of inode numbers for each instance: of 300, each has 27,961 frames."""
    return (MAX_ORDINAL + 1) // max(1, len(listing))


class Pictures(Mirror):
    """``<SOPInstanceUID>.png`` and ``.jpg``, and ``<SOPInstanceUID>/<frame>.png`` and ``.jpg``.

    Of the instances the PNGs are listed; of frames too, where it is known how many there are.
    """

    view = View.RENDERED
    roots: ClassVar = {RENDERED_NAME.encode(): ROOT.shown_as(View.RENDERED)}

    async def rendition(self, node: Node) -> Rendition | None:
        if node.level != Level.INSTANCE:
            return None
        listing = await self._tree.listing(node.row)
        place = _place(node, listing)
        return self.of_place(listing, place) if place.suffix else None

    async def find(self, parent: Node, name: bytes) -> Node | None:
        if parent.level < Level.SERIES:
            return None
        listing = await self._tree.listing(parent.row)
        if parent.level == Level.SERIES:
            place = _place_in_series(listing, name)
        else:
            place = self._frame(listing, _place(parent, listing).ordinal, name)
        return place.node(parent.row, listing) if place else None

    async def directory(self, node: Node) -> Directory:
        await self.want_directory(node)
        if node.level < Level.SERIES:
            return await self.tree_directory(node)
        listing, series = await self.listed(node)
        if node.level == Level.SERIES:
            ordinals = [ordinal for ordinal in range(len(listing)) if listing.has_uid(ordinal)]
            return _Pictures(self, node.row, listing, series, ordinals, lambda one: Place(one, suffix=_LISTED))
        ordinal = _place(node, listing).ordinal
        most = (_room(listing) - 1) // len(_SUFFIXES)  # however many a server claims
        frames = range(1, min(self._frame_count(listing, ordinal) or 0, most) + 1)
        return _Pictures(self, node.row, listing, series, frames, lambda one: Place(ordinal, one, _LISTED))

    def of_place(self, listing: Listing, place: Place) -> Rendition:
        """The picture at ``place``."""
        return self.rendition_of(listing, place.ordinal, _TYPES[place.suffix], place.frame)

    def _frame(self, listing: Listing, ordinal: int, name: bytes) -> Place | None:
        match = _FRAME.fullmatch(name)
        if match is None:
            return None
        frame, count = int(match[1]), self._frame_count(listing, ordinal)
        return Place(ordinal, frame, match[2]) if count is None or frame <= count else None

    def _frame_count(self, listing: Listing, ordinal: int) -> int | None:
        return self._renditions.frames(listing.content, listing.instance_uid(ordinal))


def _place_in_series(listing: Listing, name: bytes) -> Place | None:
    suffix = name[-4:]
    if suffix in _TYPES:
        ordinal = instance_called(listing, name.removesuffix(suffix))
        return None if ordinal is None else Place(ordinal, suffix=suffix)
    ordinal = listing.find(name + INSTANCE_SUFFIX)
    return None if ordinal is None else Place(ordinal)


class _Pictures:
    """A directory of pictures, as it was when it was opened."""

    def __init__(
        self,
        pictures: Pictures,
        row: int,
        listing: Listing,
        series: Attributes,
        numbers: Sequence[int],
        place: Callable[[int], Place],
    ) -> None:
        """
        :param series: attributes of its directory.
        :param numbers: of the instances, or frames, that it has; not their places, which may be millions.
        """
        self._pictures = pictures
        self._row = row
        self._listing = listing
        self._series = series
        self._numbers = numbers
        self._place = place

    def entries(self, start: int) -> Iterator[Entry]:
        for position in range(start, len(self._numbers)):
            place = self._place(self._numbers[position])
            if node := place.node(self._row, self._listing):
                rendition = self._pictures.of_place(self._listing, place)
                attributes = self._pictures.file_attributes(node, self._series, rendition)
                yield place.name(self._listing), attributes, position + 1

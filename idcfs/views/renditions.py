"""What the archive makes of what it stores, as files: fetched when it is opened, once, and kept like contents.

A rendition's size is known once it has come. Its bytes are the archive's choice: another archive, or the same one after
an update, may make others of the same instance. So they are kept for each archive apart, and an open file has one
version of them or fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import trio
from cachetools import LRUCache

from ..content.blocks import Key
from ..content.documents import Documents, digest
from ..errors import Damaged, Gone, NotFound, Replaced
from ..flight import SingleFlight
from ..namespace.store import SeriesStore
from ..settings import DICOM_JSON, KIB, MAX_RENDITION_BYTES, MIB
from ..stats import Stats
from .view import Opening

_PICTURE_BYTES = 1 * MIB
_METADATA_BYTES = 64 * KIB
"""Provisional sizes, of a picture and of an instance's metadata: rather too large than too small (docs/measured.md)."""
_MAX_KNOWN = 20_000
"""Renditions of which it is remembered what the kernel keeps of them, and instances whose frames have been counted."""
_MAX_SERIES = 1_000
"""Of whose renditions the sizes are at hand."""


class MetadataAnswer(Protocol):
    """Metadata of a series or an instance."""

    @property
    def body(self) -> bytes:
        """DICOM JSON."""

    @property
    def frames(self) -> dict[str, int]:
        """Number of frames by SOPInstanceUID, of all instances in it."""


class Maker(Protocol):
    """The archive."""

    async def metadata(self, study_uid: str, series_uid: str, instance_uid: str = "") -> MetadataAnswer: ...

    async def rendered(
        self, study_uid: str, series_uid: str, instance_uid: str, media_type: str, frame: int = 0
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Rendition:
    """One thing that the archive can make."""

    content: str
    """Key of the series' content version."""
    study_uid: str
    series_uid: str
    instance_uid: str
    """Empty: of the whole series."""
    media_type: str
    frame: int = 0
    """Numbered from 1; 0: of the instance."""
    instances: int = field(default=1, compare=False)
    """How many instances it is of."""

    @property
    def name(self) -> str:
        """Tells it from all others of the same series."""
        return f"{self.instance_uid}/{self.frame or ''}{self.media_type}"

    @property
    def provisional_size(self) -> int:
        """In bytes."""
        return _METADATA_BYTES * self.instances if self.media_type == DICOM_JSON else _PICTURE_BYTES


class Version(NamedTuple):
    """A rendition as it has come."""

    body: bytes
    digest: bytes


class Renditions:
    """Those of one archive."""

    def __init__(
        self,
        maker: Maker,
        documents: Documents,
        store: SeriesStore,
        archive: str,
        nursery: trio.Nursery,
        stats: Stats,
    ) -> None:
        """
        :param archive: names it, in caches that several share.
        """
        self._maker = maker
        self._documents = documents
        self._store = store
        self._archive = archive
        self._flights: SingleFlight[Key, Version] = SingleFlight(nursery)
        # Room for the largest, so that whoever reads it does not ask for it again and again, whatever the cache holds.
        self._at_hand: LRUCache[Key, Version] = LRUCache(MAX_RENDITION_BYTES, getsizeof=lambda one: len(one.body))
        self._shown: LRUCache[Key, bytes] = LRUCache(_MAX_KNOWN)
        """Digests of what has been opened in this mount."""
        self._sizes: LRUCache[str, dict[str, int]] = LRUCache(_MAX_SERIES)
        """Exact sizes by name, by content."""
        self._frames: LRUCache[Key, int] = LRUCache(_MAX_KNOWN)
        stats.gauge("cache_bytes", lambda: int(self._at_hand.currsize))

    async def look_up(self, content: str) -> None:
        """Learn the sizes of what has ever come of a series' content."""
        await self._sizes_of(content)

    def size(self, rendition: Rendition) -> int | None:
        """Its exact size in bytes, if it is known from ``look_up`` or has come since."""
        return self._sizes.get(rendition.content, {}).get(rendition.name)

    def frames(self, content: str, instance_uid: str) -> int | None:
        """How many frames an instance has, if its metadata, or its series', have come in this mount."""
        return self._frames.get((content, instance_uid))

    async def open(self, rendition: Rendition) -> Opening:
        """Have it, and a file of it.

        :raises IdcfsError: if it cannot be had.
        """
        version = await self.version(rendition)
        sizes = await self._sizes_of(rendition.content)  # from here on nothing is waited for: see fuse.py
        key, name, size = self._key(rendition), rendition.name, len(version.body)
        if sizes.get(name) != size:
            sizes[name] = size
            self._store.remember_size(key[0], name, size)
        is_news = self._shown.get(key) != version.digest
        self._shown[key] = version.digest
        return Opening(RenditionFile(self, rendition, version.digest), resized=is_news, replaced=is_news)

    async def version(self, rendition: Rendition) -> Version:
        """It, from the cache or from the archive."""
        key = self._key(rendition)
        return self._at_hand.get(key) or await self._flights.run(key, lambda: self._have(rendition))

    async def _have(self, rendition: Rendition) -> Version:
        key = self._key(rendition)
        body = await self._documents.get(key)
        if body is None:
            body = await self._make(rendition)
            await self._documents.put(key, body)
        version = self._at_hand[key] = Version(body, digest(body))
        return version

    async def _make(self, rendition: Rendition) -> bytes:
        place = rendition.study_uid, rendition.series_uid, rendition.instance_uid
        if rendition.media_type != DICOM_JSON:
            try:
                return await self._maker.rendered(*place, rendition.media_type, rendition.frame)
            except Gone as error:
                if rendition.frame:
                    raise NotFound(str(error)) from None  # it may have fewer
                raise
        answer = await self._maker.metadata(*place)
        if len(answer.frames) < rendition.instances:
            told = f"the archive sent the metadata of {len(answer.frames)} instances, and lists {rendition.instances}"
            raise Damaged(f"series {rendition.series_uid}: {told}")
        self._frames.update({(rendition.content, uid): frames for uid, frames in answer.frames.items()})
        return answer.body

    async def _sizes_of(self, content: str) -> dict[str, int]:
        if content not in self._sizes:
            kept = await self._store.load(self._kept_as(content))
            self._sizes.setdefault(content, kept.sizes)
        return self._sizes[content]

    def _key(self, rendition: Rendition) -> Key:
        return self._kept_as(rendition.content), rendition.name

    def _kept_as(self, content: str) -> str:
        """The content under which what this archive makes is kept; no instance has such a one."""
        return f"{content} by {self._archive}"


class RenditionFile:
    """An open rendition: one version of it."""

    def __init__(self, renditions: Renditions, rendition: Rendition, digest: bytes) -> None:
        self._renditions = renditions
        self._rendition = rendition
        self._digest = digest

    async def read(self, offset: int, length: int) -> bytes:
        version = await self._renditions.version(self._rendition)
        if version.digest != self._digest:
            raise Replaced(f"series {self._rendition.series_uid}: the archive makes {self._rendition.name} anew")
        return version.body[offset : offset + length]

    def close(self) -> None:
        pass

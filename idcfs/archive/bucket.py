"""IDC's public buckets: every file of a series by its exact size, and any range of it, over anonymous HTTPS.

A bucket names files by UUIDs, ``{crdc_series_uuid}/{crdc_instance_uuid}.dcm``, and the packaged index does not say
which instance is which. The file meta of each does (PS3.10 section 7.1), within its first KiB: read once for each file
of a series of several, in parallel, and kept on disk. The file of a one-instance series needs no asking.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple, Protocol

import trio
from cachetools import LRUCache

from ..errors import Damaged, Gone, Refused, first_of
from ..filemeta import parse_file_meta
from ..flight import SingleFlight
from ..settings import KIB, ArchiveSettings, BucketSettings
from .body import InstanceBody, open_body
from .objects import ListedObject, parse_page
from .transport import Transport

_HEAD_BYTES = (1 * KIB, 64 * KIB)
"""How much of a file is read for its file meta, of 200-1,000 bytes; the second where the first is not enough."""
_HEADS_AT_ONCE = 24
"""As many as downloads: the other connections stay free for listings and contents."""
_MAX_KEPT = 250_000
"""Files of all series that are remembered in memory, about 200 bytes each."""
_MAX_PAGE_BYTES = 8 * 1024 * KIB
"""1,000 keys are 0.3 MB."""

_FOLDER = re.compile(r"[0-9A-Za-z_-]{1,100}")
_UID = re.compile(r"[0-9][0-9.]{0,63}")
_BUCKET = re.compile(r"[0-9a-z][0-9a-z.-]{1,62}")

log = logging.getLogger(__name__)


class SeriesKey(Protocol):
    """What the files of a series are found by."""

    @property
    def series_uid(self) -> str: ...
    @property
    def content(self) -> str:
        """crdc_series_uuid; empty where the index has none."""

    @property
    def bucket(self) -> str:
        """The bucket's name at AWS; empty where the index has none."""


class InstanceKey(SeriesKey, Protocol):
    """What a file is found by."""

    @property
    def instance_uid(self) -> str: ...
    @property
    def is_alone(self) -> bool:
        """Whether its series has no other instance."""


class StoredObject(NamedTuple):
    """One file, and what it is."""

    instance_uid: str
    name: str
    size: int


class ObjectStore(Protocol):
    """Remembers, across mounts, which files a series consists of; lines of text without line breaks."""

    async def load_objects(self, content: str) -> tuple[str, ...] | None: ...
    def remember_objects(self, content: str, lines: Sequence[str]) -> None: ...


class BucketArchive:
    """The buckets. Errors are those of the transport, and Gone for what they do not hold."""

    def __init__(
        self,
        settings: BucketSettings,
        transport_to: Callable[[ArchiveSettings], Transport],
        kept: ObjectStore,
        tell_sizes: Callable[[str, Mapping[str, int]], None],
        nursery: trio.Nursery,
    ) -> None:
        """
        :param transport_to: makes the way to one bucket.
        :param tell_sizes: called with a series' content UUID and the sizes of its instances once they are known.
        """
        self._settings = settings
        self._transport_to = transport_to
        self._transports: dict[str, Transport] = {}
        self._kept = kept
        self._tell_sizes = tell_sizes
        self._flights: SingleFlight[str, dict[str, StoredObject]] = SingleFlight(nursery)
        self._only: LRUCache[str, ListedObject | None] = LRUCache(_MAX_KEPT)
        self._known: LRUCache[str, dict[str, StoredObject]] = LRUCache(
            _MAX_KEPT, getsizeof=lambda objects: min(len(objects) + 1, _MAX_KEPT)
        )

    @staticmethod
    def may_hold(series: SeriesKey) -> bool:
        """Whether the index says where the files of ``series`` are."""
        return bool(_FOLDER.fullmatch(series.content) and _BUCKET.fullmatch(series.bucket))

    async def objects(self, series: SeriesKey) -> dict[str, StoredObject]:
        """The files of ``series`` by SOPInstanceUID.

        :raises Gone: if there are none.
        """
        known = self._known.get(series.content)
        return known if known is not None else await self._flights.run(series.content, partial(self._map, series))

    @asynccontextmanager
    async def fetch(
        self, instance: InstanceKey, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[InstanceBody]:
        """Bytes [start, stop) of ``instance`` as stored; its size is always known.

        :raises Gone: if the bucket does not hold it.
        :raises Damaged: if the file is not as long as it is listed.
        """
        stored = await self._object_of(instance)
        path = f"/{instance.content}/{stored.name}"
        transport = self._transport(instance.bucket)
        end = None if stop is None or stop >= stored.size else stop
        byte_range = f"bytes={start}-{'' if end is None else end - 1}" if start or end is not None else None
        async with AsyncExitStack() as stack:
            stream = transport.stream(path, "*/*", byte_range=byte_range, kind="bucket_requests")
            body = await open_body(await stack.enter_async_context(stream), start, end, any_type=True)
            if body.size is not None and body.size != stored.size:
                raise Damaged(f"{transport.name}{path} has {body.size} bytes, and is listed with {stored.size}")
            yield body

    async def _object_of(self, instance: InstanceKey) -> StoredObject:
        known = self._known.get(instance.content)
        if known is None and instance.is_alone and (only := await self._only_object(instance)) is not None:
            return StoredObject(instance.instance_uid, *only)
        found = (known or await self.objects(instance)).get(instance.instance_uid)
        if found is None:
            raise Gone(f"{self._where(instance)} holds no instance {instance.instance_uid}")
        return found

    async def _only_object(self, instance: InstanceKey) -> ListedObject | None:
        """The file of a one-instance series, which needs no asking what it is; None where there are several."""
        if instance.content not in self._only:
            listed = await self._list(instance)
            self._only[instance.content] = listed[0] if len(listed) == 1 else None
        return self._only[instance.content]

    async def _map(self, series: SeriesKey) -> dict[str, StoredObject]:
        kept = await self._kept.load_objects(series.content)
        objects = list(_unpacked(kept)) if kept is not None else []
        if not objects:
            objects = await self._identify(series, await self._list(series))
            self._kept.remember_objects(series.content, _packed(objects))
        found = {stored.instance_uid: stored for stored in objects}
        if len(found) < len(objects):
            log.warning("%s: %d files are one instance", self._where(series), len(objects) - len(found) + 1)
        self._known[series.content] = found
        self._tell_sizes(series.content, {uid: stored.size for uid, stored in found.items()})
        return found

    async def _list(self, series: SeriesKey) -> list[ListedObject]:
        """Names and sizes of the files of ``series``.

        :raises Gone: if there are none.
        """
        where = self._where(series)
        if not self.may_hold(series):
            raise Gone(f"{where}: the index does not say in which bucket its files are")
        params: dict[str, str | int] = {"list-type": 2, "prefix": f"{series.content}/"}
        objects: dict[ListedObject, None] = {}
        tokens: set[str] = set()
        while True:
            body = await self._transport(series.bucket).get_bytes(
                "", params, accept="application/xml", kind="bucket_requests", most=_MAX_PAGE_BYTES
            )
            page = parse_page(body, f"{series.content}/", where)
            objects.update(dict.fromkeys(page.objects))
            if page.passed_over:
                log.warning("%s: %d objects are no files of it", where, page.passed_over)
            if page.next_token is None:
                break
            if page.next_token in tokens:
                raise Refused(f"{where}: its list of objects goes round in circles")
            tokens.add(page.next_token)
            params["continuation-token"] = page.next_token
        if not objects:
            raise Gone(f"{where} holds no files of it")
        return list(objects)

    async def _identify(self, series: SeriesKey, listed: Sequence[ListedObject]) -> list[StoredObject]:
        """Which instance each file is."""
        left = iter(listed)
        found: list[StoredObject] = []

        async def work() -> None:
            for one in left:
                instance_uid = await self._instance_uid(series, one)
                if _UID.fullmatch(instance_uid):
                    found.append(StoredObject(instance_uid, *one))
                else:
                    log.warning("%s: the file meta of %s names no instance", self._where(series), one.name)

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(_HEADS_AT_ONCE, len(listed))):
                    nursery.start_soon(work)
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        return sorted(found)

    async def _instance_uid(self, series: SeriesKey, one: ListedObject) -> str:
        """Of the file meta; read further where its first KiB does not hold all of it."""
        path = f"/{series.content}/{one.name}"
        for most in _HEAD_BYTES:
            head = await self._head(series.bucket, path, min(most, one.size))
            meta = parse_file_meta(head, whole=len(head) == one.size or most == _HEAD_BYTES[-1])
            if meta is not None:
                return meta.instance_uid
        raise Damaged(f"{self._where(series)}: {one.name} has no end to its file meta")

    async def _head(self, bucket: str, path: str, length: int) -> bytes:
        """The first ``length`` bytes of a file, whatever else a server without ranges sends."""
        head = bytearray()
        stream = self._transport(bucket).stream(path, "*/*", byte_range=f"bytes=0-{length - 1}", kind="bucket_requests")
        async with stream as answer:
            async for chunk in await open_body(answer, 0, length, any_type=True):
                head += chunk
                if len(head) >= length:
                    break
        return bytes(head[:length])

    def _transport(self, bucket: str) -> Transport:
        if bucket not in self._transports:
            self._transports[bucket] = self._transport_to(self._settings.of(bucket))
        return self._transports[bucket]

    def _where(self, series: SeriesKey) -> str:
        return f"{self._settings.of(series.bucket).name}/{series.content} (series {series.series_uid})"


def _packed(objects: Sequence[StoredObject]) -> list[str]:
    return [f"{stored.instance_uid} {stored.name} {stored.size}" for stored in objects]


def _unpacked(lines: Sequence[str]) -> Iterator[StoredObject]:
    for line in lines:
        instance_uid, name, size = line.split(" ")
        yield StoredObject(instance_uid, name, int(size))

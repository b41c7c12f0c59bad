"""What the buckets hold of a series: its files, their exact sizes, and which instance each of them is.

A bucket names files by UUIDs, ``{crdc_series_uuid}/{crdc_instance_uuid}.dcm``, and the packaged index does not say
which instance is which. The file meta of each does (PS3.10 section 7.1), within its first KiB: read once for each file
of a series of several, in parallel. What has been found out is kept on disk as it comes. If it is all that the index
says there is, later mounts ask nothing; else the bucket may have had a bad day, or the mount was killed, and the next
one asks for the list anew, and what those files are that are not known yet.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import NamedTuple, Protocol

import trio
from cachetools import LRUCache

from ..deadline import Progress
from ..errors import AccessDenied, Damaged, Gone, Refused, first_of
from ..filemeta import UID, parse_file_meta
from ..flight import SingleFlight
from ..settings import KIB, MIB, ArchiveSettings, BucketSettings
from .body import open_body
from .objects import ListedObject, Page, parse_page
from .transport import Transport

_HEAD_BYTES = (1 * KIB, 64 * KIB)
"""How much of a file is read for its file meta, of 200-1,000 bytes; the second where the first is not enough."""
_HEADS_AT_ONCE = 24
"""Of all series together, as many as downloads: the other connections stay free for listings and contents."""
_KEPT_FROM = _HEADS_AT_ONCE
"""From so many files on a part is worth keeping: fewer are asked about again in the time of one request."""
_MAX_KEPT = 250_000
"""Files of all series that are remembered in memory, about 200 bytes each."""
_MAX_PAGE_BYTES = 8 * MIB
"""1,000 keys are 0.3 MB."""
_MAX_UNEXPECTED = 10_000
"""How many more files than the index says a list may have, four times its number apart: then there is no end to it."""

_MAX_STALE_PAGES = 3
"""Pages in a row without a new file that are passed over: one may hold the folder's marker alone."""

_FOLDER = re.compile(r"[0-9A-Za-z_-]{1,100}")
_BUCKET = re.compile(r"[0-9a-z][0-9a-z.-]{1,62}")

log = logging.getLogger(__name__)


class BucketSeries(Protocol):
    """What the files of a series are found by."""

    @property
    def series_uid(self) -> str: ...
    @property
    def content(self) -> str:
        """crdc_series_uuid; empty where the index has none."""

    @property
    def bucket(self) -> str:
        """The bucket's name at AWS; empty where the index has none."""

    @property
    def instances(self) -> int | None:
        """As many as the index says."""


class IdentifiedObject(NamedTuple):
    """One file, and what it is."""

    instance_uid: str
    name: str
    size: int


class ObjectStore(Protocol):
    """Remembers, across mounts, which files a series consists of; lines of text without line breaks."""

    async def load_objects(self, content: str) -> tuple[str, ...] | None: ...
    def remember_objects(self, content: str, lines: Sequence[str]) -> None: ...


class Inventory:
    """The files of every series, asked for once each, whoever asks at the same time; and the ways to the buckets."""

    def __init__(
        self,
        settings: BucketSettings,
        transport_to: Callable[[ArchiveSettings], Transport],
        timeout_seconds: float,
        kept: ObjectStore,
        tell_sizes: Callable[[str, Mapping[str, int]], None],
        nursery: trio.Nursery,
    ) -> None:
        """
        :param transport_to: makes the way to one bucket.
        :param timeout_seconds: longest wait without progress; what is waited for goes on, for who asks next.
        :param tell_sizes: called with a series' content UUID and the sizes of its instances once they are known.
        """
        self._settings = settings
        self._transport_to = transport_to
        self._transports: dict[str, Transport] = {}
        self._timeout_seconds = timeout_seconds
        self._kept = kept
        self._tell_sizes = tell_sizes
        self._flights: SingleFlight[str, dict[str, IdentifiedObject]] = SingleFlight(nursery)
        self._only_flights: SingleFlight[str, ListedObject | None] = SingleFlight(nursery)
        self._waiting: dict[str, set[Progress]] = {}
        self._heads = trio.CapacityLimiter(_HEADS_AT_ONCE)
        self._only: LRUCache[str, ListedObject | None] = LRUCache(_MAX_KEPT)
        self._known: LRUCache[str, dict[str, IdentifiedObject]] = LRUCache(
            _MAX_KEPT, getsizeof=lambda objects: min(len(objects) + 1, _MAX_KEPT)
        )

    @staticmethod
    def is_placed(series: BucketSeries) -> bool:
        """Whether the index says where the files of ``series`` are."""
        return bool(_FOLDER.fullmatch(series.content) and _BUCKET.fullmatch(series.bucket))

    def transport(self, bucket: str) -> Transport:
        """The way to the bucket that AWS calls ``bucket``."""
        if bucket not in self._transports:
            self._transports[bucket] = self._transport_to(self._settings.of(bucket))
        return self._transports[bucket]

    def where(self, series: BucketSeries) -> str:
        """Names bucket, folder and series."""
        return f"{self._settings.of(series.bucket).name}/{series.content} (series {series.series_uid})"

    async def objects(self, series: BucketSeries) -> dict[str, IdentifiedObject]:
        """The files of ``series`` by SOPInstanceUID.

        :raises Gone: if there are none.
        """
        known = self._known.get(series.content)
        if known is not None:
            return known
        with self._patience(series):
            return await self._flights.run(series.content, partial(self._find_out, series))

    async def only_object(self, series: BucketSeries) -> ListedObject | None:
        """The file of a one-instance series, which needs no asking what it is; None where there are several."""
        if series.content in self._only:
            return self._only[series.content]
        with self._patience(series):
            return await self._only_flights.run(series.content, partial(self._find_only, series))

    def distrust(self, series: BucketSeries) -> None:
        """It may be wrong: the next mount asks anew. In this one each broken file would cost a request a file."""
        if series.content in self._known:
            self._kept.remember_objects(self._key(series), ())

    @contextmanager
    def _patience(self, series: BucketSeries) -> Iterator[None]:
        """Wait within, as long as there is progress."""
        progress = Progress(self._timeout_seconds)
        waiting = self._waiting.setdefault(series.content, set())
        waiting.add(progress)
        try:
            with progress.watch(self.where(series)):
                yield
        finally:
            waiting.discard(progress)
            if not waiting:
                self._waiting.pop(series.content, None)

    def _advance(self, series: BucketSeries, amount: int) -> None:
        for progress in self._waiting.get(series.content, ()):
            progress.advance(amount)

    def _key(self, series: BucketSeries) -> str:
        """A mirror may hold less, or otherwise."""
        return f"{self._settings.name}/{series.content}"

    async def _find_only(self, series: BucketSeries) -> ListedObject | None:
        listed = await self._list(series)
        only = self._only[series.content] = listed[0] if len(listed) == 1 else None
        return only

    async def _find_out(self, series: BucketSeries) -> dict[str, IdentifiedObject]:
        kept = list(_unpacked(await self._kept.load_objects(self._key(series)) or ()))
        found = {stored.instance_uid: stored for stored in kept}
        if len(found) != len(kept) or len(found) != series.instances:
            found = self._unambiguous(series, await self._identify_all(series, await self._list(series), kept))
            if len(found) == series.instances or len(found) >= _KEPT_FROM:
                self._kept.remember_objects(self._key(series), _packed(found.values()))
        self._known[series.content] = found
        self._tell_sizes(series.content, {uid: stored.size for uid, stored in found.items()})
        return found

    def _unambiguous(self, series: BucketSeries, objects: Sequence[IdentifiedObject]) -> dict[str, IdentifiedObject]:
        """Without what several files claim to be: which of them is right, nobody knows.

        :raises Damaged: if nothing is left.
        """
        claims = Counter(stored.instance_uid for stored in objects)
        found = {stored.instance_uid: stored for stored in sorted(objects) if claims[stored.instance_uid] == 1}
        if len(found) < len(claims):
            log.warning("%s: of %d instances there are several files", self.where(series), len(claims) - len(found))
        if not found:
            raise Damaged(f"{self.where(series)}: none of its files can be told to be an instance of it")
        return found

    # --- what it asks ------------------------------------------------------------------------------------------------

    async def _list(self, series: BucketSeries) -> list[ListedObject]:
        """Names and sizes of the files of ``series``.

        :raises Gone: if there are none.
        """
        where = self.where(series)
        if not self.is_placed(series):
            raise Gone(f"{where}: the index does not say in which bucket its files are")
        objects: dict[ListedObject, None] = {}
        stale = 0
        async with aclosing(self._pages(series)) as pages:
            async for page in pages:
                before = len(objects)
                objects.update(dict.fromkeys(page.objects))
                if page.passed_over:
                    log.warning("%s: %d objects are no files of it", where, page.passed_over)
                stale = stale + 1 if len(objects) == before else 0
                if stale > _MAX_STALE_PAGES or len(objects) > 4 * (series.instances or 0) + _MAX_UNEXPECTED:
                    raise Refused(f"{where}: there seems to be no end to its list of objects")
        if not objects:
            raise Gone(f"{where} holds no files of it")
        return list(objects)

    async def _pages(self, series: BucketSeries) -> AsyncGenerator[Page, None]:
        params: dict[str, str | int] = {"list-type": 2, "prefix": f"{series.content}/"}
        about, accept = f"/{series.content}", "application/xml"
        while True:
            body = await self.transport(series.bucket).get_bytes(
                "", params, accept=accept, kind="bucket_requests", most=_MAX_PAGE_BYTES, about=about
            )
            self._advance(series, len(body))
            page = parse_page(body, f"{series.content}/", self.where(series))
            yield page
            if page.next_token is None:
                return
            params["continuation-token"] = page.next_token

    async def _identify_all(
        self, series: BucketSeries, listed: Sequence[ListedObject], kept: Iterable[IdentifiedObject]
    ) -> list[IdentifiedObject]:
        """Which instance each file is; without those of which that cannot be told.

        :param kept: files that were asked about before; what is listed otherwise now is asked about again.
        """
        known = {ListedObject(stored.name, stored.size): stored for stored in kept}
        found = [known[one] for one in listed if one in known]
        left = [one for one in listed if one not in known]
        keep = self._keeper(series, len(found))
        asked = iter(left)

        async def work() -> None:
            for one in asked:
                stored = await self._identify(series, one)
                if stored is not None:
                    found.append(stored)
                    keep(found)

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(_HEADS_AT_ONCE, len(left))):
                    nursery.start_soon(work)
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        return found

    def _keeper(self, series: BucketSeries, known: int) -> Callable[[Sequence[IdentifiedObject]], None]:
        """What keeps a part, of ``known`` files to begin with, whenever it has grown by an eighth.

        So a kill loses no more, and the writing of a long list, which is of all of it each time, stays cheap.
        """
        due = known + max(_KEPT_FROM, known // 8)

        def keep(found: Sequence[IdentifiedObject]) -> None:
            nonlocal due
            if len(found) < due or len(found) == series.instances:  # as many would pass for all of them
                return
            due = len(found) + max(_KEPT_FROM, len(found) // 8)
            self._kept.remember_objects(self._key(series), _packed(found))

        return keep

    async def _identify(self, series: BucketSeries, one: ListedObject) -> IdentifiedObject | None:
        """By its file meta; read further where its first KiB does not hold all of it."""
        try:
            for most in _HEAD_BYTES:
                head = await self._head(series, one, min(most, one.size))
                meta = parse_file_meta(head, whole=len(head) == one.size or most == _HEAD_BYTES[-1])
                if meta is not None and UID.fullmatch(meta.instance_uid):
                    return IdentifiedObject(meta.instance_uid, *one)
            reason = "its file meta names no instance"
        except (AccessDenied, Damaged, Gone, Refused) as error:  # of this file alone
            reason = str(error)
        log.warning("%s: %s is passed over: %s", self.where(series), one.name, reason)
        return None

    async def _head(self, series: BucketSeries, one: ListedObject, length: int) -> bytes:
        """The first ``length`` bytes of a file, whatever else a server without ranges sends.

        :raises Damaged: if it is of another size than is listed.
        """
        head = bytearray()
        path = f"/{series.content}/{one.name}"
        async with (
            self._heads,
            self.transport(series.bucket).stream(path, "*/*", 0, length, kind="bucket_requests") as answer,
        ):
            body = await open_body(answer, 0, length, any_type=True)
            if body.size not in (None, one.size):
                raise Damaged(f"{answer.where} has {body.size} bytes, and is listed with {one.size}")
            async for chunk in body:
                head += chunk
                self._advance(series, len(chunk))
                if len(head) >= length:
                    break
        return bytes(head[:length])


def _packed(objects: Iterable[IdentifiedObject]) -> list[str]:
    return [f"{stored.instance_uid} {stored.name} {stored.size}" for stored in objects]


def _unpacked(lines: Sequence[str]) -> Iterator[IdentifiedObject]:
    for line in lines:
        instance_uid, name, size = line.split(" ")
        yield IdentifiedObject(instance_uid, name, int(size))

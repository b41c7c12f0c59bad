"""What the buckets hold of a series: its files, their exact sizes, and which instance each of them is.

A bucket names files by UUIDs, ``{crdc_series_uuid}/{crdc_instance_uuid}.dcm``, and the packaged index does not say
which instance is which. The file meta of each does (PS3.10 section 7.1), within its first KiB: read once for each file
of a series of several, in parallel. What has been found out is kept on disk as it comes. If it is all that the index
says there is, nothing is asked any more; else the bucket may have had a bad day, or the mount was killed, and the list
is asked for anew, and what those files are that are not known yet: by the next mount, and by this one after a pause.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import NamedTuple, Protocol

import trio
from cachetools import LRUCache

from ..deadline import Progress
from ..errors import AccessDenied, Damaged, Gone, IdcfsError, NoInstance, Refused, first_of
from ..flight import SingleFlight
from ..settings import MIB, ArchiveSettings, BucketSettings
from .circuit import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from .heads import HEADS_AT_ONCE, Heads
from .objects import ListedObject, Page, parse_page
from .pages import MAX_STALE_PAGES, most_items
from .transport import Transport

_KEPT_FROM = HEADS_AT_ONCE
"""From so many files on a part is worth keeping: fewer are asked about again in the time of one request."""
_MAX_KEPT = 250_000
"""Files of all series that are remembered in memory, about 200 bytes each."""
_MAX_PAGE_BYTES = 8 * MIB
"""1,000 keys are 0.3 MB."""

_ROUNDS = 3
"""So often, pauses apart, it has to be asked in vain what a file is before its series is listed without it."""

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


@dataclass(frozen=True, slots=True)
class _Map:
    """What is known of the files of a series."""

    objects: dict[str, IdentifiedObject]
    """By SOPInstanceUID."""
    no_instances: frozenset[ListedObject] = frozenset()
    """Files that are certainly none."""
    failure: IdcfsError | None = None
    """Why it is not known what some others are."""
    rounds: int = 0
    """Rounds that left files unidentified."""
    asked_again: float = inf
    """Time (trio's clock, s) to ask again; inf: complete."""


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
        self._flights: SingleFlight[str, _Map] = SingleFlight(nursery)
        self._only_flights: SingleFlight[str, ListedObject | None] = SingleFlight(nursery)
        self._waiting: dict[str, set[Progress]] = {}
        self._heads = Heads(timeout_seconds / 2)
        self._only: LRUCache[str, ListedObject | None] = LRUCache(_MAX_KEPT)
        self._known: LRUCache[str, _Map] = LRUCache(
            _MAX_KEPT, getsizeof=lambda known: min(len(known.objects) + 1, _MAX_KEPT)
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

    async def objects(self, series: BucketSeries, *, in_part: bool = True) -> dict[str, IdentifiedObject]:
        """The files of ``series`` by SOPInstanceUID.

        :param in_part: without those of which it cannot be told what they are; else with none of them missing, unless
            that was tried several times.
        :raises Gone: if there are none.
        """
        known = await self._map(series)
        if known.failure is not None and not in_part and known.rounds < _ROUNDS:
            raise self._unknown(series, known.failure)
        return known.objects

    async def object(self, series: BucketSeries, instance_uid: str) -> IdentifiedObject:
        """The file that is the instance ``instance_uid`` of ``series``.

        :raises Gone: if there is none; where it may be one of which that cannot be told, what was wrong with that.
        """
        known = await self._map(series, instance_uid)
        found = known.objects.get(instance_uid)
        if found is None and known.failure is not None:
            raise self._unknown(series, known.failure)
        if found is None:
            raise Gone(f"{self.where(series)} holds no instance {instance_uid}")
        return found

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

    async def _map(self, series: BucketSeries, wanted: str = "") -> _Map:
        """What is known of the files of ``series``; asks for the rest, unless ``wanted`` is known or it just did."""
        known = self._known.get(series.content)
        if known is not None and (wanted in known.objects or trio.current_time() < known.asked_again):
            return known
        with self._patience(series):
            return await self._flights.run(series.content, partial(self._find_out, series))

    def _unknown(self, series: BucketSeries, failure: IdcfsError) -> IdcfsError:
        error = copy(failure)
        error.args = (f"{self.where(series)}: it is not known of all its files what they are: {failure}",)
        return error

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

    async def _find_out(self, series: BucketSeries) -> _Map:
        before = self._known.get(series.content)
        kept = list(before.objects.values()) if before else list(await self._load(series))
        found = {stored.instance_uid: stored for stored in kept}
        if before is None and len(found) == len(kept) == series.instances:
            known = _Map(found)
        else:
            known = await self._find_rest(series, kept, before or _Map({}))
        self._known[series.content] = known
        self._tell_sizes(series.content, {uid: stored.size for uid, stored in known.objects.items()})
        return known

    async def _load(self, series: BucketSeries) -> Iterator[IdentifiedObject]:
        return _unpacked(await self._kept.load_objects(self._key(series)) or ())

    async def _find_rest(self, series: BucketSeries, kept: Sequence[IdentifiedObject], before: _Map) -> _Map:
        round_ = _Round(kept, before.no_instances)
        await self._identify_all(series, await self._list(series), round_)
        found = self._unambiguous(series, round_)
        if len(found) == series.instances or len(found) >= _KEPT_FROM:
            self._kept.remember_objects(self._key(series), _packed(found.values()))
        no_instances = frozenset(round_.no_instances)
        if round_.failure is None and len(found) >= (series.instances or 0):
            return _Map(found, no_instances)
        pause_seconds = min(FIRST_PAUSE_SECONDS * 2**before.rounds, LONGEST_PAUSE_SECONDS)
        asked_again = trio.current_time() + pause_seconds
        return _Map(found, no_instances, round_.failure, before.rounds + 1, asked_again)

    def _unambiguous(self, series: BucketSeries, round_: _Round) -> dict[str, IdentifiedObject]:
        """Without what several files claim to be: which of them is right, nobody knows.

        :raises Damaged: if nothing is left; or what was wrong with one of the files.
        """
        claims = Counter(stored.instance_uid for stored in round_.found)
        found = {stored.instance_uid: stored for stored in sorted(round_.found) if claims[stored.instance_uid] == 1}
        if len(found) < len(claims):
            log.warning("%s: of %d instances there are several files", self.where(series), len(claims) - len(found))
        if not found and round_.failure is not None:
            raise self._unknown(series, round_.failure)
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
                if stale > MAX_STALE_PAGES or len(objects) > most_items(series.instances or 0):
                    raise Refused(f"{where}: there seems to be no end to its list of objects")
        if not objects:
            raise Gone(f"{where} holds no files of it")
        return list(objects)

    async def _pages(self, series: BucketSeries) -> AsyncGenerator[Page, None]:
        params: dict[str, str | int] = {"list-type": 2, "prefix": f"{series.content}/"}
        about, accept = f"/{series.content}", "application/xml"
        while True:
            answer = await self.transport(series.bucket).get_document(
                "", params, accept=accept, kind="bucket_requests", most=_MAX_PAGE_BYTES, about=about
            )
            self._advance(series, len(answer.body))
            page = parse_page(answer.body, f"{series.content}/", self.where(series))
            yield page
            if page.next_token is None:
                return
            params["continuation-token"] = page.next_token

    async def _identify_all(self, series: BucketSeries, listed: Sequence[ListedObject], round_: _Round) -> None:
        """Which instance each file is, into ``round_``; what is listed otherwise than before is asked about again."""
        left = round_.begin(listed)
        keep = self._keeper(series, len(round_.found))
        asked = iter(left)

        async def work() -> None:
            for one in asked:
                await self._identify(series, one, round_)
                keep(round_.found)

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(HEADS_AT_ONCE, len(left))):
                    nursery.start_soon(work)
        except BaseExceptionGroup as group:
            raise first_of(group) from None

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

    async def _identify(self, series: BucketSeries, one: ListedObject, round_: _Round) -> None:
        advance = partial(self._advance, series)
        try:
            uid = await self._heads.identify(self.transport(series.bucket), series.content, one, advance)
            round_.found.append(IdentifiedObject(uid, *one))
        except (AccessDenied, Damaged, Gone, Refused) as error:  # of this file alone
            log.warning("%s: %s is passed over: %s", self.where(series), one.name, error)
            round_.note(one, error)


class _Round:
    """One time of finding out what the files of a series are, and what came out."""

    def __init__(self, known: Iterable[IdentifiedObject], no_instances: frozenset[ListedObject]) -> None:
        self.found = list(known)
        self.no_instances = set(no_instances)
        self.failure: IdcfsError | None = None
        """What is wrong with one of those that cannot be told."""

    def begin(self, listed: Sequence[ListedObject]) -> list[ListedObject]:
        """Forget what is not ``listed``; what of that is not known."""
        known = {ListedObject(stored.name, stored.size): stored for stored in self.found}
        self.found = [known[one] for one in listed if one in known]
        self.no_instances.intersection_update(listed)
        return [one for one in listed if one not in known and one not in self.no_instances]

    def note(self, one: ListedObject, error: IdcfsError) -> None:
        """It could not be told what ``one`` is."""
        if isinstance(error, NoInstance):
            self.no_instances.add(one)
        else:
            self.failure = copy(error)  # without its traceback, whose frames would stay in memory


def _packed(objects: Iterable[IdentifiedObject]) -> list[str]:
    return [f"{stored.instance_uid} {stored.name} {stored.size}" for stored in objects]


def _unpacked(lines: Sequence[str]) -> Iterator[IdentifiedObject]:
    for line in lines:
        instance_uid, name, size = line.split(" ")
        yield IdentifiedObject(instance_uid, name, int(size))

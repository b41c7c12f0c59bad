"""Which of two places an instance comes from: the archive's WADO-RS, or the bucket that holds it too.

WADO-RS is asked first. The bucket serves what that cannot: while the archive is away or its quota is spent, what is
larger than it can send, what it does not have, what came damaged or transcoded, and what is wanted from the middle of
something that it streams from the beginning only. And all that is read in bulk: IDC asks that such go to the buckets,
which have no quota. What one retrieval does where a place fails is in ``retrieval.py``; here is what is remembered for
the next ones: which place comes first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import trio
from cachetools import LRUCache, TTLCache

from ..errors import Gone, IdcfsError
from ..settings import MIB, ArchiveSettings, Policy
from ..stats import Stats
from .bucket import BucketArchive
from .dicomweb import DicomwebArchive
from .inventory import BucketSeries
from .lengths import Lengths
from .records import SeriesRecord
from .retrieval import InstanceKey, InstancePlace, Retrieval

_PREFERRED_SECONDS = 600.0
"""How long an instance that one place could not serve is asked for at the other one first; so with a whole series."""
_MAX_PREFERRED = 100_000

_FROM_BUCKET = "from its bucket"
"""Of what is logged of files and series that come from there, one line a minute is enough."""

log = logging.getLogger(__name__)


class SeriesKey(BucketSeries, Protocol):
    """A series, as either place wants to hear of it."""

    @property
    def study_uid(self) -> str: ...


class Listed(NamedTuple):
    """The instances of a series."""

    uids: Sequence[str]
    sizes: dict[str, int]
    """In bytes, of as many as are known."""


class Choice:
    """Both places as one: the ``Places`` of its retrievals."""

    def __init__(
        self,
        archive: DicomwebArchive,
        buckets: BucketArchive | None,
        settings: ArchiveSettings,
        policy: Policy,
        timeout_seconds: float,
        stats: Stats,
        *,
        exact_sizes: bool = False,
    ) -> None:
        """
        :param timeout_seconds: how long a body may bring nothing, where the other place can go on.
        """
        self._archive = archive
        self._buckets = buckets
        self._settings = settings
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._stats = stats
        self._exact_sizes = exact_sizes
        self._preferred: TTLCache[tuple[str, str], InstancePlace] = TTLCache(
            _MAX_PREFERRED, _PREFERRED_SECONDS, trio.current_time
        )
        self._absent = _AbsentSeries(settings.spoken_name)
        self._bulk = 0
        self._lengths = None if buckets is None or policy == "wado" else Lengths(buckets, timeout_seconds)

    # --- what there is -----------------------------------------------------------------------------------------------

    async def search_series(self) -> list[SeriesRecord]:
        """Every series of the archive; a bucket cannot tell."""
        return await self._archive.search_series()

    async def search_instances(self, series: SeriesKey) -> Listed:
        """The instances of ``series``; sizes of as many as either place tells without being asked for more."""
        buckets = self._buckets
        if buckets is not None and self._policy == "bucket":
            return await _listed(buckets, series)
        if buckets is None or not buckets.may_hold(series):
            return Listed(await self._search(series), {})
        try:
            uids = await self._search(series)
        except IdcfsError as error:
            if self._policy == "wado":
                raise
            return await self._list_instead(buckets, series, error)
        if not uids and series.instances != 0 and self._policy == "auto":
            nothing = Gone(f"{self._settings.spoken_name} lists none of its instances")
            return await self._list_instead(buckets, series, nothing)
        self._absent.note_listed(series)
        return Listed(uids, await self._sizes(buckets, series) if self._exact_sizes else {})

    async def _search(self, series: SeriesKey) -> list[str]:
        return await self._archive.search_instances(series.study_uid, series.series_uid, series.instances)

    async def _list_instead(self, buckets: BucketArchive, series: SeriesKey, why: IdcfsError) -> Listed:
        if isinstance(why, Gone):
            self._absent.note_absent(series)
        try:
            listed = await _listed(buckets, series)
        except IdcfsError as error:
            log.info("series %s cannot be listed from its bucket either: %s", series.series_uid, error)
            raise why from None
        log.info("series %s is listed from its bucket: %s", series.series_uid, why, extra={"kind": "listed instead"})
        return listed

    async def _sizes(self, buckets: BucketArchive, series: SeriesKey) -> dict[str, int]:
        try:
            return await buckets.sizes(series, in_part=True)
        except IdcfsError as error:
            log.warning("sizes of series %s stay provisional: %s", series.series_uid, error)
            return {}

    # --- what it holds -----------------------------------------------------------------------------------------------

    def retrieval(self, instance: InstanceKey) -> Retrieval:
        """One retrieval of ``instance``, from whichever place has it."""
        return Retrieval(instance, self, self._timeout_seconds)

    def starts_anywhere(self, instance: InstanceKey) -> bool:
        """Whether the place that comes first sends ranges, as far as is known."""
        return self.in_order(instance)[0].starts_anywhere(instance)

    def elsewhere(self, instance: InstanceKey) -> bool:
        """Whether one can start anywhere in ``instance`` from now on, of which somebody wants what comes much later."""
        if self._policy == "auto" and self._buckets is not None and self._is_in_bucket(instance):
            if instance.key not in self._preferred and self._buckets.starts_anywhere(instance):
                self._prefer(instance, self._buckets, "the archive streams it from the beginning only")
        elif self._policy != "bucket":
            self._archive.hope_for_ranges()
        return self.starts_anywhere(instance)

    def begin_bulk(self) -> Callable[[], None]:
        """Somebody reads in bulk, until what is returned is called: the buckets come first."""
        self._bulk += 1

        def end() -> None:
            self._bulk -= 1

        return end

    # --- what its retrievals find out ------------------------------------------------------------------------------

    def is_archive(self, place: InstancePlace) -> bool:
        """Whether its word counts where none can serve."""
        return place is self._archive

    def title(self, place: InstancePlace) -> str:
        """What people call it."""
        return self._settings.spoken_name if self.is_archive(place) else "the bucket"

    async def length_of(self, instance: InstanceKey) -> int | None:
        """The exact size in bytes of ``instance``, of which an answer says none; None where it is known, or nowhere."""
        if self._lengths is None or instance.size is not None or not self._is_in_bucket(instance):
            return None
        return await self._lengths.of(instance)

    def note_body(self, instance: InstanceKey, place: InstancePlace, instead: IdcfsError | None) -> None:
        """A body has begun; ``instead`` is what the other place has just failed with."""
        if self.is_archive(place):
            self._absent.note_served(instance)
        else:
            self._stats.count("bucket_downloads")
        if instead is not None:
            self._prefer(instance, place, str(instead))

    def note_no_body(self, instance: InstanceKey, place: InstancePlace, error: IdcfsError) -> None:
        """None could be had there."""
        if not self.is_archive(place):
            return
        if isinstance(error, Gone):
            self._absent.note_gone(instance)
        elif self._settings.is_too_large(instance.size):
            most = (self._settings.max_response_bytes or 0) // MIB
            log.warning("%s is larger than the %d MiB that %s can send", instance, most, self._settings.spoken_name)

    def note_bad_body(
        self, instance: InstanceKey, place: InstancePlace, other: InstancePlace | None, error: IdcfsError
    ) -> None:
        """A body has failed with ``error``: its place comes first no more. ``other`` is asked next, None: no other."""
        if other is not None:
            self._prefer(instance, other, str(error))
        elif self._preferred.get(instance.key) is place:
            del self._preferred[instance.key]

    def in_order(self, instance: InstanceKey) -> list[InstancePlace]:
        """Where to ask for ``instance``, in this order."""
        if self._buckets is not None and self._policy == "bucket":
            return [self._buckets]
        if self._buckets is None or not self._is_in_bucket(instance) or self._policy == "wado":
            return [self._archive]
        if self._settings.is_too_large(instance.size):
            return [self._buckets]
        first = self._preferred.get(instance.key)
        if first is None:
            is_of_no_use = self._bulk or self._archive.away is not None or instance in self._absent
            first = self._buckets if is_of_no_use else self._archive
        return [self._buckets, self._archive] if first is self._buckets else [self._archive, self._buckets]

    def _is_in_bucket(self, instance: InstanceKey) -> bool:
        return self._buckets is not None and self._buckets.may_hold(instance)

    def _prefer(self, instance: InstanceKey, place: InstancePlace, why: str) -> None:
        if self._preferred.get(instance.key) is not place:
            where = "its bucket" if place is self._buckets else self._settings.spoken_name
            kind = _FROM_BUCKET if place is self._buckets else "from the archive"
            log.info("%s comes from %s: %s", instance, where, why, extra={"kind": kind})
        self._preferred[instance.key] = place


class _AbsentSeries:
    """Series that the archive does not have, as far as its answers have shown, for a while.

    So it is if its listing says so. Where the list was kept, so that the archive was not asked for it, two different
    instances in a row that are not there say as much; one alone may be missing.
    """

    def __init__(self, archive: str) -> None:
        """
        :param archive: what people call it.
        """
        self._archive = archive
        self._absent: TTLCache[tuple[str, str], bool] = TTLCache(_MAX_PREFERRED, _PREFERRED_SECONDS, trio.current_time)
        self._gone: TTLCache[tuple[str, str], str] = TTLCache(_MAX_PREFERRED, _PREFERRED_SECONDS, trio.current_time)
        """The SOPInstanceUID of an instance that is not there, until one is."""
        self._listed: LRUCache[tuple[str, str], bool] = LRUCache(_MAX_PREFERRED)
        """Of these the archive has listed instances: what is not there is missing by itself."""

    def __contains__(self, series: SeriesKey) -> bool:
        return _path(series) in self._absent

    def note_absent(self, series: SeriesKey) -> None:
        """The archive says that it has nothing of ``series``."""
        if series not in self:
            why = f"{self._archive} does not have it"
            log.info("series %s comes from its bucket: %s", series.series_uid, why, extra={"kind": _FROM_BUCKET})
        self._listed.pop(_path(series), None)
        self._absent[_path(series)] = True

    def note_gone(self, instance: InstanceKey) -> None:
        """The archive does not have ``instance``."""
        if _path(instance) in self._listed:
            return
        if self._gone.setdefault(_path(instance), instance.instance_uid) != instance.instance_uid:
            self.note_absent(instance)

    def note_listed(self, series: SeriesKey) -> None:
        """The archive says what it has of ``series``."""
        self.note_served(series)
        self._listed[_path(series)] = True

    def note_served(self, series: SeriesKey) -> None:
        """The archive has something of ``series``."""
        self._absent.pop(_path(series), None)
        self._gone.pop(_path(series), None)


def _path(series: SeriesKey) -> tuple[str, str]:
    return series.study_uid, series.series_uid


async def _listed(buckets: BucketArchive, series: SeriesKey) -> Listed:
    sizes = await buckets.sizes(series)
    return Listed(sorted(sizes), sizes)

"""Where the house gets lists and contents: the archive and the buckets, or what stands in for them offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, NoReturn

import trio

from .content.instance import Instance, Retrieval
from .errors import NotOffered, Unreachable
from .namespace.catalog import Series
from .namespace.store import SeriesStore
from .settings import ArchiveSettings, MountSettings
from .stats import Stats

if TYPE_CHECKING:
    from .archive.adc import Login
    from .archive.bucket import BucketArchive
    from .archive.choice import Choice, Listed
    from .archive.dicomweb import DicomwebArchive
    from .archive.google import GoogleAuth
    from .archive.records import SeriesRecord
    from .archive.renditions import DicomwebRenditions, Metadata
    from .archive.transport import Transport

_FEWER_ATTEMPTS = 2
"""Where there is another place to ask. Not one: a connection that the server had dropped takes one."""


class Offline:
    """What stands in for the archive where no request may be sent."""

    async def search_instances(self, series: Series) -> Listed:
        """Never answers."""
        _refuse_offline(f"the list of series {series.series_uid}")

    async def search_series(self) -> list[SeriesRecord]:
        """Never answers."""
        _refuse_offline("the list of all series")

    async def find_instance(self, instance_uid: str) -> SeriesRecord | None:
        """Never answers."""
        _refuse_offline(f"where instance {instance_uid} is")

    async def metadata(self, study_uid: str, series_uid: str, instance_uid: str = "") -> Metadata:
        """Never answers."""
        _refuse_offline(f"the metadata of {instance_uid or series_uid}")

    async def rendered(
        self, study_uid: str, series_uid: str, instance_uid: str, media_type: str, frame: int = 0
    ) -> bytes:
        """Never answers."""
        _refuse_offline(f"the picture of {instance_uid}")

    def retrieval(self, instance: Instance) -> Retrieval:
        """Never answers."""
        _refuse_offline(str(instance))

    def starts_anywhere(self, instance: Instance) -> bool:
        """It makes no difference."""
        return False

    def elsewhere(self, instance: Instance) -> bool:
        """There is no other place."""
        return False

    def begin_bulk(self) -> Callable[[], None]:
        """It makes no difference."""
        return lambda: None

    def ask_again(self) -> None:
        """Nobody was asked before."""

    def log_in_with(self, login: Login) -> None:
        """Nobody is logged in to."""

    def load(self) -> None:
        """There is nothing to load."""


def _refuse_offline(what: str) -> NoReturn:
    error = Unreachable(f"{what} is not in the cache, and this mount is offline")
    error.reported = True  # who mounted it so knows
    raise error


class Archive:
    """The archive and the buckets, made when they are first asked.

    Their libraries take a third of a mount's time to load, and mounting sends no request: ``load`` may load them once
    it is done.
    """

    def __init__(
        self,
        settings: MountSettings,
        stats: Stats,
        store: SeriesStore,
        clients: AsyncExitStack,
        nursery: trio.Nursery,
        login: Login | None,
        tell_sizes: Callable[[str, Mapping[str, int]], None],
    ) -> None:
        """
        :param tell_sizes: called with a series' content UUID and the exact sizes of its instances, as soon as a bucket
            tells them.
        :param clients: closes what is made here.
        :param nursery: where what is shared goes on, whoever asked for it first.
        """
        self._settings = settings
        self._stats = stats
        self._store = store
        self._clients = clients
        self._nursery = nursery
        self._login = login
        self._tell_sizes = tell_sizes
        self._told_of_buckets = False
        self._transports: list[Transport] = []
        self._google: GoogleAuth | None = None
        self._importing = RLock()  # two threads at once may each get modules that are not ready yet

    async def search_instances(self, series: Series) -> Listed:
        """The instances of a series."""
        return await self._choice.search_instances(series)

    async def search_series(self) -> list[SeriesRecord]:
        """Every series of the archive."""
        return await self._choice.search_series()

    async def find_instance(self, instance_uid: str) -> SeriesRecord | None:
        """The series that an instance is in; None where the archive does not know it."""
        self._want_dicomweb()
        return await self._dicomweb.find_instance(instance_uid)

    async def metadata(self, study_uid: str, series_uid: str, instance_uid: str = "") -> Metadata:
        """Metadata of all instances of a series, or of one."""
        self._want_dicomweb()
        return await self._renditions.metadata(study_uid, series_uid, instance_uid)

    async def rendered(
        self, study_uid: str, series_uid: str, instance_uid: str, media_type: str, frame: int = 0
    ) -> bytes:
        """A picture of an instance, or of one of its frames, numbered from 1."""
        self._want_dicomweb()
        return await self._renditions.rendered(study_uid, series_uid, instance_uid, media_type, frame)

    def _want_dicomweb(self) -> None:
        """:raises NotOffered: if only the buckets may be asked, which have files and nothing else."""
        if self._settings.source.policy == "bucket":
            error = NotOffered("with --content bucket there are neither pictures nor metadata, nor links to instances")
            error.reported = self._told_of_buckets
            self._told_of_buckets = True
            raise error

    def retrieval(self, instance: Instance) -> Retrieval:
        """What brings the bytes of an instance."""
        return self._choice.retrieval(instance)

    def starts_anywhere(self, instance: Instance) -> bool:
        """Whether the place that it comes from sends ranges."""
        return self._choice.starts_anywhere(instance)

    def elsewhere(self, instance: Instance) -> bool:
        """Whether it comes from where one can start anywhere from now on."""
        return self._choice.elsewhere(instance)

    def begin_bulk(self) -> Callable[[], None]:
        """Somebody reads in bulk, until what is returned is called."""
        return self._choice.begin_bulk()

    def ask_again(self) -> None:
        """Ask every place again at once, even if it was away."""
        for transport in self._transports:
            transport.ask_again()

    def log_in_with(self, login: Login) -> None:
        """Log in with these credentials from now on."""
        self._login = login
        if self._google is not None:
            self._google.use(login)

    def load(self) -> None:
        """Load the libraries, so that whoever asks first need not wait for that; for a thread."""
        with self._importing:
            from .archive import bucket, choice, dicomweb, inventory, transport  # noqa: F401

    @cached_property
    def _choice(self) -> Choice:
        with self._importing:
            from .archive.choice import Choice

        settings = self._settings
        return Choice(
            self._dicomweb,
            self._buckets(),
            settings.archive,
            settings.source.policy,
            self._patience_seconds,
            self._stats,
            exact_sizes=settings.source.exact_sizes,
        )

    @cached_property
    def _transport(self) -> Transport:
        return self._transport_to(self._settings.archive, self._auth())

    @cached_property
    def _dicomweb(self) -> DicomwebArchive:
        with self._importing:
            from .archive.dicomweb import DicomwebArchive

        return DicomwebArchive(self._transport, self._settings.archive)

    @cached_property
    def _renditions(self) -> DicomwebRenditions:
        with self._importing:
            from .archive.renditions import DicomwebRenditions

        return DicomwebRenditions(self._transport)

    def _buckets(self) -> BucketArchive | None:
        from .archive.bucket import BucketArchive
        from .archive.inventory import Inventory

        buckets = self._settings.source.buckets
        if buckets is None:
            return None
        inventory = Inventory(
            buckets, self._transport_to, self._patience_seconds, self._store, self._tell_sizes, self._nursery
        )
        return BucketArchive(inventory)

    def _transport_to(self, archive: ArchiveSettings, auth: GoogleAuth | None = None) -> Transport:
        from .archive.transport import Transport

        has_stand_in = archive is self._settings.archive and self._has_two_places
        settings = replace(self._settings.transport, timeout_seconds=self._patience_seconds)
        if has_stand_in:
            settings = replace(settings, max_attempts=_FEWER_ATTEMPTS)
        transport = Transport(archive, settings, self._stats, auth, has_stand_in=has_stand_in)
        self._clients.push_async_exit(transport)
        self._transports.append(transport)
        return transport

    def _auth(self) -> GoogleAuth | None:
        if self._login is None:
            return None
        from .archive.google import GoogleAuth

        self._google = GoogleAuth(self._login, self._nursery, self._patience_seconds)
        return self._google

    @property
    def _patience_seconds(self) -> float:
        """How long one place may take: half of what a call may, if there is another one to be asked after it."""
        asks_both = self._has_two_places or self._settings.source.exact_sizes
        return self._settings.transport.timeout_seconds / (2 if asks_both else 1)

    @property
    def _has_two_places(self) -> bool:
        return self._settings.source.policy == "auto" and self._settings.source.buckets is not None

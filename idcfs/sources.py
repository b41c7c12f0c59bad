"""What the house asks the archive through: the archive itself, or what stands in for it where none may be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import trio

from .content.instance import Body, Instance
from .errors import IdcfsError, Unreachable
from .settings import MountSettings
from .stats import Stats

if TYPE_CHECKING:
    from .archive.dicomweb import DicomwebArchive, SeriesRecord


class Offline:
    """What stands in for the archive where no request may be sent."""

    async def search_instances(self, study_uid: str, series_uid: str, expected: int | None) -> list[str]:
        """Never answers."""
        _refuse_offline(f"the list of series {series_uid}")

    async def search_series(self) -> list[SeriesRecord]:
        """Never answers."""
        _refuse_offline("the list of all series")

    def fetch(self, instance: Instance, start: int = 0, stop: int | None = None) -> AbstractAsyncContextManager[Body]:
        """Never answers."""
        _refuse_offline(str(instance))

    def starts_anywhere(self, instance: Instance) -> bool:
        """It makes no difference."""
        return False

    def elsewhere(self, instance: Instance, reason: IdcfsError | None) -> bool:
        """There is no other place."""
        return False


def _refuse_offline(what: str) -> NoReturn:
    error = Unreachable(f"{what} is not in the cache, and this mount is offline")
    error.reported = True  # who mounted it so knows
    raise error


class Archive:
    """The archive's client, made when the first request is sent.

    Its libraries take a third of a mount's time to load, and mounting sends no request.
    """

    def __init__(self, settings: MountSettings, stats: Stats, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stats = stats
        self._stack = stack
        self._lock = trio.Lock()
        self._client: DicomwebArchive | None = None

    async def search_instances(self, study_uid: str, series_uid: str, expected: int | None) -> list[str]:
        """SOPInstanceUIDs of a series."""
        return await (await self._made()).search_instances(study_uid, series_uid, expected)

    async def search_series(self) -> list[SeriesRecord]:
        """Every series of the archive."""
        return await (await self._made()).search_series()

    @asynccontextmanager
    async def fetch(self, instance: Instance, start: int = 0, stop: int | None = None) -> AsyncIterator[Body]:
        """The bytes of an instance."""
        async with (await self._made()).fetch(instance, start, stop) as body:
            yield body

    def starts_anywhere(self, instance: Instance) -> bool:
        """Whether the archive may know ranges."""
        return self._client is None or self._client.knows_ranges

    def elsewhere(self, instance: Instance, reason: IdcfsError | None) -> bool:
        """There is no other place."""
        return False

    async def _made(self) -> DicomwebArchive:
        async with self._lock:
            if self._client is None:
                from .archive.dicomweb import DicomwebArchive
                from .archive.transport import Transport

                archive = self._settings.archive
                transport = Transport(archive, self._settings.transport, self._stats)
                self._client = DicomwebArchive(await self._stack.enter_async_context(transport), archive)
        return self._client

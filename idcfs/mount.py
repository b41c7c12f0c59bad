"""The composition root: builds the house, serves it, takes it down. Nothing here decides anything about files."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from . import fuse, mounts
from .content.blocks import MemoryTier
from .content.instance import Body, Instance
from .content.reader import Reader
from .errors import IdcfsError, UsageError
from .filesystem import Filesystem
from .namespace.catalog import Catalog
from .namespace.index import open_catalog, searched_catalog, unsearched_catalog
from .namespace.listing import Listings
from .namespace.sizes import SizeStore
from .settings import QIDO, MountSettings
from .stats import Stats

if TYPE_CHECKING:
    from .archive.dicomweb import DicomwebArchive

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Each of them unmounts."""

log = logging.getLogger(__name__)


def serve(settings: MountSettings, ready: Callable[[], None]) -> None:
    """Mount and answer the kernel until unmounted or told to stop; ``ready`` is called once the mount answers.

    :raises IdcfsError: if the mount cannot be made.
    """
    _make_private(settings.cache_dir)
    catalog = _catalog(settings)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # but while mounted: a second Ctrl-C must not disturb the unmounting
    try:
        trio.run(_serve, settings, catalog, ready)
    except BaseExceptionGroup as group:  # what a nursery raises: the one failure that matters is ours
        ours, others = group.split(IdcfsError)
        if ours is None or others is not None:
            raise
        raise _first(ours) from None


async def _serve(settings: MountSettings, catalog: Catalog, ready: Callable[[], None]) -> None:
    stats = Stats()
    async with AsyncExitStack() as stack:
        archive = _Archive(settings, stats, stack)
        sizes = SizeStore(settings.cache_dir / "sizes.sqlite")
        stack.callback(sizes.close)
        nursery = await stack.enter_async_context(trio.open_nursery())
        memory = MemoryTier(settings.content.memory_cache_bytes)
        stats.gauge("cache_bytes", lambda: memory.size)
        filesystem = Filesystem(
            catalog,
            Listings(archive.search_instances, sizes, nursery, settings.archive.base_url),
            Reader(archive, memory, settings.content, nursery, stats),
            stats,
            nursery,
            status=_status(settings, stats),
            search=archive.catalog if settings.index == QIDO else None,
        )
        nursery.start_soon(sizes.run)
        await _answer(fuse.Adapter(filesystem, stats), settings, ready)
        nursery.cancel_scope.cancel()


class _Archive:
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

    async def catalog(self) -> Catalog:
        """The catalog of what the archive itself lists."""
        records = await (await self._made()).search_series()
        # In a thread: sorting a million series must not hold up everything else.
        return await trio.to_thread.run_sync(searched_catalog, self._settings.archive.name, records)

    @asynccontextmanager
    async def fetch(self, instance: Instance, start: int = 0) -> AsyncIterator[Body]:
        """The bytes of an instance."""
        async with (await self._made()).fetch(instance, start) as body:
            yield body

    async def _made(self) -> DicomwebArchive:
        async with self._lock:
            if self._client is None:
                from .archive.dicomweb import DicomwebArchive
                from .archive.transport import Transport

                archive = self._settings.archive
                transport = Transport(archive, self._settings.transport, self._stats)
                self._client = DicomwebArchive(await self._stack.enter_async_context(transport), archive)
        return self._client


async def _answer(adapter: fuse.Adapter, settings: MountSettings, ready: Callable[[], None]) -> None:
    """Mounted, until unmounted or a signal comes."""
    mountpoint = settings.mountpoint
    with (
        trio.open_signal_receiver(*_SIGNALS) as signals,
        fuse.mounted(adapter, mountpoint, settings.fuse_options),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, nursery.cancel_scope)
            nursery.start_soon(_announce, mountpoint, ready)
            await fuse.answer_requests()
            nursery.cancel_scope.cancel()
    log.info("unmounted %s", mountpoint)


async def _announce(mountpoint: Path, ready: Callable[[], None]) -> None:
    """Once the kernel and we have spoken: the limits it set then can be raised, and the mount answers."""
    await trio.to_thread.run_sync(os.statvfs, mountpoint, abandon_on_cancel=True)
    await trio.to_thread.run_sync(mounts.tune, mountpoint, abandon_on_cancel=True)
    log.info("mounted %s", mountpoint)
    ready()


async def _stop_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        log.info("%s: unmounting", signal.Signals(number).name)
        scope.cancel()


def _catalog(settings: MountSettings) -> Catalog:
    """The index's catalog; of an archive to be searched, one that holds only the name of its one collection."""
    if settings.index != QIDO:
        return open_catalog(settings.index, settings.cache_dir)
    return unsearched_catalog(settings.archive.name)


def _status(settings: MountSettings, stats: Stats) -> Callable[[], bytes]:
    """What makes ``/.status.json``; its names are promised to other programs."""
    started = time.time()
    fixed = {
        "pid": os.getpid(),
        "mountpoint": str(settings.mountpoint),
        "archive": settings.archive.name,
        "url": settings.archive.base_url,
        "index": settings.index,
        "cache_dir": str(settings.cache_dir),
        "memory_cache_bytes": settings.content.memory_cache_bytes,
        "started": round(started),
    }

    def make() -> bytes:
        report = {"idcfs": _version()} | fixed | {"counters": stats.snapshot()}
        return json.dumps(report, indent=1).encode() + b"\n"

    return make


@cache
def _version() -> str:
    return version("idcfs")


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the cache directory {directory} cannot be made: {error.strerror}") from None


def _first(group: BaseExceptionGroup[IdcfsError]) -> IdcfsError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one

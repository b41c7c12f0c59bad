"""The composition root: builds the house, serves it, takes it down. Nothing here decides anything about files."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import trio

from . import console, fuse, heap, mounts, notify, signals, trust
from .content.amounts import affordable_for_later
from .content.blocks import MemoryTier
from .content.disk import DiskTier
from .content.disk_store import UNBOUNDED
from .content.documents import Documents
from .content.prefetch import Prefetcher
from .content.reader import Reader
from .content.tiers import Tiers
from .errors import IdcfsError, UsageError, first_of
from .filesystem import Filesystem
from .layout import parse_layout
from .namespace.catalog import Catalog
from .namespace.exported import ExportedIndex
from .namespace.index import open_catalog, search_catalog, unsearched_catalog
from .namespace.listing import Listings
from .namespace.store import SeriesStore
from .settings import BLOCKS_NAME, QIDO, STORE_NAME, MountSettings
from .sources import Archive, Offline
from .stats import Stats
from .views.index_files import IndexFiles
from .views.links import UidLinks
from .views.metadata import Metadata
from .views.own import OwnFiles
from .views.pictures import Pictures
from .views.renditions import Renditions
from .views.tree import Tree
from .views.view import SideView

if TYPE_CHECKING:
    from .archive.adc import Login

log = logging.getLogger(__name__)

_LOAD_AFTER_SECONDS = 0.1
"""How long after mounting the archive's libraries are loaded. That takes a quarter of a second of the processor, in
which each call waits up to 5 ms for Python's lock: whoever lists the top at once is to be done by then."""


def serve(settings: MountSettings, ready: Callable[[], None]) -> None:
    """Mount and answer the kernel until unmounted or told to stop; ``ready`` is called once the mount answers.

    :raises IdcfsError: if the mount cannot be made.
    """
    ends = signals.ending(in_foreground=settings.log_file is None)
    signals.ignore(signals.MILD - ends)
    heap.return_large_blocks()
    os.umask(0o077)  # what is cached may hold patients' names
    _make_private(settings.cache_dir)
    login = _login(settings)
    try:
        catalog = _catalog(settings)
    finally:
        settings.cohort.close()
    signals.ignore(signals.ALL)  # but while mounted: a second Ctrl-C must not disturb the unmounting
    try:
        trio.run(_serve, settings, catalog, login, ends, ready)
    except BaseExceptionGroup as group:  # what a nursery raises: the one failure that matters is ours
        ours, others = group.split(IdcfsError)
        if ours is None or others is not None:
            raise
        raise first_of(ours) from None


async def _serve(
    settings: MountSettings,
    catalog: Catalog,
    login: Login | None,
    ends: Collection[int],
    ready: Callable[[], None],
) -> None:
    stats = Stats()
    stats.gauge("tasks", lambda: trio.lowlevel.current_statistics().tasks_living)
    async with AsyncExitStack() as stack:
        metrics_port = await _tell_metrics(settings, stats, stack)
        status = _status(settings, stats, metrics_port)
        filesystem, archive = await stack.enter_async_context(built(settings, catalog, stats, status, login))
        obey = partial(signals.obey, ends=ends, ask_again=partial(_ask_again, archive, settings), tell=stats.line)
        load = partial(_load, archive)
        await _answer(fuse.Adapter(filesystem, stats, settings.owner), settings, obey, ready, load)


@asynccontextmanager
async def built(
    settings: MountSettings,
    catalog: Catalog,
    stats: Stats,
    status: Callable[[], bytes],
    login: Login | None = None,
) -> AsyncIterator[tuple[Filesystem, Archive | Offline]]:
    """The house without a face: the filesystem, and the archive below it. At the end, what came last is on disk.

    :param status: makes the content of ``/.status.json``.
    """
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(AsyncExitStack())  # closed after everybody who uses them has ended
        store = SeriesStore(settings.cache_dir / STORE_NAME)
        memory, disk = _open_tiers(settings, stats)
        stack.callback(disk.close)
        stack.callback(store.close)  # before the contents, which may take a while
        nursery = await stack.enter_async_context(trio.open_nursery())

        def learn_sizes(content: str, sizes: Mapping[str, int]) -> None:
            listings.learn_sizes(content, sizes)

        archive = (
            Offline() if settings.offline else Archive(settings, stats, store, clients, nursery, login, learn_sizes)
        )
        tiers = Tiers(memory, disk)
        reader = Reader(archive, tiers, settings.content, nursery, stats)
        listings = Listings(
            archive.search_instances,
            store,
            nursery,
            settings.archive.base_url,
            stats,
            wants_sizes=settings.source.tells_sizes,
            offline=settings.offline,
        )
        search = _search(archive, settings) if settings.index == QIDO else None
        prefetcher = Prefetcher(reader, settings.content, tiers.capacity, nursery, stats)
        tree = Tree(catalog, listings, reader, prefetcher, nursery, search)
        url = settings.archive.base_url
        renditions = Renditions(archive, Documents(tiers), store, url, nursery, stats)
        side_views: list[SideView] = [
            OwnFiles(tree, status, archive.begin_bulk),
            UidLinks(tree, archive.find_instance, nursery),
            Metadata(tree, renditions),
            Pictures(tree, renditions),
        ]
        if settings.index != QIDO:
            side_views.append(_index_files(tree, settings, nursery))
        filesystem = Filesystem(tree, side_views, stats, partial(_sync, reader, listings))
        nursery.start_soon(store.run)
        nursery.start_soon(disk.run)
        yield filesystem, archive
        nursery.cancel_scope.cancel()


async def _tell_metrics(settings: MountSettings, stats: Stats, stack: AsyncExitStack) -> int | None:
    """Answer Prometheus until ``stack`` ends; returns the port, None where it is not wanted.

    :raises UsageError: if the port cannot be had.
    """
    if settings.metrics_port is None:
        return None
    from . import metrics  # here, not above: most mounts do without

    listeners = await metrics.listen(settings.metrics_port)
    nursery = await stack.enter_async_context(trio.open_nursery())
    stack.callback(nursery.cancel_scope.cancel)
    nursery.start_soon(metrics.serve, listeners, stats)
    return metrics.port_of(listeners)


async def _sync(reader: Reader, listings: Listings) -> None:
    """Return when contents are on disk that have found room there, and lists and sizes.

    :raises IdcfsError: if lists and sizes cannot be kept.
    """
    await reader.sync()
    if not await listings.sync():
        raise IdcfsError("lists and sizes cannot be kept on disk")


async def _load(archive: Archive | Offline) -> None:
    """Have the archive's libraries ready before it is asked, but not in the way of what a user does at once."""
    await trio.sleep(_LOAD_AFTER_SECONDS)
    with suppress(Exception):  # whoever needs them is told
        await trio.to_thread.run_sync(archive.load, abandon_on_cancel=True)


def _login(settings: MountSettings) -> Login | None:
    """What the archive is logged in to with; None where it wants no login, or no request is ever sent.

    :raises UsageError: if there are no credentials.
    """
    if settings.offline or not settings.archive.google_login:
        return None
    from .archive.adc import find_login  # here, not above: it takes long to load

    return find_login(settings.archive.quota_project)


def _open_tiers(settings: MountSettings, stats: Stats) -> tuple[MemoryTier, DiskTier]:
    content = settings.content
    memory = MemoryTier(content.memory_cache_bytes)
    behind = affordable_for_later(content.memory_cache_bytes)
    # Offline nothing comes that would need room, and what would go could not be had again.
    capacity = UNBOUNDED if settings.offline and content.disk_cache_bytes else content.disk_cache_bytes
    disk = DiskTier(settings.cache_dir / BLOCKS_NAME, capacity, stats, behind)
    stats.gauge("cache_bytes", lambda: memory.size)
    stats.gauge("disk_cache_bytes", lambda: disk.size)
    stats.gauge("disk_cache_capacity", lambda: disk.capacity)
    stats.gauge("unwritten_bytes", lambda: disk.queue.waiting_bytes)
    return memory, disk


async def _ask_again(archive: Archive | Offline, settings: MountSettings) -> None:
    """Ask every place again, with the credentials that are found now; where there are none, with those in use."""
    with notify.reloading(settings.mountpoint):
        log.info("SIGHUP: whoever was away is asked again")
        archive.ask_again()
        try:
            login = await trio.to_thread.run_sync(_login, settings, abandon_on_cancel=True)
        except UsageError as error:
            log.warning("%s; going on with the credentials in use", error)
        else:
            if login is not None:
                archive.log_in_with(login)
                log.info("logging in with the credentials found now")


async def _answer(
    adapter: fuse.Adapter,
    settings: MountSettings,
    obey: Callable[[SimpleQueue[int], Callable[[], None]], Awaitable[None]],
    ready: Callable[[], None],
    load: Callable[[], Awaitable[None]],
) -> None:
    """Mounted, until unmounted or a signal comes that ends it; ``load`` is done once ``ready`` has been told."""
    mountpoint = settings.mountpoint
    with (
        signals.received() as numbers,
        fuse.mounted(adapter, mountpoint, settings.fuse_options, settings.source_name),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, numbers, nursery.cancel_scope.cancel)
            nursery.start_soon(_announce, mountpoint, ready, load)
            await fuse.answer_requests()
            nursery.cancel_scope.cancel()
    notify.stopping()
    log.info("unmounted %s", mountpoint)


async def _announce(mountpoint: Path, ready: Callable[[], None], load: Callable[[], Awaitable[None]]) -> None:
    """Once the kernel and we have spoken: the limits it set then can be raised, and the mount answers."""
    await trio.to_thread.run_sync(os.statvfs, mountpoint, abandon_on_cancel=True)
    await trio.to_thread.run_sync(mounts.tune, mountpoint, abandon_on_cancel=True)
    log.info("mounted %s", mountpoint)
    ready()
    await load()


def _search(archive: Archive | Offline, settings: MountSettings) -> Callable[[], Awaitable[Catalog]]:
    """What makes the catalog of what the archive itself lists."""
    return partial(
        search_catalog,
        archive.search_series,
        settings.archive,
        settings.cache_dir,
        parse_layout(settings.layout),
        offline=settings.offline,
    )


def _catalog(settings: MountSettings) -> Catalog:
    """The index's catalog; of an archive to be searched, one that holds only the name of its one collection."""
    if settings.index != QIDO:
        layout = parse_layout(settings.layout)
        return open_catalog(settings.index, settings.cache_dir, layout, settings.cohort, partial(_tell, settings))
    return unsearched_catalog(settings.archive.name, parse_layout(settings.layout))


def _tell(settings: MountSettings, line: str) -> None:
    log.warning("%s", line)
    if settings.log_file is not None:  # else the log is on stderr as well
        console.say(line)


def _index_files(tree: Tree, settings: MountSettings, nursery: trio.Nursery) -> IndexFiles:
    exported = ExportedIndex(settings.index, settings.cache_dir, parse_layout(settings.layout), settings.cohort)
    return IndexFiles(tree, exported, nursery, settings.transport.timeout_seconds)


def _status(settings: MountSettings, stats: Stats, metrics_port: int | None) -> Callable[[], bytes]:
    """What makes ``/.status.json``; its names are promised to other programs."""
    started = time.time()
    fixed = {
        "pid": os.getpid(),
        "mountpoint": str(settings.mountpoint),
        "archive": settings.archive.name,
        "url": settings.archive.base_url,
        "content": settings.source.policy,
        "buckets": settings.source.buckets.name if settings.source.buckets else None,
        "bucket_url": settings.source.buckets.url if settings.source.buckets else None,
        "exact_sizes": settings.source.exact_sizes,
        "index": settings.index,
        "layout": settings.layout,
        "cohort": settings.cohort.report(),
        "cache_dir": str(settings.cache_dir),
        "cache_size_bytes": settings.content.disk_cache_bytes,
        "memory_cache_bytes": settings.content.memory_cache_bytes,
        "offline": settings.offline,
        "log_file": str(settings.log_file) if settings.log_file else None,
        "metrics_port": metrics_port,
        "started": round(started),
    }

    def make() -> bytes:
        report = {"idcfs": _version()} | fixed | {"counters": stats.snapshot()} | stats.details()
        return json.dumps(report, indent=1).encode() + b"\n"

    return make


@cache
def _version() -> str:
    return version("idcfs")


def _make_private(directory: Path) -> None:
    try:
        str(directory).encode()
    except UnicodeEncodeError:  # Arrow opens no file below it
        raise UsageError(f"--cache-dir {directory}: it is no text in UTF-8") from None
    try:
        trust.make_directory(directory)
        trust.check_directory(directory, "cache directory")
    except OSError as error:
        raise UsageError(f"the cache directory {directory} cannot be made: {error.strerror}") from None

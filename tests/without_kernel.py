"""A filesystem without the kernel, over a small catalog, with an archive and a reader that do as they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import trio

from idcfs.archive.choice import Listed
from idcfs.content.instance import Instance
from idcfs.content.prefetch import Prefetcher
from idcfs.content.reader import Reader
from idcfs.errors import IdcfsError, WrongSize
from idcfs.filesystem import Filesystem
from idcfs.namespace.catalog import Catalog, Series
from idcfs.namespace.listing import Listings
from idcfs.namespace.nodes import ROOT_INODE
from idcfs.namespace.store import SeriesStore
from idcfs.settings import KIB, ContentSettings
from idcfs.stats import Stats
from idcfs.views.links import UidLinks
from idcfs.views.own import OwnFiles
from idcfs.views.tree import Tree
from idcfs.views.view import Attributes, Entry, SideView
from tests.namespace.making import ROW, with_path

ROWS = [
    replace(with_path(ROW, "lung", "P1", "1.1", "1.1.1"), instanceCount=3, series_size_MB=0.3),
    replace(with_path(ROW, "lung", "P1", "1.1", "1.1.2"), instanceCount=1, series_size_MB=0.1),
    with_path(ROW, "lung", "P1", "1.2", "1.2.1"),
    with_path(ROW, "lung", "P2", "1.1", "1.1.3"),  # the study of two patients
    replace(with_path(ROW, "brain", "P1", "1.3", "1.3.1"), series_revised_idc_version=2),
    with_path(ROW, ".status.json", "a/b", "", ".."),
]
RELEASES = {1: 1_000, 2: 2_000}
STATUS = b'{"idcfs": 1}\n'


@dataclass
class Source:
    """The archive and the reader: what they answer, and what they were asked."""

    uids: Sequence[str] | IdcfsError = ("1.9.1", "1.9.2", "1.9.3")
    size: int | IdcfsError = 250 * KIB
    damaged: bool = False
    listed: list[str] = field(default_factory=list)
    sized: list[str] = field(default_factory=list)
    opened: Counter[str] = field(default_factory=Counter)
    replaced: set[str] = field(default_factory=set)
    instances: list[Instance] = field(default_factory=list)

    async def list(self, series: Series) -> Listed:
        await trio.lowlevel.checkpoint()
        self.listed.append(series.series_uid)
        if isinstance(self.uids, IdcfsError):
            raise self.uids
        return Listed(self.uids[: series.instances], {})

    async def find(self, instance_uid: str) -> None:
        """No instance is known."""

    def open(self, instance: Instance) -> None:
        self.instances.append(instance)
        self.opened[instance.instance_uid] += 1

    def was_replaced(self, instance: Instance) -> bool:
        return instance.instance_uid in self.replaced

    def close(self, instance: Instance) -> None:
        self.opened[instance.instance_uid] -= 1
        assert self.opened[instance.instance_uid] >= 0

    async def read_size(self, instance: Instance) -> int:
        await trio.lowlevel.checkpoint()
        self.sized.append(instance.instance_uid)
        if isinstance(self.size, IdcfsError):
            raise self.size
        return self.size

    async def cached_bytes(self, instance: Instance, size: int) -> int:
        """As if all were that has been asked for."""
        await trio.lowlevel.checkpoint()
        return size if instance.instance_uid in self.sized else 0

    async def read(self, instance: Instance, size: int, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.damaged:
            raise WrongSize("not the size that was known")
        return (instance.instance_uid.encode() * size)[offset : min(offset + length, size)]


class FakeReader:
    """The face of ``Reader`` over a ``Source``."""

    def __init__(self, source: Source) -> None:
        self.open, self.close, self.size, self.read = source.open, source.close, source.read_size, source.read
        self.was_replaced, self.cached_bytes = source.was_replaced, source.cached_bytes


@asynccontextmanager
async def serving(
    source: Source,
    catalog: Catalog,
    path: Path,
    stats: Stats | None = None,
    search: Callable[[], Awaitable[Catalog]] | None = None,
) -> AsyncIterator[Filesystem]:
    store = SeriesStore(path / "series.sqlite")
    reader = cast("Reader", FakeReader(source))
    try:
        async with trio.open_nursery() as nursery:
            listings = Listings(source.list, store, nursery, "http://archive", Stats())
            prefetcher = Prefetcher(reader, ContentSettings(prefetch=0), 0, nursery, Stats())
            tree = Tree(catalog, listings, reader, prefetcher, nursery, search)
            links = UidLinks(tree, source.find, nursery)
            side_views: list[SideView] = [OwnFiles(tree, lambda: STATUS), links]
            yield Filesystem(tree, side_views, stats or Stats(), trio.lowlevel.checkpoint)
    finally:
        store.close()


async def at(fs: Filesystem, path: str) -> Attributes:
    """What a walk down ``path`` finds at its end."""
    found = await fs.getattr(ROOT_INODE)
    for name in path.split("/"):
        below = await fs.lookup(found.inode, name.encode())
        assert below is not None, path
        found = below
    return found


async def entries(fs: Filesystem, inode: int, start: int = 0) -> list[Entry]:
    handle = await fs.opendir(inode)
    try:
        return list(fs.readdir(handle, start))
    finally:
        fs.releasedir(handle)


async def names(fs: Filesystem, inode: int) -> list[bytes]:
    return [name for name, _, _ in await entries(fs, inode)]

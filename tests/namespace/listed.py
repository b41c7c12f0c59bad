"""Listings as tests have them: of an archive that is a function, kept in a store on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from idcfs.archive.choice import Listed
from idcfs.namespace.catalog import Series
from idcfs.namespace.listing import Listing, Listings
from idcfs.namespace.store import SeriesStore
from idcfs.stats import Stats


def series(instances: int | None = 3, total_bytes: int | None = 900_000, content: str = "uuid") -> Series:
    return Series("1.2", "1.2.3", instances, total_bytes, content, frozenset(), "idc-open-data")


def numbered(row: int, instances: int | None = 3) -> Series:
    return series(instances, content=f"uuid-{row}")


def uids(count: int) -> list[str]:
    return [f"1.2.3.{number}" for number in range(count)]


def listing_of(count: int, total_bytes: int | None, sizes: dict[str, int] | None = None) -> Listing:
    return Listing(series(count, total_bytes), "uuid", uids(count), sizes or {})


@dataclass
class Archive:
    """Lists ``answer`` once ``open`` is set; counts how often."""

    answer: Sequence[str] | Exception = field(default_factory=lambda: uids(3))
    sizes: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    open: trio.Event = field(default_factory=trio.Event)
    stats: Stats = field(default_factory=Stats)

    async def list(self, one: Series) -> Listed:
        self.calls += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return Listed(self.answer, self.sizes)


@asynccontextmanager
async def listings_of(
    archive: Archive, tmp_path: Path, *, held: bool = False, offline: bool = False, wants_sizes: bool = False
) -> AsyncIterator[Listings]:
    if not held:
        archive.open.set()
    store = SeriesStore(tmp_path / "series.sqlite")
    try:
        async with trio.open_nursery() as nursery:
            yield Listings(
                archive.list, store, nursery, "http://archive", archive.stats, wants_sizes=wants_sizes, offline=offline
            )
    finally:
        store.close()

"""A series, and a tool that reads it file by file and is followed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from idcfs.content.instance import Instance
from idcfs.content.prefetch import Prefetcher
from idcfs.errors import Damaged
from idcfs.settings import KIB, MIB
from tests.content.scripted import Script, Setup, dicom, instance, reading, sound

SMALL = 20 * KIB


def uid(ordinal: int) -> str:
    return f"1.2.3.{ordinal}"


@dataclass
class Series:
    """A series of which no size is known yet."""

    number: int
    provisional: int = 64 * KIB
    series: str = "a series"
    first: int = 0
    """Ordinal in the source of its first instance."""
    sizes: dict[int, int] = field(default_factory=dict)
    nameless: frozenset[int] = frozenset()
    """Ordinals whose names are no UID."""

    def __len__(self) -> int:
        return self.number

    def instance(self, ordinal: int) -> Instance:
        if ordinal in self.nameless:
            raise Damaged(f"{ordinal} has no valid UID")
        return instance(uid(self.first + ordinal))

    def size(self, ordinal: int) -> int:
        return self.sizes.get(ordinal, self.provisional)

    def exact_size(self, ordinal: int) -> int | None:
        return self.sizes.get(ordinal)

    def learn(self, ordinal: int, size: int) -> None:
        self.sizes[ordinal] = size


@dataclass
class Tool:
    """Somebody who opens files of a series."""

    setup: Setup
    prefetcher: Prefetcher
    series: Series

    async def read(self, ordinal: int, share: float = 1.0) -> None:
        """Open, read the first ``share`` of it, close; then let everything settle."""
        one = self.series.instance(ordinal)
        self.setup.reader.open(one)
        self.prefetcher.opened(self.series, ordinal)
        size = self.series.exact_size(ordinal) or await self.setup.reader.size(one)
        self.series.learn(ordinal, size)
        wanted = int(size * share)
        data = await self.setup.reader.read(one, size, 0, wanted)
        assert data == dicom(one.instance_uid, size)[:wanted]
        self.setup.reader.close(one)
        self.prefetcher.closed(self.series, ordinal, wanted)
        await trio.testing.wait_all_tasks_blocked()

    async def settle(self) -> set[int]:
        """The ordinals fetched so far, once nothing moves."""
        await trio.testing.wait_all_tasks_blocked(0.01)
        return {int(one.rpartition(".")[2]) for one in self.setup.source.fetches}


@asynccontextmanager
async def following(
    number: int = 100,
    size: int = SMALL,
    capacity: int = 64 * MIB,
    changed: dict[int, Script] | None = None,
    settings: dict[str, float] | None = None,
    **how: float,
) -> AsyncIterator[Tool]:
    """A tool that reads a series of ``number`` instances of ``size`` bytes."""
    scripts: dict[str, Script | list[Script]] = {
        uid(ordinal): sound(dicom(uid(ordinal), size), **how) for ordinal in range(number)
    }
    scripts |= {uid(ordinal): script for ordinal, script in (changed or {}).items()}
    chosen: dict[str, float] = {"prefetch": 8} | (settings or {})
    async with reading(scripts, **chosen) as setup:  # type: ignore[arg-type]
        prefetcher = Prefetcher(setup.reader, setup.reader._settings, capacity, setup.nursery, setup.stats)
        yield Tool(setup, prefetcher, Series(number, provisional=max(64 * KIB, size)))
        await trio.sleep(60)
        assert not prefetcher._watching
        assert setup.stats["prefetching"] == 0

"""Two places that say what a test wrote down, and the choice between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Self, cast

import trio

from idcfs import errors
from idcfs.archive.bucket import BucketArchive
from idcfs.archive.choice import Choice
from idcfs.archive.dicomweb import DicomwebArchive
from idcfs.settings import ArchiveSettings, Policy
from idcfs.stats import Stats

TIMEOUT = 30.0
FAILURES = (
    errors.Gone("no such instance"),
    errors.AccessDenied("no"),
    errors.QuotaSpent("come back tomorrow"),
    errors.DeadlinePassed("nothing came"),
    errors.Unreachable("nobody there"),
    errors.Refused("nonsense", 400),
    errors.Damaged("garbage"),
)


@dataclass(frozen=True)
class Series:
    study_uid: str = "1.2"
    series_uid: str = "1.2.3"
    instances: int | None = 2
    content: str = "uuid"
    bucket: str = "idc-open-data"


@dataclass(frozen=True)
class Instance(Series):
    instance_uid: str = "1.2.3.4"
    size: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.content, self.instance_uid


@dataclass(eq=False)
class Body:
    """Chunks, so many seconds apart."""

    chunks: Sequence[bytes]
    pause_seconds: float = 0.0
    start: int = 0
    stop: int | None = None
    size: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep(self.pause_seconds)
        if not self.chunks:
            raise StopAsyncIteration
        first, *self.chunks = self.chunks
        return first


@dataclass(eq=False)
class Place:
    """An archive, or the buckets: fails with ``error``, else sends ``body``."""

    body: Body
    error: errors.IdcfsError | None = None
    uids: Sequence[str] = ("1.1", "1.2")
    asked: int = 0
    away: errors.IdcfsError | None = None
    knows_ranges: bool = False
    holds: bool = True
    listing_seconds: float = 0.0

    @asynccontextmanager
    async def fetch(self, instance: Instance, start: int = 0, stop: int | None = None) -> AsyncIterator[Body]:
        self._ask()
        yield replace(self.body)

    def starts_anywhere(self, instance: Instance) -> bool:
        return self.knows_ranges

    async def search_instances(self, study_uid: str, series_uid: str, expected: int | None) -> list[str]:
        self._ask()
        return list(self.uids)

    async def size(self, instance: Instance) -> int:
        self._ask()
        await trio.sleep(self.listing_seconds)
        return 7

    async def sizes(self, series: Series, *, in_part: bool = False) -> dict[str, int]:
        self._ask()
        return dict.fromkeys(self.uids, 7)

    def hope_for_ranges(self) -> None:
        """It is known what it knows."""

    def may_hold(self, series: Series) -> bool:
        return self.holds

    def _ask(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


@dataclass
class Setup:
    policy: Policy = "auto"
    exact_sizes: bool = False
    most: int | None = None
    wado: Place = field(default_factory=lambda: Place(Body([b"wado"], size=4)))
    bucket: Place = field(default_factory=lambda: Place(Body([b"bucket"], size=6), knows_ranges=True))
    stats: Stats = field(default_factory=Stats)

    def __post_init__(self) -> None:
        self.choice = Choice(
            cast("DicomwebArchive", self.wado),
            cast("BucketArchive", self.bucket),
            ArchiveSettings("mock", "http://mock", max_response_bytes=self.most),
            self.policy,
            TIMEOUT,
            self.stats,
            exact_sizes=self.exact_sizes,
        )

    async def content(self, instance: Instance | None = None) -> bytes:
        async with self.choice.retrieval(instance or Instance()).fetch() as body:
            return b"".join([chunk async for chunk in body])

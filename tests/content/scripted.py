"""A source in memory that behaves as a test wrote down, sound or not, and a reader on top of it."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, Self

import trio
import trio.testing

from idcfs.content.blocks import MemoryTier
from idcfs.content.disk import DiskTier
from idcfs.content.instance import Instance
from idcfs.content.reader import Reader, Wish
from idcfs.content.tiers import Tiers
from idcfs.errors import IdcfsError
from idcfs.settings import GIB, KIB, MIB, ContentSettings
from idcfs.stats import Stats

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.50"
TIMEOUT = 60.0
LINGER = 0.1
SLIP = 7

SHORT_LENGTH = "<HH2sH"
LONG_LENGTH = "<HH2sHI"


def element(number: int, vr: bytes, value: bytes) -> bytes:
    """An element of the file meta."""
    value += b"\0" * (len(value) % 2)
    if vr in (b"OB", b"UN", b"UT"):
        return struct.pack(LONG_LENGTH, 2, number, vr, 0, len(value)) + value
    return struct.pack(SHORT_LENGTH, 2, number, vr, len(value)) + value


def part10(uid: str, syntax: str = EXPLICIT) -> bytes:
    """The beginning of a Part 10 file."""
    meta = element(1, b"OB", b"\0\1") + element(3, b"UI", uid.encode()) + element(0x10, b"UI", syntax.encode())
    return b"\0" * 128 + b"DICM" + element(0, b"UL", struct.pack("<I", len(meta))) + meta + b"\x08\0\x05\0CS\0\0"


@lru_cache(maxsize=64)
def dicom(uid: str, size: int, syntax: str = EXPLICIT) -> bytes:
    """A file of ``size`` bytes, the same every time, no two stretches of it alike."""
    head = part10(uid, syntax)
    return head + random.Random(uid).randbytes(size - len(head))


def instance(uid: str = "1.2.3", *syntaxes: str) -> Instance:
    """An instance for which the index lists ``syntaxes``, Explicit Little Endian if none are given."""
    return Instance("content", "1.1", "1.2", uid, frozenset(syntaxes or (EXPLICIT,)), is_fixed=True)


class Bytes(Protocol):
    """What is stored: bytes, or something that makes them up."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Huge:
    """A file too large to be held: its beginning, then zeros."""

    head: bytes
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self.size)
        return (self.head[start:stop] + bytes(stop - start))[: stop - start]


@dataclass(frozen=True)
class Script:
    """How one fetch goes."""

    data: Bytes
    announced: int | None = None
    chunks: Sequence[int] = (64 * KIB,)
    """Sizes of the chunks; the last one for ever."""
    open_seconds: float = 0.0
    chunk_seconds: float = 0.0
    close_seconds: float = 0.0
    refusal: Exception | None = None
    """Raised instead of a body."""
    breaks_at: int | None = None
    break_error: Exception | None = None
    stalls_at: int | None = None
    ranges: bool = False
    """Whether it can start, and stop, anywhere."""
    excess: int = 0
    """Bytes that ranges bring beyond their end."""
    slips_from: int | None = None
    """Ranges that begin there or later bring other bytes than they say: those a little before."""


def sound(data: Bytes, **how: object) -> Script:
    """The whole of ``data``, with its size announced."""
    return Script(data, announced=len(data), **how)  # type: ignore[arg-type]


class ScriptedBody:
    """Sends what its script says."""

    def __init__(self, source: ScriptedSource, uid: str, script: Script, start: int, stop: int | None) -> None:
        self.start = start
        self.stop = stop
        self.size = script.announced
        self.place = source.left[uid]
        self._source = source
        self._uid = uid
        self._script = script
        self._position = start
        self._slip = SLIP if script.slips_from is not None and start >= script.slips_from else 0
        self._sizes = list(script.chunks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        script = self._script
        await trio.sleep(script.chunk_seconds)
        if script.stalls_at is not None and self._position >= script.stalls_at:
            await trio.sleep_forever()
        if script.breaks_at is not None and self._position >= script.breaks_at:
            assert script.break_error is not None
            raise script.break_error
        size = self._sizes.pop(0) if len(self._sizes) > 1 else self._sizes[0]
        end = None if self.stop is None else self.stop + script.excess
        stops = [stop for stop in (script.breaks_at, script.stalls_at, end) if stop is not None]
        end = min([self._position + size, len(script.data), *stops])
        chunk = script.data[self._position - self._slip : end - self._slip]
        if not chunk:
            raise StopAsyncIteration
        self._position += len(chunk)
        self._source.delivered[self._uid] += len(chunk)
        return chunk


@dataclass
class ScriptedSource:
    """``scripts``: for each instance one, or several, of which the last is for ever."""

    scripts: dict[str, Script | list[Script]]
    fetches: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies, over all fetches."""
    asked: list[tuple[int, int | None]] = field(default_factory=list)
    """(start, stop) of every fetch."""
    places: dict[str, list[Script | list[Script]]] = field(default_factory=dict)
    """For each instance, how other places have it, which are gone to one after the other."""
    reasons: list[IdcfsError | None] = field(default_factory=list)
    """Those for which another place was asked for."""
    left: Counter[str] = field(default_factory=Counter)
    """How many places were left, for each instance."""
    open_bodies: int = 0
    most_open_bodies: int = 0

    @asynccontextmanager
    async def fetch(self, instance: Instance, start: int = 0, stop: int | None = None) -> AsyncIterator[ScriptedBody]:
        """Open the bytes of ``instance`` as its script says."""
        uid = instance.instance_uid
        self.asked.append((start, stop))
        self.fetches[uid] += 1
        script = self.scripts[uid]
        if isinstance(script, list):
            script = script.pop(0) if len(script) > 1 else script[0]
        self.open_bodies += 1
        self.most_open_bodies = max(self.most_open_bodies, self.open_bodies)
        try:
            await trio.sleep(script.open_seconds)
            if script.refusal is not None:
                raise script.refusal
            if not script.ranges:
                start, stop = 0, None
            yield ScriptedBody(self, uid, script, start, stop)
            await trio.sleep(script.close_seconds)
        finally:
            self.open_bodies -= 1

    def retrieval(self, instance: Instance) -> ScriptedRetrieval:
        """Goes from place to place with the source."""
        return ScriptedRetrieval(self, instance)

    def starts_anywhere(self, instance: Instance) -> bool:
        """Whether the next fetch will know ranges."""
        script = self.scripts[instance.instance_uid]
        return (script[0] if isinstance(script, list) else script).ranges

    def elsewhere(self, instance: Instance, reason: IdcfsError | None = None) -> bool:
        """From the next place, if there is one."""
        self.reasons.append(reason)
        places = self.places.get(instance.instance_uid)
        if not places:
            return False
        self.scripts[instance.instance_uid] = places.pop(0)
        self.left[instance.instance_uid] += 1
        return True


@dataclass
class ScriptedRetrieval:
    """One of the source's."""

    source: ScriptedSource
    instance: Instance
    place: int = 0
    """How many places had been left before the last body came."""

    @asynccontextmanager
    async def fetch(self, start: int = 0, stop: int | None = None) -> AsyncIterator[ScriptedBody]:
        async with self.source.fetch(self.instance, start, stop) as body:
            self.place = body.place
            yield body

    def goes_elsewhere(self, error: IdcfsError, *, resumes: bool) -> bool:
        return self.source.elsewhere(self.instance, error)

    def last_word(self, error: IdcfsError) -> IdcfsError:
        return error


@dataclass
class Setup:
    """A reader and all it stands on."""

    reader: Reader
    source: ScriptedSource
    memory: MemoryTier
    tiers: Tiers
    stats: Stats
    nursery: trio.Nursery

    async def whole(self, one: Instance, step: int = 128 * KIB) -> bytes:
        """Open, read in order, close."""
        self.reader.open(one)
        try:
            return await self.rest(one, await self.reader.size(one), step=step)
        finally:
            self.reader.close(one)

    async def rest(self, one: Instance, size: int, offset: int = 0, step: int = 128 * KIB) -> bytes:
        """Read in order from ``offset`` to the end."""
        return b"".join([await self.reader.read(one, size, at, step) for at in range(offset, size, step)])

    async def fetch_ahead(self, one: Instance, size: int | None, learn: Callable[[int], None]) -> None:
        """Wish for it until it is there."""
        wish = Wish(self.reader, one)
        try:
            await self.reader.fetch_ahead(wish, size, learn)
        finally:
            wish.give_up()

    def assert_nothing_is_left(self) -> None:
        """No state of instances that nobody reads."""
        assert not self.reader._downloads
        assert self.source.open_bodies == 0
        assert self.reader._slots._free == self.reader._settings.max_downloads
        assert not self.reader._slots._spare
        assert self.reader._slots._leaving == 0


@asynccontextmanager
async def reading(
    scripts: dict[str, Script | list[Script]] | Script | list[Script],
    memory_bytes: int = 64 * MIB,
    directory: Path | None = None,
    disk_bytes: int = 1 * GIB,
    places: dict[str, list[Script | list[Script]]] | list[Script | list[Script]] | None = None,
    **settings: float,
) -> AsyncIterator[Setup]:
    """A reader of ``scripts``, or of instance 1.2.3 alone; in the end nothing may be left of it.

    :param directory: of the disk tier; without, there is none.
    :param places: how the source's other places have them.
    """
    if not isinstance(scripts, dict):
        scripts = {"1.2.3": scripts}
    if not isinstance(places, dict):
        places = {"1.2.3": places or []}
    chosen: dict[str, float] = {"timeout_seconds": TIMEOUT, "max_downloads": 8, "linger_seconds": LINGER} | settings
    source, memory, stats = ScriptedSource(scripts, places=places), MemoryTier(memory_bytes), Stats()
    disk = DiskTier(directory or Path("/nowhere"), disk_bytes if directory else 0, stats)
    tiers = Tiers(memory, disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.run)
        content = ContentSettings(memory_cache_bytes=memory_bytes, **chosen)  # type: ignore[arg-type]
        reader = Reader(source, tiers, content, nursery, stats)
        setup = Setup(reader, source, memory, tiers, stats, nursery)
        yield setup
        await trio.testing.wait_all_tasks_blocked()
        if setup.reader._downloads:
            await trio.sleep(2 * LINGER)
        if setup.reader._downloads:
            await trio.sleep(2 * TIMEOUT)
        setup.assert_nothing_is_left()
        nursery.cancel_scope.cancel()
    disk.close()


async def read_all(setup: Setup, one: Instance, data: bytes, step: int = 128 * KIB) -> None:
    assert await setup.whole(one, step) == data

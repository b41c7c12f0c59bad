"""Whatever readers do, in whatever order, over whatever connections: the bytes are those of the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from idcfs.content.instance import Instance
from idcfs.errors import IdcfsError, Truncated, Unreachable
from idcfs.settings import KIB, MIB
from tests.content.scripted import Script, Setup, dicom, instance, reading

UIDS = ("1.2.1", "1.2.2", "1.2.3", "1.2.4")


@dataclass(frozen=True)
class Read:
    """One read of a reader: ``offset`` and ``length`` are fractions of the file, or of a block beyond it."""

    offset: float
    length: int
    pause_seconds: float


@dataclass(frozen=True)
class Visit:
    """One reader: opens a file after a while, reads here and there, closes it."""

    uid: str
    after_seconds: float
    asks_size: bool
    reads: Sequence[Read]
    patience_seconds: float
    """When it is cancelled."""


pauses = st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.3, 100.0])
lengths = st.sampled_from([0, 1, 4 * KIB, 128 * KIB, MIB, MIB + 1, 3 * MIB])
reads = st.builds(Read, st.sampled_from([0.0, 0.999, 1.0, 1.1]) | st.floats(0, 1), lengths, pauses)
visits = st.builds(
    Visit, st.sampled_from(UIDS), pauses, st.booleans(), st.lists(reads, max_size=6), st.sampled_from([1e6, 1e6, 0.05])
)
sizes = st.sampled_from([300, 5_000, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 77, 8 * MIB, 24 * MIB + 5])
breaks = st.sampled_from([None, None, 0, 150, 4_096, MIB, 2 * MIB + 9])
ways = st.fixed_dictionaries(
    {
        "chunks": st.sampled_from([(10_000,), (64 * KIB,), (1, 200, 256 * KIB), (2 * MIB + 3,)]),
        "chunk_seconds": st.sampled_from([0.0, 0.0, 0.001]),
        "open_seconds": st.sampled_from([0.0, 0.05]),
        "close_seconds": st.sampled_from([0.0, 0.05]),
        "breaks_at": breaks,
        "break_error": st.sampled_from([Truncated("broke"), Unreachable("lost")]),
    }
)


@dataclass(frozen=True)
class File:
    """What is stored under a UID, and how its fetches go."""

    size: int
    announced: bool
    ranges: bool
    ways: Sequence[dict[str, object]]
    place: dict[str, object] | None
    """How they go from another place, if there is one."""

    def scripts(self, uid: str) -> list[Script | list[Script]]:
        """For each place."""
        places: list[Script | list[Script]] = [[self._script(uid, self.ranges, way) for way in self.ways]]
        return places if self.place is None else [*places, self._script(uid, True, self.place)]

    def _script(self, uid: str, ranges: bool, way: dict[str, object]) -> Script:
        announced = self.size if self.announced or ranges else None  # a 206 tells it
        return Script(dicom(uid, self.size), announced, ranges=ranges, **way)  # type: ignore[arg-type]

    @property
    def is_sound(self) -> bool:
        """Whether nothing breaks."""
        return all(way["breaks_at"] is None for way in (*self.ways, *([self.place] if self.place else [])))


files_read = st.builds(
    File, sizes, st.booleans(), st.booleans(), st.lists(ways, min_size=1, max_size=3), st.none() | ways
)


@given(
    files=st.lists(files_read, min_size=4, max_size=4),
    plan=st.lists(visits, min_size=1, max_size=10),
    memory=st.sampled_from([0, 1, 2, 3, 64]),
    slots=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_bytes_are_right_or_an_error_and_nothing_is_left(
    files: list[File], plan: list[Visit], memory: int, slots: int
) -> None:
    main = partial(_run, dict(zip(UIDS, files, strict=True)), plan, memory * MIB, slots)
    trio.run(main, clock=MockClock(autojump_threshold=0))


async def _run(files: dict[str, File], plan: list[Visit], memory_bytes: int, slots: int) -> None:
    scripts = {uid: file.scripts(uid) for uid, file in files.items()}
    sound = all(file.is_sound for file in files.values())
    firsts = {uid: places.pop(0) for uid, places in scripts.items()}
    async with reading(firsts, memory_bytes, places=scripts, max_downloads=slots) as setup:
        async with trio.open_nursery() as nursery:
            for visit in plan:
                nursery.start_soon(_visit, setup, visit, dicom(visit.uid, files[visit.uid].size), sound)
        await trio.sleep(1000)
        if not any(file.ranges or file.place for file in files.values()):
            assert setup.stats["downloads"] <= setup.stats["misses"] + len(plan)
        assert setup.source.most_open_bodies <= slots
        assert setup.memory.size <= memory_bytes


async def _visit(setup: Setup, visit: Visit, data: bytes, sound: bool) -> None:
    one = instance(visit.uid)
    await trio.sleep(visit.after_seconds)
    setup.reader.open(one)
    with trio.move_on_after(visit.patience_seconds):
        if visit.asks_size:
            await _size(setup, one, data, sound)
        for read in visit.reads:
            await _read(setup, one, data, read, sound)
            await trio.sleep(read.pause_seconds)
    setup.reader.close(one)


async def _size(setup: Setup, one: Instance, data: bytes, sound: bool) -> None:
    try:
        assert await setup.reader.size(one) == len(data)
    except IdcfsError:
        assert not sound


async def _read(setup: Setup, one: Instance, data: bytes, read: Read, sound: bool) -> None:
    offset = int(read.offset * len(data))
    try:
        assert await setup.reader.read(one, len(data), offset, read.length) == data[offset : offset + read.length]
    except IdcfsError:
        assert not sound

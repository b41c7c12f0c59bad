"""Ranges that are fetched at once: that they are parts of one file, whichever comes first."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from idcfs.errors import Damaged, Replaced, Truncated
from idcfs.settings import KIB, MIB
from tests.content.ranged import DATA, ONE, OVERLAP, SIZE, in_order, ranged, read
from tests.content.scripted import SLIP, ScriptedBody, Setup, dicom, reading

OTHER_BYTES = "other bytes than it sent before"


async def right_until_it_fails(setup: Setup, offset: int = 0, step: int = 128 * 1024) -> int:
    """Read in order what is stored; the offset at which that ends with an error."""
    for position in range(offset, SIZE, step):
        try:
            data = await setup.reader.read(ONE, SIZE, position, step)
        except Replaced:
            return position
        assert data == DATA[position : position + step]
    return SIZE


@pytest.mark.parametrize("memory", [0, 64])
@pytest.mark.parametrize("slips_from", [4 * MIB - OVERLAP, 10 * MIB, 25 * MIB])
async def test_who_reads_in_order_gets_no_byte_of_ranges_that_bring_others_than_they_say(
    autojump_clock: MockClock, slips_from: int, memory: int
) -> None:
    slipping = ranged(DATA, slips_from=slips_from, open_seconds=0.04, chunk_seconds=0.001)
    async with reading(slipping, memory * MIB) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.size(ONE) == SIZE
        assert 3 * MIB <= await right_until_it_fails(setup) <= slips_from + 8 * MIB
        assert setup.memory.size == 0
        assert setup.reader.was_replaced(ONE)
        asked = len(setup.source.asked)
        for offset in (0, slips_from + MIB):  # nothing that nobody can be given is fetched, and kept
            with pytest.raises(Damaged, match=OTHER_BYTES):
                await read(setup, offset, 10)
        assert len(setup.source.asked) == asked
        setup.reader.close(ONE)
        await trio.sleep(10)


@pytest.mark.parametrize("late", [0, 1, 2])
async def test_it_shows_whichever_range_comes_first(autojump_clock: MockClock, late: int) -> None:
    """Of blocks 10, 11 and 12, that are asked for at once."""
    ranges = [ranged(DATA, slips_from=12 * MIB - OVERLAP, open_seconds=10.0 if late == n else 1.0) for n in range(3)]
    async with reading([ranged(DATA), *ranges]) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        failed: list[int] = []

        async def read_block(block: int) -> None:
            try:
                assert (await setup.reader.read(ONE, SIZE, block * MIB, MIB)) in (
                    DATA[block * MIB : (block + 1) * MIB],
                    DATA[block * MIB - SLIP : (block + 1) * MIB - SLIP],
                )
            except Damaged:
                failed.append(block)

        async with trio.open_nursery() as nursery:
            for block in (10, 11, 12):
                nursery.start_soon(read_block, block)
                await trio.testing.wait_all_tasks_blocked()
        assert failed
        assert setup.memory.size == 0
        setup.reader.close(ONE)
        await trio.sleep(10)


@pytest.mark.parametrize("memory", [0, 64])
async def test_what_was_read_in_the_middle_is_compared_when_what_stands_before_it_comes(
    autojump_clock: MockClock, memory: int
) -> None:
    async with reading(ranged(DATA, slips_from=20 * MIB - OVERLAP), memory * MIB) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, SIZE, 20 * MIB, 10) != DATA[20 * MIB : 20 * MIB + 10]  # nobody can know
        with pytest.raises(Damaged, match=OTHER_BYTES):
            await read(setup, 19 * MIB, MIB)
        setup.reader.close(ONE)
        await trio.sleep(10)


@pytest.mark.parametrize("block", [20, 39])
async def test_what_was_kept_before_the_file_was_opened_is_compared_too(tmp_path: Path, block: int) -> None:
    """The last block is shorter than what is compared of others."""
    stored = DATA[: 39 * MIB + 1000]
    async with reading(ranged(stored, slips_from=block * MIB - OVERLAP), directory=tmp_path) as setup:
        setup.reader.open(ONE)
        wrong = await setup.reader.read(ONE, len(stored), block * MIB, MIB)
        assert wrong == stored[block * MIB - SLIP : min((block + 1) * MIB, len(stored)) - SLIP]  # nobody can know
        await setup.tiers.sync()
        setup.reader.close(ONE)
    async with reading(ranged(stored), directory=tmp_path) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Replaced):
            await in_order(setup, 0, block * MIB, stored, MIB)
        setup.reader.close(ONE)
        assert await setup.whole(ONE) == stored


@pytest.mark.parametrize("at", [-1, 10])
async def test_a_range_that_breaks_off_where_it_meets_what_is_kept_is_resumed_there(tmp_path: Path, at: int) -> None:
    async with reading(ranged(DATA), directory=tmp_path) as setup:
        await read(setup, 20 * MIB, MIB)
        await setup.tiers.sync()
    breaks = ranged(DATA, breaks_at=20 * MIB + at, break_error=Truncated("broke"))
    compared = [(0, MIB)]
    async with reading([ranged(DATA), breaks, ranged(DATA)], directory=tmp_path) as setup:
        await read(setup, 19 * MIB, MIB)
        end = 20 * MIB + OVERLAP
        resumed = 20 * MIB + min(at, 0) - OVERLAP
        assert setup.source.asked == [*compared, (19 * MIB - OVERLAP, end), (resumed, end)]


async def test_a_range_that_goes_on_beyond_what_is_compared_is_an_error(tmp_path: Path) -> None:
    async with reading(ranged(DATA), directory=tmp_path) as setup:
        await read(setup, 20 * MIB, MIB)
        await setup.tiers.sync()
    async with reading(ranged(DATA, excess=10), directory=tmp_path) as setup:
        with pytest.raises(Damaged, match="more than the range"):
            await read(setup, 19 * MIB, MIB)


async def test_a_range_that_breaks_off_before_what_was_wanted_begins_again(autojump_clock: MockClock) -> None:
    breaks = ranged(DATA, breaks_at=20 * MIB - 10, break_error=Truncated("broke"))
    async with reading([ranged(DATA), breaks, replace(breaks, breaks_at=20 * MIB + 10), ranged(DATA)]) as setup:
        await read(setup, 20 * MIB, MIB)
        assert [start for start, _ in setup.source.asked[1:]] == [
            20 * MIB - OVERLAP,
            20 * MIB - OVERLAP,
            20 * MIB + 10 - OVERLAP,
        ]


async def test_what_others_have_shown_of_a_seam_is_not_read_from_disk(tmp_path: Path) -> None:
    async with reading(ranged(DATA), 0, tmp_path) as setup:
        setup.reader.open(ONE)
        await read(setup, 20 * MIB, MIB)
        await setup.tiers.sync()
        await read(setup, 21 * MIB, 10)
        setup.reader.close(ONE)
        assert setup.stats["disk_hits"] == 0


async def test_what_is_received_when_all_is_dropped_is_not_kept(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(ranged(DATA)) as setup:
        downloads = setup.reader.open(ONE)
        await read(setup, 0, 10)
        receive = ScriptedBody.__anext__

        async def receive_last(body: ScriptedBody) -> bytes:
            chunk = await receive(body)
            if body._position == 21 * MIB:
                downloads._begin_anew(Replaced("another range has shown it"))
            return chunk

        monkeypatch.setattr(ScriptedBody, "__anext__", receive_last)
        with pytest.raises(Replaced, match="another range has shown it"):
            await setup.reader.read(ONE, SIZE, 20 * MIB, 2 * MIB)
        await trio.sleep(10)
        assert setup.memory.size == 0
        setup.reader.close(ONE)


async def test_what_is_received_when_all_is_dropped_is_not_remembered(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DATA[:1000] + dicom("other", SIZE)[1000:]
    async with reading(ranged(other)) as setup:
        downloads = setup.reader.open(ONE)
        receive = ScriptedBody.__anext__

        async def receive_last(body: ScriptedBody) -> bytes:
            chunk = await receive(body)
            if body._position == 64 * KIB and body._script.data is other:
                downloads._begin_anew(Replaced("another range has shown it"))
            return chunk

        monkeypatch.setattr(ScriptedBody, "__anext__", receive_last)
        with pytest.raises(Replaced, match="another range has shown it"):
            await setup.reader.read(ONE, SIZE, 0, 10)
        setup.reader.close(ONE)
        await trio.sleep(10)
        agreed = setup.reader._agreed[ONE.key]
        assert agreed.beginning.end == 0
        assert agreed.places == agreed.brought == set()
        setup.source.scripts["1.2.3"] = ranged(DATA)
        await read(setup, 0, MIB)


async def test_readers_here_and_there_of_a_sound_archive_see_no_difference(autojump_clock: MockClock) -> None:
    chance = random.Random(2)
    async with reading(ranged(DATA, open_seconds=0.04, chunk_seconds=0.001), 8 * MIB) as setup:
        setup.reader.open(ONE)
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(read, setup, chance.randrange(SIZE), 3 * MIB)
        setup.reader.close(ONE)

"""What one place has shown says nothing of another: its beginning is compared before its middle is believed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from idcfs.errors import IdcfsError, Replaced, Truncated, WrongSize
from idcfs.settings import KIB, MIB
from tests.content.ranged import DATA, ONE, OVERLAP, SIZE, breaks_off, come_from, ranged, read
from tests.content.scripted import Script, ScriptedRetrieval, dicom, reading, sound

HEADER = 100 * KIB
OTHER = DATA[:HEADER] + dicom("other", SIZE)[HEADER:]
"""Of the same length, and other bytes but for its header."""
BEGINNING = (0, MIB)


async def fill(directory: Path, *blocks: int) -> None:
    """Keep these blocks of the instance, as an earlier mount would have."""
    async with reading(sound(DATA), directory=directory) as setup:
        for block in blocks:
            setup.tiers.put(ONE.key, block, DATA[block * MIB : (block + 1) * MIB])


@pytest.mark.parametrize("memory", [0, 64])
async def test_a_seek_to_another_place_that_has_other_bytes_is_an_error(autojump_clock: MockClock, memory: int) -> None:
    async with reading(sound(DATA), memory * MIB, places=[ranged(OTHER)]) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 2 * HEADER)
        for offset in (30 * MIB, 30 * MIB, 0):
            with pytest.raises(Replaced):
                await read(setup, offset, 10)
        assert setup.memory.size == 0
        setup.reader.close(ONE)
        assert setup.reader.was_replaced(ONE)
        assert await setup.whole(ONE) == OTHER
        await trio.sleep(10)


async def test_a_place_that_has_another_length_is_an_error(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA), places=[ranged(DATA + b"x")]) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        with pytest.raises(WrongSize):
            await read(setup, 30 * MIB, 10)
        setup.reader.close(ONE)
        await trio.sleep(10)


async def test_a_place_is_compared_once(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA), 0, places=[ranged(DATA)]) as setup:
        for _ in range(3):
            setup.reader.open(ONE)
            await read(setup, 0, 10)
            for offset in (30 * MIB, 20 * MIB, 34 * MIB):
                await read(setup, offset, 10)
            setup.reader.close(ONE)
            await trio.sleep(10)
        beginnings = [part for part in setup.source.asked if part == BEGINNING]
        assert setup.source.asked[:3] == [(0, None), BEGINNING, (30 * MIB - OVERLAP, 31 * MIB)]
        assert len(beginnings) == 1


async def test_who_wants_several_parts_at_once_waits_for_one_comparison(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA), places=[ranged(DATA, open_seconds=1.0)], max_downloads=16) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        async with trio.open_nursery() as nursery:
            for offset in range(20 * MIB, 36 * MIB, 2 * MIB):
                nursery.start_soon(read, setup, offset, 10)
        assert setup.source.asked.count(BEGINNING) == 1
        setup.reader.close(ONE)


@pytest.mark.parametrize("data", [DATA, OTHER])
async def test_a_place_that_nobody_has_asked_for_is_compared_before_anything_is_taken_from_it(
    data: bytes, autojump_clock: MockClock
) -> None:
    async with reading(ranged(DATA)) as setup:
        setup.reader.open(ONE)
        await read(setup, 20 * MIB, 10)
        before = len(setup.source.asked)
        come_from(setup, ranged(data))
        part = (30 * MIB - OVERLAP, 31 * MIB)
        if data is DATA:
            await read(setup, 30 * MIB, 10)
            assert setup.source.asked[before:] == [part, BEGINNING, part]
        else:
            with pytest.raises(Replaced):
                await read(setup, 30 * MIB, 10)
        setup.reader.close(ONE)


async def test_what_an_earlier_mount_kept_is_compared_with_though_its_beginning_is_not_kept(tmp_path: Path) -> None:
    await fill(tmp_path, 7, 8)
    other = DATA[: 7 * MIB + 5] + b"other" + DATA[7 * MIB + 10 :]
    async with reading(ranged(other), directory=tmp_path) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Replaced):
            await read(setup, 20 * MIB, 10)
        setup.reader.close(ONE)
        assert await setup.whole(ONE) == other


@pytest.mark.parametrize("kept", [(10,), (3, 10), (1, 10)])
@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("closes", [True, False])
async def test_a_place_is_not_compared_with_what_itself_has_brought(
    tmp_path: Path, kept: tuple[int, ...], size: int | None, closes: bool
) -> None:
    """A stream has left its beginning in the cache, where a block of an earlier mount is."""
    await fill(tmp_path, *kept)
    other = DATA[:1000] + dicom("other", SIZE)[1000:]
    stream = Script(other, stalls_at=MIB if 1 in kept else MIB + 10)
    async with reading([stream, ranged(other)], directory=tmp_path) as setup:
        setup.reader.open(ONE)
        if size is None:
            with trio.move_on_after(0.3):
                await setup.reader.size(ONE)
        else:
            await read(setup, 0, 100 * KIB, other)
        if closes:
            setup.reader.close(ONE)
            await trio.sleep(0.5)
            setup.reader.open(ONE)
        for offset in (20 * MIB, 10 * MIB):
            with pytest.raises(Replaced):
                await setup.reader.read(ONE, SIZE, offset, 10)
        setup.reader.close(ONE)
        assert await setup.whole(ONE) == other


async def test_how_it_began_is_remembered_when_nobody_has_it_open(autojump_clock: MockClock) -> None:
    """The kernel may keep what has been read of it, though nothing here does."""
    async with reading(sound(DATA), 0) as setup:
        assert await setup.whole(ONE) == DATA
        await trio.sleep(10)
        come_from(setup, ranged(OTHER))
        setup.reader.open(ONE)
        for offset in (20 * MIB, 0):
            with pytest.raises(Replaced):
                await read(setup, offset, 10)
        setup.reader.close(ONE)
        assert setup.reader.was_replaced(ONE)
        assert await setup.whole(ONE) == OTHER


async def test_nothing_is_handed_out_that_another_place_could_not_be_compared_with(autojump_clock: MockClock) -> None:
    breaks = sound(DATA, breaks_at=40_000, break_error=Truncated("broke"))
    async with reading(breaks) as setup:
        await breaks_off(setup)
        come_from(setup, ranged(OTHER))
        await read(setup, 2 * HEADER, 10, OTHER)
        setup.reader.close(ONE)


async def test_what_comes_before_what_is_known_is_compared_too(autojump_clock: MockClock) -> None:
    async with reading(ranged(DATA)) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        await read(setup, 10 * MIB, 10)
        come_from(setup, ranged(OTHER))
        with pytest.raises(Replaced):
            await read(setup, 9 * MIB, 10)
        setup.reader.close(ONE)


async def test_a_comparison_that_goes_on_is_progress(autojump_clock: MockClock) -> None:
    slow = ranged(DATA, chunks=(64 * KIB,), chunk_seconds=10.0)
    async with reading(sound(DATA), places=[slow]) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        await read(setup, 30 * MIB, 10)
        setup.reader.close(ONE)
        await trio.sleep(1_000)  # what is nearly done goes on


async def test_who_waits_for_a_comparison_has_its_progress(autojump_clock: MockClock) -> None:
    slow = ranged(DATA, chunks=(64 * KIB,), chunk_seconds=8.0)
    async with reading(sound(DATA), places=[slow]) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        async with trio.open_nursery() as nursery:
            for offset in (20 * MIB, 30 * MIB, 35 * MIB):
                nursery.start_soon(read, setup, offset, 10)
        assert setup.source.asked.count(BEGINNING) == 1
        setup.reader.close(ONE)
        await trio.sleep(1_000)


async def test_what_another_place_sends_is_not_streamed_up_to(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA), places=[ranged(DATA)]) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        await read(setup, 30 * MIB, 10)
        await trio.sleep(10)
        assert setup.source.delivered["1.2.3"] < 8 * MIB
        setup.reader.close(ONE)


async def test_what_continues_the_known_needs_no_comparison(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1)
    async with reading(ranged(DATA), directory=tmp_path) as setup:
        await read(setup, 2 * MIB, 10)
        assert setup.source.asked == [(2 * MIB - OVERLAP, 3 * MIB)]


async def test_a_source_that_sends_each_answer_from_another_place_is_an_error(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(ranged(DATA)) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10)
        monkeypatch.setattr(ScriptedRetrieval, "place", property(lambda _: object(), lambda *_: None))
        with pytest.raises(IdcfsError, match="another place whenever"):
            await read(setup, 30 * MIB, 10)
        setup.reader.close(ONE)


async def test_the_beginning_is_compared_before_its_first_block_is_whole(autojump_clock: MockClock) -> None:
    """What was handed out of it is not kept."""
    slow = sound(DATA, chunks=(HEADER, KIB), chunk_seconds=1.0)
    other = DATA[: 40 * KIB] + b"other" + DATA[40 * KIB + 5 :]
    async with reading(slow, places=[ranged(other)]) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, HEADER)
        with pytest.raises(Replaced):
            await read(setup, 30 * MIB, 10)
        setup.reader.close(ONE)
        await trio.sleep(10)

"""What was handed out, and has gone: who brings it again is compared with it before more of it is handed out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from idcfs.content.seams import Seams, Seen, Trace
from idcfs.errors import IdcfsError, Replaced, Truncated
from idcfs.settings import KIB, MIB
from tests.content.ranged import DATA, ONE, SIZE, breaks_off, come_from, ranged, read
from tests.content.scripted import Script, Setup, dicom, reading, sound

OTHER = DATA[: 100 * KIB] + dicom("other", SIZE)[100 * KIB :]
MIDDLE = DATA[:300_000] + dicom("other", SIZE)[300_000:700_000] + DATA[700_000:]
"""Another one in the middle of the first block only."""


def differing(data: bytes, start: int) -> bytes:
    return data[:start] + dicom("other", len(data))[start:]


async def fits_until_it_fails(setup: Setup, data: bytes, offset: int, step: int = 128 * KIB) -> None:
    """Read on in order: what was stored first, and then an error."""
    for position in range(offset, len(data), step):
        try:
            assert await setup.reader.read(ONE, len(data), position, step) == data[position : position + step]
        except Replaced:
            return
    pytest.fail("no error")


@pytest.mark.parametrize(
    ("size", "differs_from", "first"),
    [
        (60_000, 1000, 16 * KIB),
        (64 * KIB, 1000, 16 * KIB),
        (526_000, 1000, 128 * KIB),
        (526_000, 70_000, 128 * KIB),
        (526_000, 525_000, 128 * KIB),
        (MIB - 1, 70_000, 128 * KIB),
        (MIB, 70_000, 128 * KIB),
        (MIB + 1, 70_000, 128 * KIB),
        (2 * MIB, 70_000, 128 * KIB),
    ],
)
async def test_a_file_that_was_evicted_does_not_go_on_as_another(
    autojump_clock: MockClock, size: int, differs_from: int, first: int
) -> None:
    """The kernel has the first pages still."""
    data = dicom("1.2.3", size)
    other = differing(data, differs_from)
    async with reading(sound(data), 0) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, size, 0, first) == data[:first]
        setup.reader.close(ONE)
        await trio.sleep(10)
        come_from(setup, sound(other))
        setup.reader.open(ONE)
        await fits_until_it_fails(setup, data, first)
        setup.reader.close(ONE)
        assert setup.reader.was_replaced(ONE)
        assert await setup.whole(ONE) == other


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("other", [OTHER, MIDDLE])
async def test_a_beginning_that_broke_off_does_not_go_on_as_another(
    autojump_clock: MockClock, ranges: bool, other: bytes
) -> None:
    breaks = sound(DATA, ranges=ranges, breaks_at=320_000, break_error=Truncated("broke"))
    async with reading(breaks) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 256 * KIB)
        with pytest.raises(Truncated):
            await read(setup, 256 * KIB, 128 * KIB)
        come_from(setup, sound(other, ranges=ranges))
        await fits_until_it_fails(setup, DATA, 256 * KIB)
        setup.reader.close(ONE)


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_beginning_that_was_left_does_not_go_on_as_another(autojump_clock: MockClock, ranges: bool) -> None:
    async with reading(sound(DATA, ranges=ranges, chunk_seconds=1.0)) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 256 * KIB)
        setup.reader.close(ONE)
        await trio.sleep(10)
        come_from(setup, sound(OTHER, ranges=ranges))
        setup.reader.open(ONE)
        await fits_until_it_fails(setup, DATA, 256 * KIB)
        setup.reader.close(ONE)


@pytest.mark.parametrize("differs_from", [100_000, 590_000])
async def test_a_block_in_the_middle_that_broke_off_does_not_go_on_as_another(
    autojump_clock: MockClock, differs_from: int
) -> None:
    async with reading(ranged(DATA)) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 10 * MIB)
        await trio.sleep(5)
        setup.tiers.drop(ONE.key)
        breaks = ranged(DATA, breaks_at=10 * MIB + 600_000, break_error=Truncated("broke"))
        setup.source.scripts["1.2.3"] = breaks
        await read(setup, 10 * MIB, 512 * KIB)
        with pytest.raises(Truncated):
            await read(setup, 10 * MIB + 512 * KIB, 256 * KIB)
        come_from(setup, ranged(differing(DATA, 10 * MIB + differs_from)))
        await fits_until_it_fails(setup, DATA, 10 * MIB + 512 * KIB)
        setup.reader.close(ONE)


async def test_a_place_is_compared_with_all_of_the_first_block(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA), 0) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 2 * MIB)
        setup.reader.close(ONE)
        await trio.sleep(10)
        come_from(setup, ranged(MIDDLE))
        setup.reader.open(ONE)
        with pytest.raises(Replaced):
            await read(setup, 20 * MIB, 10)
        setup.reader.close(ONE)


async def test_a_place_of_which_nothing_is_remembered_is_compared(autojump_clock: MockClock) -> None:
    breaks = ranged(DATA, breaks_at=40_000, break_error=Truncated("broke"))
    async with reading(breaks) as setup:
        await breaks_off(setup)
        other = differing(DATA, 1000)
        come_from(setup, sound(other))
        await read(setup, 2000, 100_000, other)
        setup.source.scripts["1.2.3"], setup.source.left["1.2.3"] = ranged(DATA), 0
        with pytest.raises(Replaced):
            await read(setup, 20 * MIB, 10)
        setup.reader.close(ONE)


async def test_fewer_bytes_than_were_seen_are_an_error(autojump_clock: MockClock) -> None:
    data = DATA[:526_000]
    async with reading(Script(data), 0) as setup:
        assert await setup.whole(ONE) == data
        await trio.sleep(10)
        come_from(setup, Script(data[:300_000]))
        with pytest.raises(Replaced, match="fewer bytes"):
            await setup.whole(ONE)


@pytest.mark.parametrize("chunk", [1000, 64 * KIB - 1, 64 * KIB, 100_000, 3 * MIB])
async def test_who_brings_the_same_again_is_read(autojump_clock: MockClock, chunk: int) -> None:
    data = DATA[: 3 * MIB + 70_001]
    async with reading(sound(data, chunks=(chunk,), breaks_at=300_001, break_error=Truncated("broke")), 0) as setup:
        setup.reader.open(ONE)
        await read(setup, 0, 200_000, data)
        with pytest.raises(Truncated):
            await read(setup, 200_000, 200_000, data)
        for _ in range(2):
            come_from(setup, sound(data, chunks=(chunk,)))
            assert await setup.rest(ONE, len(data), step=50_000) == data
        setup.reader.close(ONE)


async def test_nothing_waits_where_nothing_is_known(autojump_clock: MockClock) -> None:
    slow = replace(sound(DATA), chunks=(64 * KIB, 1000), chunk_seconds=1.0)
    async with reading(slow) as setup:
        await read(setup, 0, 64 * KIB + 900)
        assert trio.current_time() < 3
        with pytest.raises(IdcfsError):
            await read(setup, 8 * MIB, 10)


# --- what is remembered ----------------------------------------------------------------------------------------------


def bring(seams: Seams, data: bytes, step: int, start: int = 0) -> Trace:
    trace = Trace(seams, start)
    for position in range(0, len(data), step):
        trace.go_on(memoryview(data)[position : position + step])
    return trace


@pytest.mark.parametrize("stop", [1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("step", [10_007, 64 * KIB, 3 * MIB])
def test_each_byte_up_to_where_one_stopped_is_compared(stop: int, step: int) -> None:
    seams = Seams(ONE, Seen())
    bring(seams, DATA[:stop], step).stop()
    assert seams.end == stop
    bring(seams, DATA[: 3 * MIB], step)
    for at in {0, 64 * KIB - 1, 64 * KIB, stop // 2, stop - 1}:
        seams = Seams(ONE, Seen())
        bring(seams, DATA[:stop], step).stop()
        if at < stop:
            other = DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 : 3 * MIB]
            with pytest.raises(Replaced):
                bring(seams, other, step)


def test_what_is_to_be_compared_is_known_before_it_has_come() -> None:
    seams = Seams(ONE, Seen())
    assert bring(seams, DATA[:100_000], 1000).compared_end == 100_000
    bring(seams, DATA[: 64 * KIB + 5000], 1000).stop()
    ends = {stop: bring(seams, DATA[:stop], 1000).compared_end for stop in (1000, 64 * KIB, 66_000, 70_536, 71_000)}
    assert ends == {1000: 0, 64 * KIB: 64 * KIB, 66_000: 64 * KIB, 70_536: 70_536, 71_000: 71_000}


def test_what_stands_before_a_block_is_compared_though_one_stopped_within_it() -> None:
    seams = Seams(ONE, Seen())
    bring(seams, DATA[: MIB - 1], MIB).stop()
    assert 1 not in seams
    with pytest.raises(Replaced):
        seams.see(1, OTHER[:MIB])
    seams.see(1, DATA[:MIB])
    assert 1 in seams


def test_what_is_remembered_of_a_beginning_is_small() -> None:
    seen = Seen()
    bring(Seams(ONE, seen), DATA[: 2 * MIB], MIB).stop()
    assert seen.end == MIB
    assert len(seen._digests) == 256

"""Instances that can be read anywhere: what is asked for, in which order, and how much of it."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from idcfs.errors import Damaged, Unreachable
from idcfs.settings import GIB, KIB, MIB
from tests.content.ranged import BIG, DATA, ONE, OTHER, OVERLAP, SIZE, asked_bytes, in_order, ranged, read
from tests.content.scripted import Script, dicom, reading, sound

# --- no more than is wanted ------------------------------------------------------------------------------------------


async def test_a_megabyte_in_the_middle_moves_a_few(autojump_clock: MockClock) -> None:
    async with reading(ranged(BIG)) as setup:
        setup.reader.open(ONE)
        await read(setup, 1 * GIB + 500_000, MIB, BIG)
        await trio.sleep(10)
        assert setup.source.asked == [(0, MIB), (1 * GIB - OVERLAP, 1 * GIB + 2 * MIB)]
        setup.reader.close(ONE)


async def test_a_megabyte_in_small_pieces_moves_no_more(autojump_clock: MockClock) -> None:
    async with reading(ranged(BIG)) as setup:
        setup.reader.open(ONE)
        await in_order(setup, 1 * GIB + 500_000, 1 * GIB + 500_000 + MIB, BIG)
        await trio.sleep(10)
        assert asked_bytes(setup, len(BIG)) <= 3 * MIB + 2 * OVERLAP
        setup.reader.close(ONE)


async def test_header_then_last_page_then_header_moves_a_few_megabytes(autojump_clock: MockClock) -> None:
    """As dcmdump does, of an instance whose size is not known before."""
    async with reading(ranged(BIG)) as setup:
        setup.reader.open(ONE)
        size = await setup.reader.size(ONE)
        await read(setup, 0, 2300 * KIB, BIG)
        await read(setup, size - 4096, 4096, BIG)
        await read(setup, 0, 128 * KIB, BIG)
        await trio.sleep(10)
        assert setup.source.asked == [(0, None), (size - MIB - OVERLAP, None)]
        assert setup.source.delivered["1.2.3"] <= 5 * MIB
        setup.reader.close(ONE)


async def test_reading_here_and_there_moves_what_is_read(autojump_clock: MockClock) -> None:
    chance = random.Random(1)
    async with reading(ranged(BIG)) as setup:
        setup.reader.open(ONE)
        for _ in range(50):
            await read(setup, chance.randrange(len(BIG)), 4096, BIG)
        await trio.sleep(10)
        assert asked_bytes(setup, len(BIG)) <= MIB + 50 * (2 * MIB + OVERLAP)
        assert all(stop is None or stop - start <= 2 * MIB + OVERLAP for start, stop in setup.source.asked)
        setup.reader.close(ONE)


async def test_a_seek_after_reading_in_order_fetches_no_more_ahead(autojump_clock: MockClock) -> None:
    async with reading(ranged(BIG), 256 * MIB) as setup:
        setup.reader.open(ONE)
        await in_order(setup, 0, 50 * MIB, BIG, MIB)
        await trio.sleep(10)
        before = asked_bytes(setup, len(BIG))
        assert 50 * MIB <= before <= (50 + 16) * MIB + setup.source.fetches["1.2.3"] * OVERLAP
        await read(setup, 1 * GIB, MIB, BIG)
        await trio.sleep(10)
        assert asked_bytes(setup, len(BIG)) == before + OVERLAP + MIB
        setup.reader.close(ONE)


# --- in order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knows_size", [True, False])
@pytest.mark.parametrize("memory", [0, 3, 64])
async def test_reading_in_order_is_right_and_asks_for_each_byte_once(
    autojump_clock: MockClock, memory: int, knows_size: bool
) -> None:
    async with reading(ranged(DATA, open_seconds=0.04, chunk_seconds=0.001), memory * MIB) as setup:
        setup.reader.open(ONE)
        size = SIZE if knows_size else await setup.reader.size(ONE)
        assert await setup.rest(ONE, size) == DATA
        setup.reader.close(ONE)
        assert setup.source.delivered["1.2.3"] <= SIZE + setup.source.fetches["1.2.3"] * OVERLAP
        assert (setup.source.most_open_bodies >= 2) == (memory == 64)
        assert setup.memory.size <= memory * MIB


async def test_who_reads_in_order_is_served_by_several_requests_at_once(autojump_clock: MockClock) -> None:
    """At 10 MB/s a connection, and 80 ms."""
    slow = ranged(BIG, open_seconds=0.08, chunk_seconds=64 * KIB / 10e6)
    async with reading(slow, 256 * MIB, max_downloads=12) as setup:
        setup.reader.open(ONE)
        await in_order(setup, 0, 32 * MIB, BIG)
        assert 4 <= setup.source.most_open_bodies <= 6
        fetches = setup.source.fetches["1.2.3"]
        await in_order(setup, 32 * MIB, 160 * MIB, BIG)
        assert setup.source.fetches["1.2.3"] - fetches == 128 // 4
        setup.reader.close(ONE)


async def test_no_range_asks_for_more_than_4_mib(autojump_clock: MockClock) -> None:
    async with reading(ranged(DATA)) as setup:
        await read(setup, 5 * MIB, 12 * MIB)
        await setup.fetch_ahead(ONE, SIZE, lambda size: None)
        assert await setup.reader.has_all(ONE, SIZE)
        lengths = [(SIZE if stop is None else stop) - start for start, stop in setup.source.asked]
        assert 4 * MIB <= max(lengths) <= 4 * MIB + 2 * OVERLAP


async def test_closing_stops_what_was_fetched_ahead(autojump_clock: MockClock) -> None:
    async with reading(ranged(BIG, chunk_seconds=0.01), 256 * MIB) as setup:
        setup.reader.open(ONE)
        await in_order(setup, 0, 30 * MIB, BIG)
        assert setup.source.open_bodies > 1
        setup.reader.close(ONE)
        await trio.sleep(1)
        delivered = setup.source.delivered["1.2.3"]
        await trio.sleep(100)
        assert setup.source.delivered["1.2.3"] == delivered < 50 * MIB


async def test_who_opens_it_again_at_once_goes_on_with_what_is_running(autojump_clock: MockClock) -> None:
    async with reading(ranged(DATA, chunk_seconds=0.01), linger_seconds=1.0) as setup:
        for offset in range(0, SIZE, 5 * MIB):
            setup.reader.open(ONE)
            await in_order(setup, offset, min(SIZE, offset + 5 * MIB))
            setup.reader.close(ONE)
            await trio.sleep(0.5)
        assert setup.source.delivered["1.2.3"] <= SIZE + setup.source.fetches["1.2.3"] * OVERLAP


async def test_what_is_fetched_ahead_leaves_the_slots_to_others(autojump_clock: MockClock) -> None:
    scripts: dict[str, Script | list[Script]] = {
        "1.2.3": ranged(BIG, chunk_seconds=0.1),
        "1.2.4": sound(dicom("1.2.4", MIB)),
    }
    async with reading(scripts, 256 * MIB, max_downloads=3) as setup:
        setup.reader.open(ONE)
        position = 0
        while setup.source.open_bodies < 3:
            await read(setup, position, 64 * KIB, BIG)
            position += 64 * KIB
        before = trio.current_time()
        assert await setup.whole(OTHER) == dicom("1.2.4", MIB)
        assert trio.current_time() - before < 0.1
        await in_order(setup, position, position + 8 * MIB, BIG)
        setup.reader.close(ONE)


@pytest.mark.parametrize("memory", [0, 2, 64])
@pytest.mark.parametrize("slots", [1, 3, 24])
async def test_64_readers_far_apart_all_get_on(autojump_clock: MockClock, memory: int, slots: int) -> None:
    async with reading(ranged(DATA), memory * MIB, max_downloads=slots) as setup:
        setup.reader.open(ONE)
        done: list[int] = []

        async def from_offset(number: int) -> None:
            offset = number * (SIZE // 64)
            await in_order(setup, offset, min(SIZE, offset + 2 * MIB), step=256 * KIB)
            done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(from_offset, number)
        setup.reader.close(ONE)
        assert len(done) == 64
        assert setup.source.most_open_bodies <= slots
        assert setup.memory.size <= memory * MIB
        if memory == 64:
            assert setup.source.delivered["1.2.3"] <= SIZE + setup.source.fetches["1.2.3"] * OVERLAP


# --- what is proven first --------------------------------------------------------------------------------------------


async def test_of_another_instance_nothing_but_the_beginning_is_asked_for() -> None:
    async with reading(ranged(dicom("9.9", SIZE))) as setup:
        with pytest.raises(Damaged, match=r"sent instance 9\.9"):
            await read(setup, 20 * MIB, 10)
        assert setup.source.asked == [(0, MIB)]


async def test_what_was_proven_stays_so_while_it_is_open(autojump_clock: MockClock) -> None:
    async with reading(ranged(DATA), 0) as setup:
        setup.reader.open(ONE)
        for block in (20, 10, 30):
            await read(setup, block * MIB, 10)
        setup.reader.close(ONE)
        asked = [(block * MIB - OVERLAP, (block + 1) * MIB) for block in (20, 10, 30)]
        assert setup.source.asked == [(0, MIB), *asked]


async def test_many_who_read_the_middle_first_prove_it_once() -> None:
    async with reading(ranged(DATA)) as setup:
        setup.reader.open(ONE)
        async with trio.open_nursery() as nursery:
            for block in range(5, 25):
                nursery.start_soon(read, setup, block * MIB, MIB)
        setup.reader.close(ONE)
        assert setup.source.asked.count((0, MIB)) == 1
        assert setup.source.fetches["1.2.3"] <= 21


async def test_small_instances_are_streamed() -> None:
    data = dicom("1.2.3", 4 * MIB)
    async with reading(ranged(data)) as setup:
        await read(setup, 3 * MIB, 10, data)
        assert setup.source.asked == [(0, None)]


# --- when it goes wrong ----------------------------------------------------------------------------------------------


async def test_what_fails_ahead_of_a_reader_is_not_asked_for_at_each_of_his_reads(autojump_clock: MockClock) -> None:
    away = Script(b"", refusal=Unreachable("away"), ranges=True)
    async with reading([*[ranged(DATA)] * 2, away]) as setup:
        setup.reader.open(ONE)
        size = await setup.reader.size(ONE)
        await in_order(setup, 0, 4 * MIB, step=16 * KIB)
        await trio.sleep(10)
        assert setup.source.fetches["1.2.3"] <= 6
        with pytest.raises(Unreachable):
            await setup.rest(ONE, size, 4 * MIB)
        setup.reader.close(ONE)


async def test_fetching_ahead_takes_parts_and_joins_what_is_running(autojump_clock: MockClock) -> None:
    async with reading(ranged(DATA, chunk_seconds=0.01)) as setup:
        setup.reader.open(ONE)
        await read(setup, 20 * MIB, MIB)

        async def fetch_ahead() -> None:
            await setup.fetch_ahead(ONE, SIZE, lambda size: None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch_ahead)
            nursery.start_soon(in_order, setup, 20 * MIB, 30 * MIB)
        assert await setup.reader.has_all(ONE, SIZE)
        setup.reader.close(ONE)
        assert setup.source.delivered["1.2.3"] <= SIZE + setup.source.fetches["1.2.3"] * OVERLAP


async def test_fetching_ahead_what_a_reader_has_open_does_not_hold_him_up(autojump_clock: MockClock) -> None:
    async with reading(ranged(DATA, chunk_seconds=0.1)) as setup, trio.open_nursery() as nursery:
        nursery.start_soon(setup.fetch_ahead, ONE, SIZE, lambda size: None)
        await trio.sleep(0.5)
        before = trio.current_time()
        await read(setup, 30 * MIB, MIB)
        assert trio.current_time() - before < 5

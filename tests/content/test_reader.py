"""Many readers of one instance, and little memory: one fetch, the right bytes, an end when nobody reads any more."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs.errors import IdcfsError, Truncated
from idcfs.settings import KIB, MIB
from tests.content.scripted import TIMEOUT, Huge, Script, Setup, dicom, instance, part10, read_all, reading, sound

ONE = instance()
SIZE = 8 * MIB - 4_321
DATA = dicom("1.2.3", SIZE)
UIDS = [f"1.2.{number}" for number in range(300)]


# --- readers of one instance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["forward", "backward", "random", "tail first"])
@pytest.mark.parametrize("chunk", [1000, 64 * KIB, MIB, 3 * MIB + 1])
async def test_any_order_is_one_fetch(order: str, chunk: int) -> None:
    offsets = list(range(0, SIZE, 100_000))
    match order:
        case "backward":
            offsets.reverse()
        case "random":
            random.Random(1).shuffle(offsets)
        case "tail first":
            offsets = [SIZE - 4096, *offsets]
    async with reading(sound(DATA, chunks=(chunk,))) as setup:
        setup.reader.open(ONE)
        size = await setup.reader.size(ONE)
        for offset in offsets:
            assert await setup.reader.read(ONE, size, offset, 100_000) == DATA[offset : offset + 100_000]
        setup.reader.close(ONE)
        assert setup.source.fetches["1.2.3"] == setup.stats["downloads"] == 1
        assert setup.source.delivered["1.2.3"] == SIZE


async def test_a_disk_that_is_behind_holds_a_download_back_and_ends_none(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(sound(DATA)) as setup:

        async def room() -> None:
            await trio.sleep(2 * TIMEOUT)

        monkeypatch.setattr(setup.tiers, "room", room)
        await read_all(setup, ONE, DATA)
        assert trio.current_time() > 8 * 2 * TIMEOUT
        assert setup.stats["downloads"] == 1


async def test_edges() -> None:
    async with reading(sound(DATA)) as setup:
        setup.reader.open(ONE)
        for offset, length in [(SIZE, 1), (SIZE + 1, 5), (0, 0), (10 * SIZE, 10), (SIZE, 0)]:
            assert await setup.reader.read(ONE, SIZE, offset, length) == b""
        assert setup.source.fetches["1.2.3"] == 0
        for offset, length in [(SIZE - 1, 1), (SIZE - 1, 9), (MIB - 1, 2), (MIB, MIB), (5, 3 * MIB), (0, 10 * SIZE)]:
            assert await setup.reader.read(ONE, SIZE, offset, length) == DATA[offset : offset + length]
        assert setup.source.fetches["1.2.3"] == 1
        setup.reader.close(ONE)


async def test_64_readers_are_one_fetch() -> None:
    async with reading(sound(DATA)) as setup:
        setup.reader.open(ONE)
        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(read_all, setup, ONE, DATA, 100_000 + number)
        setup.reader.close(ONE)
        assert setup.source.fetches["1.2.3"] == setup.stats["downloads"] == 1
        assert setup.source.delivered["1.2.3"] == SIZE


async def test_thousands_wait_at_once() -> None:
    async with reading(sound(DATA, chunks=(10_000,))) as setup:
        setup.reader.open(ONE)

        async def one_read(offset: int) -> None:
            assert await setup.reader.read(ONE, SIZE, offset, 512) == DATA[offset : offset + 512]

        async with trio.open_nursery() as nursery:
            for offset in range(0, SIZE, SIZE // 3000):
                nursery.start_soon(one_read, offset)
        setup.reader.close(ONE)
        assert setup.source.fetches["1.2.3"] == 1


async def test_hits_and_misses() -> None:
    async with reading(sound(DATA)) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, SIZE, 0, 2 * MIB)
        await wait_all_tasks_blocked()
        assert (setup.stats["hits"], setup.stats["misses"]) == (0, 2)
        await setup.reader.read(ONE, SIZE, 0, 3 * MIB)
        assert (setup.stats["hits"], setup.stats["misses"]) == (3, 2)
        setup.reader.close(ONE)
        assert setup.stats["running_downloads"] <= 1


# --- little memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("chunk", [10_000, 256 * KIB, 2 * MIB + 1])
async def test_reading_in_order_is_one_fetch_however_little_memory(memory: int, chunk: int) -> None:
    data = dicom("1.2.3", 20 * MIB)
    async with reading(sound(data, chunks=(chunk,)), memory * MIB) as setup:
        assert await setup.whole(ONE) == data
        assert setup.source.fetches["1.2.3"] == 1
        assert setup.memory.size <= memory * MIB


@pytest.mark.parametrize("memory", [0, 2])
async def test_four_readers_of_four_instances_are_four_fetches(memory: int) -> None:
    datas = {uid: dicom(uid, SIZE) for uid in UIDS[:4]}
    async with reading({uid: sound(data) for uid, data in datas.items()}, memory * MIB) as setup:
        async with trio.open_nursery() as nursery:
            for number, (uid, data) in enumerate(datas.items()):
                nursery.start_soon(read_all, setup, instance(uid), data, (64 + 64 * number) * KIB)
        assert set(setup.source.fetches.values()) == {1}


@pytest.mark.parametrize("memory", [0, 1, 2, 3])
async def test_two_readers_far_apart_both_get_on(memory: int) -> None:
    async with reading(sound(DATA), memory * MIB) as setup:
        setup.reader.open(ONE)
        results: dict[int, bytes] = {}

        async def from_offset(offset: int) -> None:
            results[offset] = await setup.rest(ONE, SIZE, offset, 256 * KIB)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(from_offset, 0)
                nursery.start_soon(from_offset, 5 * MIB)
        setup.reader.close(ONE)
        assert results == {0: DATA, 5 * MIB: DATA[5 * MIB :]}
        assert setup.source.fetches["1.2.3"] <= SIZE // (256 * KIB) + 1


async def test_backward_with_nothing_kept_is_a_fetch_for_each_read_and_right() -> None:
    async with reading(sound(DATA), 0) as setup:
        setup.reader.open(ONE)
        for offset in range(SIZE - 1000, 0, -MIB):
            assert await setup.reader.read(ONE, SIZE, offset, 1000) == DATA[offset : offset + 1000]
        setup.reader.close(ONE)
        assert setup.source.fetches["1.2.3"] == setup.stats["downloads"] == 8


# --- closing ---------------------------------------------------------------------------------------------------------


BIG = Huge(part10("1.2.3"), 50 * MIB)


async def test_closing_the_last_reader_stops_the_download(autojump_clock: MockClock) -> None:
    async with reading(sound(BIG)) as setup:
        setup.reader.open(ONE)
        setup.reader.open(ONE)
        await setup.reader.size(ONE)
        setup.reader.close(ONE)
        await trio.sleep(1)
        assert setup.source.open_bodies == 1
        setup.reader.close(ONE)
        await trio.sleep(1)
        assert setup.source.open_bodies == 0
        assert setup.stats["downloads_cancelled"] == 1


@pytest.mark.parametrize(("left", "finishes"), [(MIB, True), (MIB + 64 * KIB, False)])
async def test_nearly_done_is_finished(autojump_clock: MockClock, left: int, finishes: bool) -> None:
    size = 2 * MIB + 64 * KIB + left  # the window and the chunk that passes it, then what is left
    data = dicom("1.2.3", size)
    async with reading(sound(data, chunk_seconds=0.01)) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, size, 0, 10)
        await trio.sleep(10)
        assert setup.source.delivered["1.2.3"] == size - left
        setup.reader.close(ONE)
        await trio.sleep(10)
        assert setup.source.delivered["1.2.3"] == (size if finishes else size - left)
        assert setup.stats["downloads_cancelled"] == (not finishes)
        assert await setup.reader.read(ONE, size, 0, 2 * MIB) == data[: 2 * MIB]
        assert await setup.reader.read(ONE, size, size - 10, 10) == data[-10:]
        assert setup.source.fetches["1.2.3"] == (1 if finishes else 2)


async def test_what_has_no_connection_yet_is_not_nearly_done(autojump_clock: MockClock) -> None:
    scripts: dict[str, Script | list[Script]] = {uid: sound(dicom(uid, 100 * KIB), chunk_seconds=1.0) for uid in UIDS}
    async with reading(scripts, max_downloads=1) as setup, trio.open_nursery() as nursery:
        nursery.start_soon(setup.whole, instance(UIDS[0]))
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.5):
            await setup.reader.read(instance(UIDS[1]), 100 * KIB, 0, 10)
        await trio.sleep(10)
        assert setup.source.fetches[UIDS[1]] == 0


async def test_nearly_done_for_nobody_is_not_begun_again_when_it_breaks(autojump_clock: MockClock) -> None:
    data = dicom("1.2.3", 3 * MIB)
    breaks = sound(data, chunk_seconds=0.01, breaks_at=3 * MIB - 10, break_error=Truncated("broke"))
    async with reading([breaks, sound(data)]) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, 3 * MIB, 0, 10)
        await trio.sleep(10)
        setup.reader.close(ONE)
        await trio.sleep(10)
        assert setup.source.fetches["1.2.3"] == 1


@pytest.mark.parametrize("close_seconds", [0.0, 5.0])
async def test_reopening_right_after_closing(autojump_clock: MockClock, close_seconds: float) -> None:
    async with reading(sound(DATA, chunk_seconds=0.01, close_seconds=close_seconds)) as setup:
        for number in range(1, 30):
            setup.reader.open(ONE)
            at = number * 250_000
            assert await setup.reader.read(ONE, SIZE, at, 10) == DATA[at : at + 10]
            setup.reader.close(ONE)
            if number % 2:
                await trio.lowlevel.checkpoint()
        await trio.sleep(100)
        assert setup.stats["downloads"] == setup.source.fetches["1.2.3"]


async def test_reading_while_the_whole_download_closes_its_body(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA, close_seconds=10.0), 0) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, SIZE, SIZE - 10, 10)
        await trio.sleep(1)
        assert setup.source.open_bodies == 1
        assert await setup.reader.size(ONE) == SIZE
        assert await setup.reader.read(ONE, SIZE, SIZE - 20, 20) == DATA[-20:]
        assert setup.source.fetches["1.2.3"] == 1
        assert await setup.reader.read(ONE, SIZE, 0, 20) == DATA[:20]
        assert setup.source.fetches["1.2.3"] == 2
        setup.reader.close(ONE)
        await trio.sleep(100)


async def test_reading_without_opening_leaves_nothing_behind() -> None:
    async with reading(sound(DATA)) as setup:
        assert await setup.reader.read(ONE, SIZE, 100, 100) == DATA[100:200]
        assert await setup.reader.size(ONE) == SIZE


@pytest.mark.parametrize("what", ["size", "read"])
async def test_a_reader_that_is_cancelled_leaves_the_others_alone(autojump_clock: MockClock, what: str) -> None:
    async with reading(Script(DATA, chunk_seconds=1.0)) as setup, trio.open_nursery() as nursery:
        setup.reader.open(ONE)
        nursery.start_soon(read_all, setup, ONE, DATA)
        with trio.move_on_after(20) as scope:
            await (setup.reader.size(ONE) if what == "size" else setup.reader.read(ONE, SIZE, SIZE - 9, 9))
        assert scope.cancelled_caught
        setup.reader.close(ONE)


async def test_shutdown_while_readers_wait(autojump_clock: MockClock) -> None:
    failed: list[IdcfsError] = []

    async def outside(setup: Setup) -> None:
        with pytest.raises(Truncated, match="stopped") as caught:
            await setup.whole(ONE)
        failed.append(caught.value)

    async with trio.open_nursery() as outer, reading(sound(DATA, open_seconds=1e9)) as setup:
        outer.start_soon(outside, setup)
        setup.nursery.start_soon(setup.whole, ONE)
        await wait_all_tasks_blocked()
        before = trio.current_time()
        setup.nursery.cancel_scope.cancel()
    assert len(failed) == 1
    assert trio.current_time() == before
    setup.assert_nothing_is_left()

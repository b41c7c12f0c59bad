"""Instances whose bytes come from several answers or places: that they belong together, and where the rest is had."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs.errors import Damaged, IdcfsError, Truncated, WrongSize
from idcfs.settings import MIB
from tests.content.ranged import DATA, ONE, OVERLAP, SIZE, in_order, ranged, read
from tests.content.scripted import Script, Setup, reading, sound

# --- sources that do not keep to ranges ------------------------------------------------------------------------------


class Forgetful:
    """Claims to know ranges until it is asked for one."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def __call__(self, _: object) -> bool:
        return not self._setup.source.asked


async def test_a_source_that_answers_with_all_of_it_is_read_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reading(sound(DATA)) as setup:
        monkeypatch.setattr(setup.source, "starts_anywhere", Forgetful(setup))
        setup.reader.open(ONE)
        await read(setup, 7 * MIB, MIB)
        await in_order(setup, 7 * MIB, SIZE)
        setup.reader.close(ONE)
        assert setup.source.asked == [(0, MIB)]
        assert setup.source.delivered["1.2.3"] == SIZE


async def test_a_source_that_goes_on_claiming_ranges_is_right_too(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(sound(DATA)) as setup:
        monkeypatch.setattr(setup.source, "starts_anywhere", lambda _: True)
        setup.reader.open(ONE)
        await read(setup, 20 * MIB, MIB)
        assert await setup.rest(ONE, SIZE) == DATA
        setup.reader.close(ONE)


@pytest.mark.parametrize("memory", [0, 64])
@pytest.mark.parametrize("ranges", [1, 2, 3, 6])
async def test_a_source_that_knows_ranges_no_more_is_right_too(
    autojump_clock: MockClock, ranges: int, memory: int
) -> None:
    async with reading([*[ranged(DATA, chunk_seconds=0.01)] * ranges, sound(DATA)], memory * MIB) as setup:
        setup.reader.open(ONE)
        async with trio.open_nursery() as nursery:
            for offset in (0, 12 * MIB, 30 * MIB):
                nursery.start_soon(in_order, setup, offset, offset + 9 * MIB)
        setup.reader.close(ONE)


async def test_another_size_in_a_range_is_an_error() -> None:
    async with reading([ranged(DATA), Script(DATA + b"more", SIZE + 4, ranges=True)]) as setup:
        with pytest.raises(WrongSize):
            await read(setup, 20 * MIB, 10)


# --- where bodies meet -----------------------------------------------------------------------------------------------


async def test_a_range_that_does_not_continue_what_is_kept_is_an_error_and_all_is_dropped(
    autojump_clock: MockClock,
) -> None:
    other = DATA[: 8 * MIB - 10] + b"x" + DATA[8 * MIB - 9 :]
    async with reading([*[ranged(DATA)] * 2, ranged(other), ranged(other)], finish_bytes=0) as setup:
        setup.reader.open(ONE)
        await read(setup, 7 * MIB, MIB)
        with pytest.raises(Damaged, match="other bytes than it sent before"):
            await read(setup, 8 * MIB, 10)
        assert setup.memory.size == 0
        assert setup.reader.was_replaced(ONE)
        for _ in range(2):  # what this reader has been given before does not fit what comes now
            with pytest.raises(Damaged, match="other bytes than it sent before"):
                await setup.rest(ONE, SIZE)
        setup.reader.close(ONE)
        assert not setup.reader.was_replaced(ONE)
        assert await setup.whole(ONE) == other


async def test_what_contradicts_itself_is_not_handed_out_by_downloads_that_ran_then(autojump_clock: MockClock) -> None:
    wrong = ranged(DATA[: 8 * MIB - 10] + b"x" + DATA[8 * MIB - 9 :])
    slow = ranged(DATA, open_seconds=10.0)
    async with reading([ranged(DATA), ranged(DATA), slow, wrong], finish_bytes=0) as setup:
        setup.reader.open(ONE)
        await read(setup, 7 * MIB, MIB)

        async def elsewhere() -> None:
            with pytest.raises(IdcfsError):
                await read(setup, 20 * MIB, 10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere)
            await wait_all_tasks_blocked()
            with pytest.raises(Damaged):
                await read(setup, 8 * MIB, 10)
        setup.reader.close(ONE)
        await trio.sleep(100)


# --- another place ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [20, 36])
async def test_rather_than_let_much_pass_it_is_fetched_where_one_can_start_anywhere(
    autojump_clock: MockClock, first: int
) -> None:
    async with reading(sound(DATA), places=[ranged(DATA)]) as setup:
        setup.reader.open(ONE)
        size = await setup.reader.size(ONE)
        await read(setup, first * MIB, MIB)
        assert setup.source.reasons == [None]
        assert setup.source.delivered["1.2.3"] <= 5 * MIB
        assert await setup.rest(ONE, size) == DATA
        setup.reader.close(ONE)


async def test_for_what_has_passed_it_is_fetched_where_one_can_start_anywhere(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA), 0, places=[ranged(DATA)]) as setup:
        setup.reader.open(ONE)
        await in_order(setup, 0, 6 * MIB)
        await read(setup, 3 * MIB, 10)
        assert setup.source.reasons == [None]
        assert setup.source.asked == [(0, None), (3 * MIB - OVERLAP, 4 * MIB)]
        setup.reader.close(ONE)


async def test_where_there_is_no_such_place_one_stream_serves_all(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA), 0) as setup:
        setup.reader.open(ONE)
        for block in (20, 10, 30, 5):
            await read(setup, block * MIB, 10)
        setup.reader.close(ONE)
        assert set(setup.source.reasons) == {None}
        assert {start for start, _ in setup.source.asked} == {0}


async def test_a_file_of_which_each_place_has_sent_a_part_is_right(autojump_clock: MockClock) -> None:
    cut_off = sound(DATA, breaks_at=17 * MIB + 300, break_error=Truncated("the proxy's cap"))
    async with reading(cut_off, places=[ranged(DATA)]) as setup:
        assert await setup.whole(ONE) == DATA
        assert [type(reason) for reason in setup.source.reasons] == [Truncated]
        assert setup.source.asked[:2] == [(0, None), (17 * MIB + 300 - OVERLAP, None)]
        compared = MIB  # the beginning, at the second place
        assert setup.source.delivered["1.2.3"] <= SIZE + compared + setup.source.fetches["1.2.3"] * OVERLAP


@pytest.mark.parametrize("at", [17 * MIB + 299, 17 * MIB + 300 - OVERLAP])
async def test_two_places_that_differ_where_they_meet_are_an_error(autojump_clock: MockClock, at: int) -> None:
    cut_off = sound(DATA, breaks_at=17 * MIB + 300, break_error=Truncated("the proxy's cap"))
    other = DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]
    async with reading(cut_off, places=[ranged(other)]) as setup:
        with pytest.raises(Damaged, match="other bytes than it sent before"):
            await setup.whole(ONE)
        assert setup.memory.size == 0
        assert await setup.whole(ONE) == other  # from there alone


async def test_two_places_of_which_one_has_another_length_are_an_error(autojump_clock: MockClock) -> None:
    cut_off = sound(DATA, breaks_at=17 * MIB + 300, break_error=Truncated("the proxy's cap"))
    async with reading(cut_off, places=[ranged(DATA + b"x")]) as setup:
        with pytest.raises(WrongSize):
            await setup.whole(ONE)

"""Fetching ahead of who reads a series: what is fetched, how much of it, and when it stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from idcfs.content.prefetch import IDLE_SECONDS, NEAR, Prefetcher
from idcfs.errors import Gone, Unreachable
from idcfs.settings import KIB, MIB
from tests.content.following import SMALL, Series, Tool, following, uid
from tests.content.scripted import Script, dicom, instance, reading, sound
from tests.turns import Turns


async def test_the_first_file_of_a_series_says_nothing(autojump_clock: object) -> None:
    async with following() as tool:
        await tool.read(10)
        assert await tool.settle() == {10}


async def test_the_second_one_shows_where_it_goes(autojump_clock: object) -> None:
    async with following() as tool:
        await tool.read(10)
        await tool.read(11)
        assert await tool.settle() == set(range(10, 12 + 2 * 8))
        assert tool.setup.stats["prefetched"] == 16


async def test_the_next_file_is_asked_for_before_anybody_has_a_turn(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    ended: list[int] = []
    trio.lowlevel.add_instrument(turns := Turns())
    async with following(settings={"prefetch": 1}) as tool:
        fetch = tool.setup.source.fetch

        @asynccontextmanager
        async def watched(*args: Any) -> AsyncIterator[Any]:
            begun.append(turns.number)
            async with fetch(*args) as body:
                yield body
            ended.append(turns.number)

        monkeypatch.setattr(tool.setup.source, "fetch", watched)
        await tool.read(0)
        await tool.read(1)
        await tool.settle()
    assert len(begun) == 4  # two by who reads, two ahead
    assert begun[3] == ended[2]


async def test_it_follows_a_tool_that_goes_backwards(autojump_clock: object) -> None:
    async with following() as tool:
        await tool.read(50)
        await tool.read(49)
        assert await tool.settle() == set(range(49 - 16, 51))


async def test_every_opening_moves_the_window_on(autojump_clock: object) -> None:
    async with following() as tool:
        for ordinal in range(20):
            await tool.read(ordinal)
        assert await tool.settle() == set(range(20 + 16))
        assert all(count == 1 for count in tool.setup.source.fetches.values())
        assert tool.setup.stats["prefetched"] == 34
        assert tool.setup.stats["prefetched_used"] == 18


async def test_it_never_goes_past_the_series(autojump_clock: object) -> None:
    async with following(number=5) as tool:
        for ordinal in range(5):
            await tool.read(ordinal)
        assert await tool.settle() == set(range(5))
        assert tool.setup.stats["prefetched_used"] == tool.setup.stats["prefetched"] == 3


async def test_files_far_from_each_other_do_not_follow_each_other(autojump_clock: object) -> None:
    async with following() as tool:
        for ordinal in (0, NEAR + 1, 2 * NEAR + 3, 1):
            await tool.read(ordinal)
        assert await tool.settle() == {0, NEAR + 1, 2 * NEAR + 3, 1}


async def test_opening_one_file_again_and_again_is_no_direction(autojump_clock: object) -> None:
    async with following() as tool:
        for _ in range(8):
            await tool.read(10)
        assert await tool.settle() == {10}
        assert tool.setup.stats["downloads"] == 8 - 7


async def test_parallel_readers_a_little_out_of_order_are_followed_forward(autojump_clock: object) -> None:
    async with following() as tool:
        for ordinal in (0, 2, 1, 3, 5, 4):
            await tool.read(ordinal)
        assert await tool.settle() == set(range(5 + 16 + 1))


async def test_switched_off_it_fetches_nothing(autojump_clock: object) -> None:
    async with following(settings={"prefetch": 0}) as tool:
        for ordinal in range(5):
            await tool.read(ordinal)
        assert await tool.settle() == set(range(5))


async def test_no_more_requests_run_at_once_than_set(autojump_clock: object) -> None:
    async with following(settings={"prefetch": 3, "max_downloads": 24}, open_seconds=0.04) as tool:
        for ordinal in range(12):
            await tool.read(ordinal)
        assert tool.setup.source.most_open_bodies == 3 + 1
        await trio.sleep(1)


@pytest.mark.parametrize(("capacity", "ahead"), [(64 * MIB, 8), (8 * MIB, 4), (0, 0)])
async def test_it_goes_so_many_bytes_ahead_and_no_further(autojump_clock: object, capacity: int, ahead: int) -> None:
    async with following(size=MIB, capacity=capacity, settings={"prefetch_bytes": 8 * MIB}) as tool:
        await tool.read(0)
        await tool.read(1)
        assert await tool.settle() == set(range(2 + ahead))


async def test_large_files_are_not_fetched_for_who_reads_headers(autojump_clock: object) -> None:
    async with following(number=12, size=3 * MIB) as tool:
        for ordinal in range(4):
            await tool.read(ordinal, share=0.01)
        assert await tool.settle() == set(range(4))
        await trio.sleep(5)


async def test_large_files_are_fetched_for_who_reads_them(autojump_clock: object) -> None:
    async with following(number=12, size=3 * MIB) as tool:
        for ordinal in range(4):
            await tool.read(ordinal)
        assert await tool.settle() == set(range(12))


async def test_whoever_stops_reading_stops_the_fetching(autojump_clock: object) -> None:
    async with following(settings={"prefetch": 2}, open_seconds=8.0) as tool:
        await tool.read(0)
        await tool.read(1)
        await trio.sleep(IDLE_SECONDS + 2)
        assert tool.setup.stats["prefetched"] == 2  # the first round; the second was stopped on its way
        assert tool.setup.stats["downloads_cancelled"] == 2
        await trio.sleep(60)
        assert tool.setup.stats["prefetched"] == 2
        assert tool.setup.stats["downloads"] == 6


async def test_two_series_share_what_may_run_at_once(autojump_clock: object) -> None:
    async with following(settings={"prefetch": 4}, open_seconds=1.0) as tool:
        other = replace(tool, series=Series(100, series="another", first=50))
        async with trio.open_nursery() as nursery:
            for one in (tool, other):

                async def read(one: Tool = one) -> None:
                    for ordinal in range(8):
                        await one.read(ordinal)

                nursery.start_soon(read)
        fetched = await tool.settle()
        assert len([ordinal for ordinal in fetched if 8 <= ordinal < 50]) >= 2
        assert len([ordinal for ordinal in fetched if ordinal >= 58]) >= 2


async def test_a_series_closed_while_others_were_fetched_is_not_fetched_later(autojump_clock: object) -> None:
    async with following(settings={"prefetch": 2}, open_seconds=8.0) as tool:
        other = replace(tool, series=Series(100, series="another", first=50))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tool.read, 0)
            nursery.start_soon(other.read, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tool.read, 1)
            nursery.start_soon(other.read, 1)
        await trio.sleep(60)
        first, second = tool.prefetcher._trails.values()
        assert not first.fetching
        assert not second.fetching
        assert tool.setup.stats["downloads"] <= 4 + 2 * 2


async def test_a_file_that_stays_open_keeps_it_going(autojump_clock: object) -> None:
    async with following(settings={"prefetch": 2}, open_seconds=4.0) as tool:
        await tool.read(0)
        tool.prefetcher.opened(tool.series, 1)
        await trio.sleep(60)
        assert await tool.settle() == {0, 2, 3, 4, 5}
        tool.prefetcher.closed(tool.series, 1, 0)


async def test_sizes_are_learnt_on_the_way(autojump_clock: object) -> None:
    async with following() as tool:
        await tool.read(0)
        await tool.read(1)
        await tool.settle()
        assert tool.series.sizes == dict.fromkeys(range(18), SMALL)


async def test_a_sibling_that_is_gone_is_passed_over(autojump_clock: object) -> None:
    gone = Script(b"", refusal=Gone("not there"))
    async with following(changed={5: gone}) as tool:
        await tool.read(0)
        await tool.read(1)
        assert await tool.settle() == set(range(18))
        assert tool.setup.stats["prefetched"] == 15


async def test_an_archive_that_is_away_is_left_alone(autojump_clock: object) -> None:
    away = Script(b"", refusal=Unreachable("away"), open_seconds=1.0)
    async with following(changed=dict.fromkeys(range(2, 100), away)) as tool:
        await tool.read(0)
        await tool.read(1)
        await trio.sleep(10)
        assert await tool.settle() == set(range(10))  # the eight that were asked for before the first one failed
        tool.prefetcher.opened(tool.series, 2)
        tool.prefetcher.closed(tool.series, 2, 0)
        assert await tool.settle() == set(range(10))


async def test_a_file_opened_while_it_is_being_fetched_is_fetched_once_and_counts_as_used(
    autojump_clock: object,
) -> None:
    # With fewer slots than fetches, an opened file may take one away from the next, which is then fetched again.
    async with following(open_seconds=0.1, settings={"prefetch": 16, "max_downloads": 24}) as tool:
        for ordinal in range(6):
            await tool.read(ordinal)
        await trio.sleep(1)
        assert all(count == 1 for count in tool.setup.source.fetches.values())
        assert tool.setup.stats["prefetched_used"] == 4


async def test_what_is_kept_is_not_fetched_again(autojump_clock: object) -> None:
    async with following(number=30) as tool:
        for ordinal in range(30):
            await tool.read(ordinal)
        again = Tool(tool.setup, tool.prefetcher, replace(tool.series, series="seen anew"))
        for ordinal in (0, 1, 2):
            again.prefetcher.opened(again.series, ordinal)
            again.prefetcher.closed(again.series, ordinal, SMALL)
        await again.settle()
        assert all(count == 1 for count in tool.setup.source.fetches.values())


async def test_what_is_on_disk_is_in_memory_before_it_is_opened(tmp_path: Path) -> None:
    scripts: dict[str, Script | list[Script]] = {
        uid(ordinal): sound(dicom(uid(ordinal), SMALL)) for ordinal in range(30)
    }
    async with reading(scripts, directory=tmp_path) as setup:
        for ordinal in range(30):
            await setup.whole(instance(uid(ordinal)))
    async with reading(scripts, directory=tmp_path, prefetch=8) as setup:
        prefetcher = Prefetcher(setup.reader, setup.reader._settings, 64 * MIB, setup.nursery, setup.stats)
        tool = Tool(setup, prefetcher, Series(30, sizes=dict.fromkeys(range(30), SMALL)))
        for ordinal in range(2):
            await tool.read(ordinal)
        while setup.stats["disk_hits"] < 2 + 2 * 8:  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert all(setup.memory.get(instance(uid(ordinal)).key, 0) for ordinal in range(2 + 2 * 8))
        assert not setup.source.fetches
        assert setup.stats["prefetched"] == 0


async def test_an_opened_file_goes_before_those_fetched_ahead(autojump_clock: object) -> None:
    slow = sound(dicom(uid(90), SMALL), open_seconds=1.0)
    async with following(settings={"prefetch": 16, "max_downloads": 4}, open_seconds=1.0, changed={90: slow}) as tool:
        await tool.read(0)
        await tool.read(1)
        assert len(await tool.settle()) == 2 + 3 + 4  # three beside the second file, now four; nine wait
        started = trio.current_time()
        await tool.read(90)
        assert trio.current_time() - started <= 2.0  # one round of who was there first, and its own
        await trio.sleep(30)


async def test_an_archive_that_answers_again_is_followed_again(autojump_clock: object) -> None:
    away = Script(b"", refusal=Unreachable("away"))
    once = [away, sound(dicom(uid(2), SMALL))]
    async with following(changed={2: once}) as tool:  # type: ignore[dict-item]
        await tool.read(0)
        await tool.read(1)
        await tool.read(2)
        await tool.read(3)
        assert await tool.settle() == set(range(4 + 16))


async def test_a_mistake_of_ours_ends_nothing_but_the_fetching(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with following() as tool:

        async def fail(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(tool.setup.reader, "fetch_ahead", fail)
        await tool.read(0)
        await tool.read(1)
        await tool.read(2)
        assert await tool.settle() == {0, 1, 2}
    assert "this is a bug" in caplog.text


async def test_siblings_that_cannot_be_asked_for_are_passed_over(autojump_clock: object) -> None:
    async with following(settings={"prefetch": 2}) as tool:
        tool.series.nameless = frozenset({2, 3, 6, 99})
        await tool.read(0)
        await tool.read(1)
        assert await tool.settle() == {0, 1, 4, 5}
        await tool.read(4)
        await tool.read(5)
        assert await tool.settle() == {0, 1, 4, 5, 7, 8, 9}


async def test_what_fails_after_it_was_stopped_stops_nobody_who_reads_again(autojump_clock: object) -> None:
    late = Script(
        dicom(uid(2), SMALL),
        announced=SMALL,
        chunks=(16 * KIB, 4 * KIB),
        chunk_seconds=9,
        breaks_at=16 * KIB,
        break_error=Unreachable("late"),
    )
    async with following(settings={"prefetch": 4}, changed={2: late}) as tool:
        await tool.read(0)
        await tool.read(1)
        await trio.sleep(12)  # all is stopped, but for what is nearly done
        assert tool.setup.stats["running_downloads"] == 1
        for ordinal in (20, 21):
            tool.setup.reader.open(tool.series.instance(ordinal))
            tool.prefetcher.opened(tool.series, ordinal)
        await trio.sleep(8)
        assert tool.setup.stats["running_downloads"] == 0
        [trail] = tool.prefetcher._trails.values()
        assert not trail.given_up
        for ordinal in (20, 21):
            tool.setup.reader.close(tool.series.instance(ordinal))
            tool.prefetcher.closed(tool.series, ordinal, 0)


async def test_a_series_that_is_followed_no_longer_is_not_fetched(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idcfs.content.prefetch.MAX_FOLLOWED", 120)
    async with following(open_seconds=100.0, settings={"prefetch": 2, "timeout_seconds": 1000.0}) as tool:
        other = replace(tool.series, series="another")
        for ordinal in (0, 1):
            tool.prefetcher.opened(tool.series, ordinal)
        assert await tool.settle() == {2, 3}
        tool.prefetcher.opened(other, 50)
        assert await tool.settle() == {2, 3}
        assert tool.setup.stats["prefetching"] == 0

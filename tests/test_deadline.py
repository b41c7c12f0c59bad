"""Deadlines: what counts as progress."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from idcfs.deadline import FLOOR_BYTES, Progress
from idcfs.errors import DeadlinePassed

TIMEOUT = 60.0


async def drip(progress: Progress, amount: int, seconds: float, times: int) -> None:
    with progress.watch("the instance"):
        for _ in range(times):
            await trio.sleep(seconds)
            progress.advance(amount)


async def test_silence_is_cut_after_the_timeout(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(DeadlinePassed, match="the instance: no progress for 60 s"):
        await drip(Progress(TIMEOUT), 0, 1_000, 1)
    assert trio.current_time() == pytest.approx(autojump_clock.current_time())


@pytest.mark.parametrize("amount", [1, 1_000, FLOOR_BYTES // 61])
async def test_a_drip_below_the_floor_is_cut_when_silence_would_be(
    amount: int, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    with pytest.raises(DeadlinePassed):
        await drip(Progress(TIMEOUT), amount, 1, 10_000)
    assert trio.current_time() - start == pytest.approx(TIMEOUT)


async def test_64_kib_within_each_timeout_may_go_on_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    await drip(Progress(TIMEOUT), FLOOR_BYTES // 59 + 1, 1, 10_000)
    await drip(Progress(TIMEOUT), FLOOR_BYTES, TIMEOUT - 1, 100)
    assert trio.current_time() - start > 15_000


async def test_what_was_left_over_of_one_timeout_is_no_progress_in_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    progress = Progress(TIMEOUT)

    async def receive() -> None:
        with progress.watch("the instance"):
            progress.advance(10 * FLOOR_BYTES)
            await trio.sleep(TIMEOUT - 1)
            progress.advance(FLOOR_BYTES - 1)
            await trio.sleep(2)

    with pytest.raises(DeadlinePassed):
        await receive()


async def stop_and_go(progress: Progress) -> None:
    with progress.watch("the instance"):
        progress.pause()
        progress.restart()
        await trio.sleep_forever()


async def test_the_clock_stands_still_while_paused_and_gives_a_whole_timeout_after(
    autojump_clock: trio.testing.MockClock,
) -> None:
    progress = Progress(TIMEOUT)
    with progress.watch("the instance"):
        await trio.sleep(TIMEOUT - 1)
        progress.pause()
        await trio.sleep(100 * TIMEOUT)
        progress.restart()
        await trio.sleep(TIMEOUT - 1)
    start = trio.current_time()
    with pytest.raises(DeadlinePassed):
        await stop_and_go(progress)
    assert trio.current_time() - start == pytest.approx(TIMEOUT)


async def test_each_watch_has_its_own_timeout(autojump_clock: trio.testing.MockClock) -> None:
    progress = Progress(TIMEOUT)
    for _ in range(3):
        with progress.watch("the instance"):
            await trio.sleep(TIMEOUT - 1)


async def test_what_is_raised_within_goes_through() -> None:
    with pytest.raises(KeyError), Progress(TIMEOUT).watch("the instance"):
        raise KeyError


async def test_a_cancellation_from_outside_is_no_deadline(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as outside:
        await drip(Progress(TIMEOUT), 0, 1_000, 1)
    assert outside.cancelled_caught

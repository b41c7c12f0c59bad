"""The rule of time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from idcfs.deadline import FLOOR_BYTES, Progress
from idcfs.errors import DeadlinePassed


async def test_without_progress_it_passes(autojump_clock: MockClock) -> None:
    async def too_little() -> None:
        progress = Progress(10)
        with progress.watch("the thing"):
            await trio.sleep(9)
            progress.advance(FLOOR_BYTES - 1)
            await trio.sleep_forever()

    before = trio.current_time()
    with pytest.raises(DeadlinePassed, match="the thing: no progress for 10 s"):
        await too_little()
    assert trio.current_time() - before == pytest.approx(10)


async def test_progress_moves_it_on(autojump_clock: MockClock) -> None:
    progress = Progress(10)
    with progress.watch("the thing"):
        for _ in range(10):
            await trio.sleep(5)
            progress.advance(FLOOR_BYTES // 2)
            await trio.sleep(4)
            progress.advance(FLOOR_BYTES // 2)
    assert trio.current_time() == pytest.approx(90)


async def test_pause_and_restart(autojump_clock: MockClock) -> None:
    async def pausing() -> None:
        progress = Progress(10)
        with progress.watch("the thing"):
            await trio.sleep(9)
            progress.pause()
            await trio.sleep(1000)
            progress.restart()
            await trio.sleep(9)
            progress.advance(FLOOR_BYTES)
            await trio.sleep_forever()

    before = trio.current_time()
    with pytest.raises(DeadlinePassed):
        await pausing()
    assert trio.current_time() - before == pytest.approx(9 + 1000 + 9 + 10)


async def test_what_is_raised_within_goes_through() -> None:
    with pytest.raises(KeyError), Progress(10).watch("the thing"):
        raise KeyError


async def test_a_cancellation_from_outside_is_not_a_deadline() -> None:
    with trio.CancelScope() as outer:
        outer.cancel()
        with Progress(10).watch("the thing"):
            await trio.sleep_forever()
    assert outer.cancelled_caught

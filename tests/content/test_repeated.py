"""Known bytes that come once more: no progress, and no loss of time either."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from idcfs.errors import DeadlinePassed, Truncated
from idcfs.settings import MIB
from tests.content.ranged import DATA, ONE, SIZE
from tests.content.scripted import TIMEOUT, Script, reading, sound

BROKEN = Truncated("broke")


async def test_known_bytes_that_come_again_are_no_progress(autojump_clock: MockClock) -> None:
    """Each body takes long to break off where the one before did."""
    first = sound(DATA, breaks_at=MIB, break_error=BROKEN)
    slow = Script(DATA, SIZE, chunks=(MIB - 10, 10, 10), chunk_seconds=0.4 * TIMEOUT, breaks_at=MIB, break_error=BROKEN)
    async with reading([first, slow]) as setup:
        setup.reader.open(ONE)
        began = trio.current_time()
        with pytest.raises(DeadlinePassed):
            await setup.reader.read(ONE, SIZE, 2 * MIB, 10)
        assert trio.current_time() - began <= TIMEOUT + 5
        setup.reader.close(ONE)


async def test_much_that_comes_again_at_a_good_pace_may_take_longer(autojump_clock: MockClock) -> None:
    first = sound(DATA, breaks_at=39 * MIB, break_error=BROKEN)
    again = sound(DATA, chunks=(4 * MIB,), chunk_seconds=4.0)
    async with reading([first, again], timeout_seconds=10.0) as setup:
        assert await setup.whole(ONE) == DATA


@pytest.mark.parametrize("step", [10, 1000])
async def test_bodies_that_bring_hardly_more_each_time_are_given_up(step: int, autojump_clock: MockClock) -> None:
    broken: list[Script] = [sound(DATA, breaks_at=MIB + at * step, break_error=BROKEN) for at in range(20)]
    async with reading([*broken]) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Truncated):
            await setup.reader.read(ONE, SIZE, 2 * MIB, 10)
        assert setup.source.fetches["1.2.3"] == 4
        setup.reader.close(ONE)

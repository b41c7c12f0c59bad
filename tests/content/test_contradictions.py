"""Bytes, or a size, that do not fit what came before: while a file is open, none of it is read any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from idcfs.errors import WrongSize
from idcfs.settings import MIB
from tests.content.ranged import DATA, ONE, SIZE, in_order, ranged, read
from tests.content.scripted import Script, reading, sound


async def test_a_kept_block_of_another_length_ends_all_reading_until_the_file_is_closed(tmp_path: Path) -> None:
    longer = DATA + b"more"
    async with reading(sound(DATA), directory=tmp_path) as setup:
        assert await setup.whole(ONE) == DATA
        await setup.tiers.sync()
    async with reading(sound(longer), directory=tmp_path) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, len(longer), 0, MIB) == DATA[:MIB]
        with pytest.raises(WrongSize):
            await setup.reader.read(ONE, len(longer), len(longer) - 1, 1)
        for offset in (0, len(longer) - 1):
            with pytest.raises(WrongSize):
                await setup.reader.read(ONE, len(longer), offset, 1)
        setup.reader.close(ONE)
        assert setup.reader.was_replaced(ONE)
        assert await setup.whole(ONE) == longer


async def test_another_size_that_only_a_range_fetched_ahead_has_shown_ends_all_reading(
    autojump_clock: MockClock,
) -> None:
    """Nobody waits for it: who reads on would have the range asked for once more."""
    other = Script(DATA + b"more", SIZE + 4, ranges=True)
    async with reading([*[ranged(DATA)] * 2, other, ranged(DATA)], finish_bytes=0) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.size(ONE) == SIZE
        with pytest.raises(WrongSize):
            await in_order(setup, 0, SIZE)
        assert setup.memory.size == 0
        with pytest.raises(WrongSize):
            await read(setup, 0, 10)
        setup.reader.close(ONE)
        assert await setup.whole(ONE) == DATA

"""One instance: how far ahead of its readers it is fetched, and what is waited for."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs.errors import DeadlinePassed, WrongSize
from idcfs.settings import KIB, MIB
from tests.content.scripted import LINGER, TIMEOUT, Huge, Script, dicom, instance, part10, reading, sound

ONE = instance()
SIZE = 3 * MIB + 12_345
DATA = dicom("1.2.3", SIZE)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(sound(DATA, open_seconds=1e9), id="no answer"),
        pytest.param(sound(DATA, stalls_at=0), id="no byte"),
        pytest.param(sound(DATA, stalls_at=MIB + 7), id="stall"),
        pytest.param(sound(DATA, chunks=(1,), chunk_seconds=1.0), id="drip"),
        pytest.param(sound(DATA, chunks=(1000,), chunk_seconds=1.0), id="under the floor"),
    ],
)
async def test_no_progress_is_not_waited_for_longer_than_the_timeout(autojump_clock: MockClock, script: Script) -> None:
    async with reading(script) as setup:
        setup.reader.open(ONE)
        before = trio.current_time()
        with pytest.raises(DeadlinePassed, match="no progress for 60 s"):
            await setup.reader.read(ONE, SIZE, 0, SIZE)
        assert trio.current_time() - before == pytest.approx(TIMEOUT, abs=1)
        setup.reader.close(ONE)


async def test_slow_is_not_dead(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA, chunks=(8 * KIB,), chunk_seconds=5.0)) as setup:
        assert await setup.whole(ONE) == DATA
        assert trio.current_time() > 1000


async def test_standing_still_is_not_waiting(autojump_clock: MockClock) -> None:
    data = dicom("1.2.3", 8 * MIB)
    async with reading(sound(data)) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, 8 * MIB, 0, 10) == data[:10]
        await trio.sleep(100 * TIMEOUT)
        assert await setup.rest(ONE, 8 * MIB) == data
        assert setup.source.fetches["1.2.3"] == 1
        setup.reader.close(ONE)


async def test_a_stall_after_standing_still_has_its_whole_timeout(autojump_clock: MockClock) -> None:
    data = dicom("1.2.3", 8 * MIB)
    async with reading(sound(data, stalls_at=3 * MIB)) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, 8 * MIB, 0, 10)
        await trio.sleep(TIMEOUT - 1)
        before = trio.current_time()
        with pytest.raises(DeadlinePassed):
            await setup.reader.read(ONE, 8 * MIB, 7 * MIB, 10)
        assert trio.current_time() - before == pytest.approx(TIMEOUT)
        setup.reader.close(ONE)


async def test_a_header_costs_little_more_than_the_header(autojump_clock: MockClock) -> None:
    huge = Huge(part10("1.2.3"), 250 * MIB)
    async with reading(sound(huge)) as setup:
        setup.reader.open(ONE)
        size = await setup.reader.size(ONE)
        assert await setup.reader.read(ONE, size, 0, 128 * KIB) == huge[0 : 128 * KIB]
        await trio.sleep(1000)
        moved = setup.source.delivered["1.2.3"]
        assert moved <= 2 * MIB + 256 * KIB
        assert await setup.reader.read(ONE, size, 4 * MIB, 10) == bytes(10)
        await trio.sleep(1000)
        assert moved < setup.source.delivered["1.2.3"] <= 6 * MIB + 128 * KIB
        assert setup.source.fetches["1.2.3"] == 1
        setup.reader.close(ONE)
        await trio.sleep(2 * LINGER)
        assert setup.source.open_bodies == 0


async def test_the_log_says_why_a_far_read_takes_long(caplog: pytest.LogCaptureFixture) -> None:
    huge = Huge(part10("1.2.3"), 100 * MIB)
    caplog.set_level("INFO", "idcfs.content.download")
    async with reading(sound(huge)) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, 100 * MIB, 60 * MIB, 10)
        assert caplog.messages == []
        setup.reader.close(ONE)
    async with reading(sound(huge)) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, 100 * MIB, 100 * MIB - 10, 10)
        assert caplog.messages == [
            "instance 1.2.3 of series 1.2: 104 MB have to pass before byte 104857600 can be read"
        ]
        setup.reader.close(ONE)


async def test_the_window_moves_with_the_reader_and_not_only_when_it_waits(autojump_clock: MockClock) -> None:
    huge = Huge(part10("1.2.3"), 50 * MIB)
    async with reading(sound(huge)) as setup:
        setup.reader.open(ONE)
        for offset in range(0, 10 * MIB, 128 * KIB):
            await setup.reader.read(ONE, 50 * MIB, offset, 128 * KIB)
            await trio.sleep(0.01)
            read, delivered = offset + 128 * KIB, setup.source.delivered["1.2.3"]
            ahead = 2 * MIB if read > 3 * MIB else min(2 * MIB, 3584 * KIB - read)  # of a header, less
            assert ahead <= delivered - read <= ahead + 128 * KIB
        assert setup.stats["misses"] == 1
        setup.reader.close(ONE)


async def test_with_everything_there_the_connection_is_let_go_of_without_being_asked() -> None:
    data = dicom("1.2.3", 2 * MIB + 100 * KIB)
    async with reading(sound(data)) as setup:
        setup.reader.open(ONE)
        await setup.reader.read(ONE, len(data), 0, 100 * KIB)
        await wait_all_tasks_blocked()
        assert setup.source.open_bodies == 0
        setup.reader.close(ONE)
        assert setup.stats["downloads_cancelled"] == 0


@pytest.mark.parametrize("read_ahead", [0, 1])
async def test_no_read_ahead_at_all(read_ahead: int) -> None:
    async with reading(sound(DATA, chunks=(10,)), read_ahead_bytes=read_ahead) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.size(ONE) == SIZE
        assert await setup.reader.read(ONE, SIZE, 0, 300) == DATA[:300]
        setup.reader.close(ONE)


async def test_the_last_byte_waits_for_the_end_of_the_body(autojump_clock: MockClock) -> None:
    """A length announced too small would look like the end of the file."""
    short = Script(DATA, announced=SIZE - MIB, chunks=(SIZE - MIB, MIB), chunk_seconds=1.0)
    async with reading(short) as setup:
        setup.reader.open(ONE)
        size = await setup.reader.size(ONE)
        assert await setup.reader.read(ONE, size, 0, size - 1) == DATA[: size - 1]
        with pytest.raises(WrongSize):
            await setup.reader.read(ONE, size, size - 1, 1)
        setup.reader.close(ONE)

"""Reading through both tiers: what is kept is not fetched again, also of an instance of which a part is missing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.content.blocks import MemoryTier
from idcfs.content.disk import DiskTier
from idcfs.content.tiers import Tiers
from idcfs.errors import Damaged, Truncated, Unreachable, WrongSize
from idcfs.settings import KIB, MIB
from idcfs.stats import Stats
from tests.content.scripted import Script, Setup, dicom, instance, reading, sound

ONE = instance()
SIZE = 7 * MIB + 12_345
DATA = dicom("1.2.3", SIZE)
OVERLAP = 64 * KIB
"""Of a range that continues what is known, so much is asked for once more, and compared."""
AWAY = Script(b"", refusal=Unreachable("away"))


async def read(setup: Setup, offset: int = 0, length: int = SIZE, size: int = SIZE) -> bytes:
    setup.reader.open(ONE)
    try:
        return await setup.reader.read(ONE, size, offset, length)
    finally:
        setup.reader.close(ONE)


async def fill(directory: Path, *blocks: int, data: bytes = DATA) -> None:
    """Keep these blocks of the instance, as an earlier mount would have."""
    async with reading(sound(data), directory=directory) as setup:
        for block in blocks:
            setup.tiers.put(ONE.key, block, data[block * MIB : (block + 1) * MIB])


async def test_an_instance_is_fetched_once_for_all_mounts(tmp_path: Path) -> None:
    async with reading(sound(DATA), directory=tmp_path) as setup:
        assert await setup.whole(ONE) == DATA
    async with reading(AWAY, directory=tmp_path) as setup:
        assert await read(setup) == DATA
        assert setup.stats["disk_hits"] == 8
        assert await read(setup) == DATA
        assert setup.stats["disk_hits"] == 8  # from memory now


@pytest.mark.parametrize("memory", [0, 2])
async def test_whatever_the_order_each_block_is_fetched_once(tmp_path: Path, memory: int) -> None:
    async with reading(sound(DATA), memory * MIB, directory=tmp_path) as setup:
        for block in (7, 0, 3, 6, 1, 5, 2, 4):
            assert await read(setup, block * MIB, MIB) == DATA[block * MIB : (block + 1) * MIB]
        assert setup.source.fetches["1.2.3"] == 1


async def test_readers_far_apart_share_one_fetch(tmp_path: Path) -> None:
    async with reading(sound(DATA), 2 * MIB, directory=tmp_path) as setup:
        setup.reader.open(ONE)
        found: list[bytes] = []

        async def from_offset(offset: int) -> None:
            found.append(await setup.rest(ONE, SIZE, offset, 100_000))
            assert found[-1] == DATA[offset:]

        async with trio.open_nursery() as nursery:
            for offset in (0, 3 * MIB, SIZE - 10):
                nursery.start_soon(from_offset, offset)
        setup.reader.close(ONE)
        assert len(found) == 3
        assert setup.source.fetches["1.2.3"] == 1


async def test_what_is_read_from_memory_is_not_what_the_disk_lets_go(tmp_path: Path) -> None:
    scripts: dict[str, Script | list[Script]] = {uid: sound(dicom(uid, MIB)) for uid in ("1.2.3", "1.2.4", "1.2.5")}
    async with reading(scripts, 1 * MIB, directory=tmp_path, disk_bytes=5 * MIB // 2) as setup:
        for uid in ("1.2.3", "1.2.4"):
            await setup.whole(instance(uid))
            await setup.tiers.sync()
        await read(setup, 0, MIB, MIB)  # from disk, then from memory
        await setup.tiers.sync()
        await setup.whole(instance("1.2.5"))
    async with reading(scripts, 1 * MIB, directory=tmp_path, disk_bytes=5 * MIB // 2) as setup:
        await read(setup, 0, MIB, MIB)
        assert setup.source.fetches["1.2.3"] == 0
        await setup.whole(instance("1.2.4"))
        assert setup.source.fetches["1.2.4"] == 1


# --- parts -----------------------------------------------------------------------------------------------------------


async def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1, 4, 5)
    async with reading(sound(DATA, ranges=True), directory=tmp_path) as setup:
        assert await read(setup) == DATA
        assert sorted(setup.source.asked) == [(2 * MIB - OVERLAP, 4 * MIB + OVERLAP), (6 * MIB - OVERLAP, None)]
        assert setup.source.delivered["1.2.3"] == SIZE - 4 * MIB + 3 * OVERLAP
    async with reading(AWAY, directory=tmp_path) as setup:
        assert await read(setup) == DATA


async def test_a_source_that_begins_at_the_beginning_is_right_too(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1, 4, 5)
    async with reading(sound(DATA), directory=tmp_path) as setup:
        assert await read(setup) == DATA
        assert setup.source.fetches["1.2.3"] == 1


async def test_without_its_beginning_an_instance_is_fetched_from_there(tmp_path: Path) -> None:
    """Only there it shows that the archive sends the right one."""
    await fill(tmp_path, 1, 2, 3)
    async with reading(sound(DATA, ranges=True), directory=tmp_path) as setup:
        assert await read(setup, 5 * MIB, 10) == DATA[5 * MIB : 5 * MIB + 10]
        first, *_ = setup.source.asked
        assert first == (0, 1 * MIB)


async def test_a_block_before_what_is_being_fetched_is_another_fetch(tmp_path: Path) -> None:
    await fill(tmp_path, 0)
    async with reading(sound(DATA, ranges=True), directory=tmp_path) as setup:
        setup.reader.open(ONE)
        assert await read(setup, 5 * MIB, 10) == DATA[5 * MIB : 5 * MIB + 10]
        assert await read(setup, 2 * MIB, 10) == DATA[2 * MIB : 2 * MIB + 10]
        asked = [start for start, _ in setup.source.asked]
        assert asked == [0, 5 * MIB - OVERLAP, 2 * MIB - OVERLAP]  # the first: whether it is what was kept
        setup.reader.close(ONE)


async def test_a_break_is_resumed_where_it_was(autojump_clock: object) -> None:
    breaks = sound(DATA, ranges=True, breaks_at=3 * MIB + 100, break_error=Truncated("broke"))
    async with reading([breaks, sound(DATA, ranges=True)]) as setup:
        assert await setup.whole(ONE) == DATA
        assert setup.source.asked[0] == (0, None)
        assert (3 * MIB + 100 - OVERLAP, 4 * MIB) in setup.source.asked
        assert setup.source.delivered["1.2.3"] <= SIZE + OVERLAP * setup.source.fetches["1.2.3"]


async def test_a_break_in_a_range_is_resumed_there(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1, 6)
    breaks = sound(DATA, ranges=True, breaks_at=3 * MIB + 100, break_error=Truncated("broke"))
    async with reading([breaks, sound(DATA, ranges=True)], directory=tmp_path) as setup:
        assert await read(setup, 2 * MIB, 2 * MIB) == DATA[2 * MIB : 4 * MIB]
        assert setup.source.asked == [(2 * MIB - OVERLAP, 4 * MIB), (3 * MIB + 100 - OVERLAP, 4 * MIB)]


async def test_a_break_before_the_instance_is_proven_begins_anew(autojump_clock: object) -> None:
    breaks = sound(DATA, ranges=True, chunks=(10,), breaks_at=100, break_error=Truncated("broke"))
    async with reading([breaks, sound(DATA, ranges=True)]) as setup:
        assert await setup.whole(ONE) == DATA
        assert setup.source.asked[:2] == [(0, None), (0, None)]


async def test_after_a_break_the_source_may_know_no_ranges_any_more(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1, 6)
    breaks = sound(DATA, ranges=True, breaks_at=3 * MIB + 100, break_error=Truncated("broke"))
    async with reading([breaks, sound(DATA)], directory=tmp_path) as setup:
        assert await read(setup) == DATA


async def test_a_range_that_ends_early_is_no_end(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1, 6)
    short = Script(DATA[: 3 * MIB + 5], announced=SIZE, ranges=True)
    async with reading([short, short, sound(DATA, ranges=True)], directory=tmp_path) as setup:
        assert await read(setup) == DATA


async def test_a_range_of_an_instance_of_another_size_is_an_error(tmp_path: Path) -> None:
    await fill(tmp_path, 0)
    async with reading(Script(DATA, announced=SIZE + 1, ranges=True), directory=tmp_path) as setup:
        with pytest.raises(WrongSize):
            await read(setup)


@pytest.mark.parametrize("stop", [6, 8])
async def test_a_range_of_which_only_the_end_is_missing_is_not_asked_for_whole(tmp_path: Path, stop: int) -> None:
    await fill(tmp_path, 0, *([6] if stop == 6 else []))
    breaks = sound(DATA, ranges=True, breaks_at=min(stop * MIB, SIZE), break_error=Truncated("before its end"))
    scripts = [sound(DATA, ranges=True), breaks, sound(DATA, ranges=True)]
    async with reading(scripts, directory=tmp_path) as setup:
        assert await read(setup, 5 * MIB, (stop - 5) * MIB) == DATA[5 * MIB : stop * MIB]
        asked = [start for start, _ in setup.source.asked]
        assert asked == [0, 5 * MIB - OVERLAP, min(stop * MIB, SIZE) - OVERLAP]


async def test_fetching_ahead_brings_every_part_that_is_missing(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1, 2, 5)
    async with reading(sound(DATA, ranges=True), directory=tmp_path) as setup:
        learnt: list[int] = []
        await setup.fetch_ahead(ONE, SIZE, learnt.append)
        assert setup.source.asked == [(3 * MIB - OVERLAP, 5 * MIB + OVERLAP), (6 * MIB - OVERLAP, None)]
        assert await setup.reader.has_all(ONE, SIZE)
        assert set(learnt) == {SIZE}


# --- what is not as it was -------------------------------------------------------------------------------------------


def flip_a_bit(directory: Path) -> None:
    """In one of the block files."""
    file = sorted(path for path in directory.glob("??/*") if path.stat().st_size > MIB)[3]
    flipped = bytearray(file.read_bytes())
    flipped[500_000] ^= 1
    file.write_bytes(flipped)


async def test_a_damaged_block_is_fetched_again(tmp_path: Path) -> None:
    await fill(tmp_path, *range(8))
    flip_a_bit(tmp_path)
    async with reading(sound(DATA), directory=tmp_path) as setup:
        assert await read(setup) == DATA
        assert setup.stats["disk_damaged"] == 1
        assert setup.source.fetches["1.2.3"] == 1
    async with reading(AWAY, directory=tmp_path) as setup:
        assert await read(setup) == DATA


async def test_old_blocks_are_not_mixed_with_new_ones(tmp_path: Path) -> None:
    """An archive without content UUIDs has replaced the instance by one of the same size."""
    old = DATA[: 2 * MIB] + bytes(MIB) + DATA[3 * MIB :]
    await fill(tmp_path, 0, 1, 2, data=old)
    async with reading(sound(DATA), directory=tmp_path) as setup:
        with pytest.raises(Damaged, match="other bytes"):
            await read(setup, 3 * MIB, MIB)
        assert await read(setup) == DATA
    async with reading(AWAY, directory=tmp_path) as setup:
        assert await read(setup) == DATA


LIVE = replace(ONE, is_fixed=False)
"""Of an archive that may replace instances under their UIDs."""
REPLACED = DATA[: 2 * MIB] + bytes(100) + DATA[2 * MIB + 100 :]


async def test_a_break_is_not_resumed_in_what_may_be_another_instance(autojump_clock: object) -> None:
    breaks = sound(DATA, ranges=True, breaks_at=3 * MIB + 100, break_error=Truncated("broke"))
    async with reading([breaks, sound(DATA, ranges=True)]) as setup:
        assert await setup.whole(LIVE) == DATA
        assert setup.source.asked == [(0, None), (0, None)]


async def test_an_instance_that_is_replaced_while_it_is_read_is_an_error(autojump_clock: object) -> None:
    breaks = sound(DATA, ranges=True, breaks_at=3 * MIB + 100, break_error=Truncated("broke"))
    async with reading([breaks, sound(REPLACED, ranges=True)]) as setup:
        with pytest.raises(Damaged, match="other bytes"):
            await setup.whole(LIVE)


async def test_what_may_be_another_instance_is_fetched_whole_and_compared(tmp_path: Path) -> None:
    await fill(tmp_path, 0, 1, 2)
    async with reading(sound(REPLACED, ranges=True), directory=tmp_path) as setup:
        setup.reader.open(LIVE)
        with pytest.raises(Damaged, match="other bytes"):
            await setup.reader.read(LIVE, SIZE, 3 * MIB, 10)
        setup.reader.close(LIVE)
        assert setup.source.asked == [(0, None)]
        assert await setup.whole(LIVE) == REPLACED


async def test_a_kept_block_of_another_length_is_dropped_and_an_error(tmp_path: Path) -> None:
    await fill(tmp_path, *range(8))
    async with reading(sound(DATA + b"more"), directory=tmp_path) as setup:
        with pytest.raises(WrongSize):
            await read(setup, 7 * MIB, 10, SIZE + 4)
        assert await read(setup, 0, SIZE + 4, SIZE + 4) == DATA + b"more"


async def test_a_download_waits_for_a_slow_disk_and_its_readers_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back-pressure: what waits to be written is bounded, whatever the archive could send."""
    data = dicom("1.2.3", 40 * MIB)
    async with reading(sound(data), 2 * MIB, directory=tmp_path) as setup:
        gate = trio.Event()

        async def room() -> None:
            if setup.source.delivered["1.2.3"] > 20 * MIB:
                await gate.wait()

        monkeypatch.setattr(setup.tiers, "room", room)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(setup.whole, ONE)
            await trio.sleep(1)
            assert setup.source.delivered["1.2.3"] <= 21 * MIB
            gate.set()


# --- anything at all -------------------------------------------------------------------------------------------------

NUMBERS = itertools.count()


@settings(max_examples=25, deadline=None)
@given(
    reads=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, SIZE - 1), st.integers(1, 2 * MIB)), min_size=1, max_size=12
    ),
    ranges=st.booleans(),
    disk_mib=st.sampled_from([0, 2, 8, 64]),
)
def test_any_reads_with_tiers_that_evict_all_the_time(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, int, int]], ranges: bool, disk_mib: int
) -> None:
    directory = tmp_path_factory.mktemp(f"tiers{next(NUMBERS)}")
    uids = ["1.2.1", "1.2.2", "1.2.3"]
    scripts: dict[str, Script | list[Script]] = {uid: sound(dicom(uid, SIZE), ranges=ranges) for uid in uids}

    async def main() -> None:
        async with reading(scripts, 2 * MIB, directory=directory, disk_bytes=disk_mib * MIB) as setup:
            for number, offset, length in reads:
                one = instance(uids[number])
                setup.reader.open(one)
                data = await setup.reader.read(one, SIZE, offset, length)
                assert data == dicom(uids[number], SIZE)[offset : offset + length]
                setup.reader.close(one)
            assert setup.memory.size <= 2 * MIB

    trio.run(main)


async def test_what_is_only_in_memory_is_known_too(tmp_path: Path) -> None:
    tiers = Tiers(MemoryTier(4 * MIB), DiskTier(tmp_path, 0, Stats()))
    tiers.put(ONE.key, 3, b"abc")
    await tiers.load(ONE.key)
    assert tiers.has(ONE.key, 3)
    assert not tiers.has(ONE.key, 2)
    assert tiers.capacity == 4 * MIB
    tiers.drop(ONE.key)
    assert not tiers.has(ONE.key, 3)


@pytest.mark.parametrize(("memory_mib", "is_read"), [(63, False), (64, True)])
async def test_the_beginning_is_read_ahead_where_memory_has_room(
    tmp_path: Path, memory_mib: int, is_read: bool
) -> None:
    async with reading(sound(dicom("1.2.3", 3 * MIB)), directory=tmp_path) as setup:
        await setup.whole(ONE)
    async with reading(sound(b""), memory_mib * MIB, directory=tmp_path) as setup:
        assert await setup.reader.has_all(ONE, 3 * MIB)
        await setup.reader.read_first(ONE)
        assert [setup.memory.get(ONE.key, number) is not None for number in range(3)] == [is_read, False, False]
        assert setup.stats["disk_hits"] == is_read

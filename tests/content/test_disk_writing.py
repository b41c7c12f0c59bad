"""The disk tier: what waits to be written, what becomes of it, and what goes wrong on the way."""

from __future__ import annotations

import errno
import random
import sqlite3
from pathlib import Path

import pytest
import trio
import trio.testing

from idcfs.content import block_files, disk_index, disk_queue, upkeep
from idcfs.content.blocks import MemoryTier
from idcfs.content.disk import DiskTier
from idcfs.content.disk_store import BlockStore
from idcfs.content.tiers import Tiers
from idcfs.settings import MIB
from idcfs.stats import Stats
from tests.content.on_disk import (
    DATA,
    KEY,
    OTHER,
    PLENTY,
    behind,
    block,
    files,
    filled,
    kept,
    messages,
    opened,
    raise_,
    rows,
    running,
    settled,
)

# --- back-pressure ---------------------------------------------------------------------------------------------------


async def test_room_waits_while_the_disk_is_behind(directory: Path, autojump_clock: trio.testing.MockClock) -> None:
    tier = opened(directory)
    data = [random.Random(number).randbytes(MIB) for number in range(17)]
    for number in range(16):
        tier.put(KEY, number, data[number])
    with trio.move_on_after(1) as scope:
        await tier.queue.room()
    assert not scope.cancelled_caught
    tier.put(KEY, 16, data[16])
    with trio.move_on_after(1) as scope:
        await tier.queue.room()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(tier.queue.room)
        await trio.testing.wait_all_tasks_blocked()
        tier.drop(KEY)  # makes room as well
    for number in range(17):
        tier.put(KEY, number, data[number])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        await tier.queue.room()
        await settled(tier)
        nursery.cancel_scope.cancel()
    tier.close()
    assert len(files(directory)) == 17


# --- contents that are in memory too may wait -------------------------------------------------------------------------


async def test_nothing_is_written_while_more_comes_and_all_of_it_afterwards(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_queue, "_QUIET_SECONDS", 1.0)
    async with behind(directory, 64 * MIB) as tier:
        for number in range(8):
            tier.put(KEY, number, block(number, MIB))
            await trio.sleep(0.02)
            assert not files(directory)
        await settled(tier)
        assert len(files(directory)) == 8


async def test_no_more_waits_than_may(directory: Path) -> None:
    async with behind(directory, 8 * MIB) as tier:
        for number in range(8):
            assert not tier.queue.is_urgent.is_set()
            tier.put(KEY, number, block(number, MIB))
        assert tier.queue.is_urgent.is_set()
        await settled(tier)
        assert len(files(directory)) == 8


async def test_what_comes_for_ever_does_not_wait_for_ever(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_queue, "_LONGEST_SECONDS", 0.5)
    monkeypatch.setattr(disk_queue, "_QUIET_SECONDS", 60.0)
    async with behind(directory, 64 * MIB) as tier:
        for number in range(100):
            tier.put(KEY, number, block(number))
            await trio.sleep(0.05)
            if files(directory):
                break
        assert files(directory)


async def test_what_memory_lets_go_of_is_written_at_once(directory: Path) -> None:
    async with behind(directory, 64 * MIB) as tier:
        memory = MemoryTier(4 * MIB)
        tiers = Tiers(memory, tier)
        tiers.put(KEY, 0, block(0, MIB))
        assert not tier.queue.is_urgent.is_set()
        for number in range(1, 5):
            tiers.put(KEY, number, block(number, MIB))
        assert memory.get(KEY, 0) is None
        assert tier.queue.is_urgent.is_set()
        await settled(tier)
        assert len(files(directory)) == 5


async def test_sync_returns_when_what_waits_is_on_disk(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_queue, "_QUIET_SECONDS", 60.0)
    monkeypatch.setattr(disk_queue, "_LONGEST_SECONDS", 60.0)
    async with behind(directory, 64 * MIB) as tier:
        for number in range(20):
            tier.put(KEY, number, block(number, MIB))
        with trio.fail_after(20):
            await tier.sync()
        assert len(files(directory)) == 20
        with trio.fail_after(20):
            await tier.sync()


async def test_sync_does_not_wait_for_who_uses_a_block_without_end(directory: Path) -> None:
    async with behind(directory, 0) as tier, trio.open_nursery() as nursery:
        tier.put(KEY, 0, DATA)
        await tier.sync()

        async def use() -> None:
            while True:
                tier.use(KEY, 0, DATA)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(use)
        while not tier.queue.next.used:
            await trio.lowlevel.checkpoint()
        with trio.fail_after(10):
            await tier.sync()
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_kept_is_counted(directory: Path) -> None:
    stats = Stats()
    tier = DiskTier(directory, 2 * MIB, stats)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        for number in range(4):
            tier.put(KEY, number, block(number, MIB))
        await tier.sync()
        nursery.cancel_scope.cancel()
    tier.close()
    assert stats["disk_unkept"] == 4 - len(files(directory)) == 3  # a block takes its header too
    for capacity, unkept in ((PLENTY, 1), (0, 0)):
        stats = Stats()
        tier = DiskTier(directory / "index.sqlite", capacity, stats)  # no directory
        tier.put(KEY, 0, DATA)
        await tier.sync()
        assert stats["disk_unkept"] == unkept


async def test_room_is_there_until_more_waits_than_memory_may_hold(
    directory: Path, autojump_clock: trio.testing.MockClock
) -> None:
    tier = DiskTier(directory, PLENTY, Stats(), behind_bytes=32 * MIB)
    data = block(0, MIB)
    for number in range(49):
        with trio.fail_after(1):
            await tier.queue.room()
        tier.put(KEY, number, data)
    with pytest.raises(trio.TooSlowError), trio.fail_after(1):
        await tier.queue.room()
    tier.drop(KEY)


# --- what goes by another's doing, and what fails ---------------------------------------------------------------------

UNEXPECTED = [
    MemoryError(),
    ZeroDivisionError("a mistake"),
    sqlite3.ProgrammingError("a mistake"),
    sqlite3.InterfaceError("a mistake"),
    sqlite3.IntegrityError("UNIQUE constraint failed: block.name"),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
@pytest.mark.parametrize("where", ["series_digests", "digest", "total"])
async def test_the_unexpected_costs_a_batch_and_not_the_cache(
    directory: Path, where: str, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(directory)
    async with running(directory) as tier:
        await settled(tier)
        with monkeypatch.context() as patch:
            patch.setattr(disk_index.DiskIndex, where, lambda *_: raise_(error))
            for number in (20, 21):
                tier.put(OTHER, number, block(number))
                await settled(tier)
                await tier.load((KEY[0], f"another {number}"))
        (message,) = messages(caplog)
        assert "unexpected" in message
        assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]
        assert len(files(directory)) >= 8
        tier.put(KEY, 30, block(30))
        await settled(tier)
        assert await kept(tier, KEY, 31) == [*range(8), 30]


async def test_a_round_that_fails_does_not_end_the_mount(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where not even a thread can be started."""
    filled(directory)
    async with running(directory) as tier:
        await settled(tier)
        for failing in ("apply", "_learn"):
            with monkeypatch.context() as patch:
                patch.setattr(BlockStore if failing == "apply" else DiskTier, failing, lambda *_: 1 // 0)
                for number in range(40):
                    tier.put(OTHER, number, block(number, MIB))
                    with trio.fail_after(10):
                        await tier.queue.room()
                tier.drop(KEY)
                await settled(tier)
                assert tier.queue.next.drops == {KEY}
                assert tier.queue.next.size == tier.queue.current.size == 0
        tier.put(OTHER, 50, block(50))
        await settled(tier)
        assert await tier.get(OTHER, 50) == block(50)
        assert await kept(tier, KEY, 8) == []
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "unexpected" in record.getMessage()
    assert not any(row for row in rows(directory, "SELECT 1 FROM block WHERE instance = x'312e322e33'"))


async def test_what_has_gone_from_disk_is_kept_again_when_it_is_used(directory: Path) -> None:
    async with behind(directory, 0) as tier:
        tiers = Tiers(MemoryTier(64 * MIB), tier)
        for number in range(4):
            tiers.put(KEY, number, block(number))
        await tier.sync()
        upkeep.clear(directory)
        assert not files(directory)
        for number in range(4):
            assert tiers.in_memory(KEY, number) == block(number)
        await tier.sync()
        assert len(files(directory)) == 4


async def test_what_could_not_be_kept_is_kept_when_that_can_be_done(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = Stats()
    tier = DiskTier(directory, PLENTY, stats)
    tiers = Tiers(MemoryTier(64 * MIB), tier)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        await tiers.load(KEY)
        with monkeypatch.context() as patch:
            patch.setattr(block_files, "write", lambda *_: raise_(OSError(errno.ENOSPC, "full")))
            tiers.put(KEY, 0, DATA)
            await tier.sync()
        assert stats["disk_unkept"] == 1
        assert tiers.in_memory(KEY, 0) == DATA  # not tried at once, but counted: warm must know
        await tier.sync()
        assert (stats["disk_unkept"], files(directory)) == (2, [])
        tier._retry = trio.current_time()
        assert tiers.in_memory(KEY, 0) == DATA
        await tier.sync()
        assert (stats["disk_unkept"], len(files(directory))) == (2, 1)
        nursery.cancel_scope.cancel()
    tier.close()

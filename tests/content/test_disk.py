"""The disk tier: what it keeps is right or absent, bounded, and never a reason to fail."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from idcfs.content import block_files, disk, disk_directory, disk_index, disk_known, disk_store, upkeep
from idcfs.content.block_files import HEADER_BYTES, NewBlock, name_of
from idcfs.content.blocks import Key, MemoryTier
from idcfs.content.disk import DiskTier
from idcfs.content.disk_directory import block_path
from idcfs.content.disk_store import BlockStore
from idcfs.content.disk_work import Work
from idcfs.content.instance import Instance
from idcfs.content.tiers import Tiers
from idcfs.errors import Damaged, UsageError
from idcfs.locks import locked
from idcfs.settings import GIB, KIB, MIB
from idcfs.stats import Stats

KEY = ("content", "1.2.3")
OTHER = ("content", "1.2.4")
INSTANCE = Instance("content", "1", "1.2", "1.2.3", frozenset(), is_fixed=True)
PLENTY = 1 * GIB
DATA = random.Random(1).randbytes(10_000)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a filesystem of its own")


def block(number: int, size: int = 10_000) -> bytes:
    return random.Random(number).randbytes(size)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "blocks"


def opened(directory: Path, capacity_bytes: int = PLENTY) -> DiskTier:
    return DiskTier(directory, capacity_bytes, Stats())


@asynccontextmanager
async def running(directory: Path, capacity_bytes: int = PLENTY) -> AsyncIterator[DiskTier]:
    """A tier as a mount has it."""
    tier = opened(directory, capacity_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        yield tier
        nursery.cancel_scope.cancel()
    tier.close()


async def settled(tier: DiskTier) -> None:
    """Returns once the writer has nothing to do."""
    while not tier._has_work.statistics().tasks_waiting:  # noqa: ASYNC110
        await trio.sleep(0.002)


def filled(directory: Path, count: int = 8, key: Key = KEY, capacity_bytes: int = PLENTY) -> None:
    """Blocks 0 … ``count`` - 1 of ``key``, written by a mount that has gone."""
    tier = opened(directory, capacity_bytes)
    for number in range(count):
        tier.put(key, number, block(number))
    tier.close()


def file_of(directory: Path, key: Key, number: int) -> Path:
    return block_path(directory, name_of(key, number))


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("??/*"))


def rows(directory: Path, select: str = "SELECT name FROM block") -> list[Any]:
    with contextlib.closing(sqlite3.connect(directory / "index.sqlite")) as connection:
        return connection.execute(select).fetchall()


async def kept(tier: DiskTier, key: Key, count: int) -> list[int]:
    """Which of the first blocks are there; those that are, are right."""
    found = [await tier.get(key, number) for number in range(count)]
    assert all(data is None or data == block(number) for number, data in enumerate(found))
    return [number for number, data in enumerate(found) if data is not None]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- keeping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4_096 - HEADER_BYTES, 4_097 - HEADER_BYTES, MIB])
@pytest.mark.parametrize(
    "key", [KEY, ("", ""), ("ü\0'", "\ud800"), ("a" * 5_000, "/../x")], ids=lambda key: repr(key)[:9]
)
async def test_what_was_put_is_there_at_the_next_start(directory: Path, key: Key, size: int) -> None:
    data = block(7, size)
    async with running(directory) as tier:
        tier.put(key, 7, data)
    async with running(directory) as tier:
        assert not tier.has(key, 7)
        await tier.load(key)
        assert tier.has(key, 7)
        assert await tier.get(key, 7) == data
        assert tier.size == math.ceil((HEADER_BYTES + size) / 4_096) * 4_096
        for other in ((key[0] + "x", key[1]), (key[0], key[1] + "x")):
            assert await tier.get(other, 7) is None
        assert await tier.get(key, 8) is None


async def test_keys_that_look_alike_are_told_apart(directory: Path) -> None:
    keys = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    async with running(directory) as tier:
        for number, key in enumerate(keys):
            tier.put(key, 0, block(number))
        await settled(tier)
        assert [await tier.get(key, 0) for key in keys] == [block(number) for number in range(4)]


async def test_a_block_is_there_before_it_is_written(directory: Path) -> None:
    tier = opened(directory)
    tier.put(KEY, 0, DATA)
    assert tier.has(KEY, 0)
    assert await tier.get(KEY, 0) is DATA
    assert not files(directory)
    tier.close()
    assert len(files(directory)) == 1


async def test_a_block_is_there_while_it_is_written(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = slow_writes(monkeypatch)
    async with running(directory) as tier:
        tier.put(KEY, 0, DATA)
        while not tier._current.blocks:
            await trio.lowlevel.checkpoint()
        assert tier.has(KEY, 0)
        assert await tier.get(KEY, 0) is DATA
        go_on.set()
        await settled(tier)
        assert await tier.get(KEY, 0) == DATA
        assert await tier.get(KEY, 0) is not DATA


def slow_writes(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    go_on = threading.Event()
    write = block_files.write

    def slow(path: Path, new: block_files.NewBlock) -> None:
        assert go_on.wait(10)
        write(path, new)

    monkeypatch.setattr(block_files, "write", slow)
    return go_on


async def test_the_same_block_is_written_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = block_files.write

    def counted(path: Path, new: block_files.NewBlock) -> None:
        written.append(new.number)
        write(path, new)

    monkeypatch.setattr(block_files, "write", counted)
    async with running(directory) as tier:
        for _ in range(2):
            tier.put(KEY, 0, DATA)
        await settled(tier)
        await tier.load(KEY)
        tier.put(KEY, 0, DATA)
        await settled(tier)
    async with running(directory) as tier:
        tier.put(KEY, 0, DATA)  # without having looked what is there
        await settled(tier)
        assert await tier.get(KEY, 0) == DATA
    assert written == [0]


async def test_other_bytes_are_damage(directory: Path) -> None:
    async with running(directory) as tier:
        tier.put(KEY, 0, DATA)
        with pytest.raises(Damaged, match=r"1\.2\.3"):
            tier.put(KEY, 0, DATA[:-1])
        await tier.load(KEY)
        await settled(tier)
        with pytest.raises(Damaged):
            tier.put(KEY, 0, DATA[::-1])
        assert await tier.get(KEY, 0) == DATA
    async with running(directory) as tier:
        await tier.load(KEY)
        with pytest.raises(Damaged):
            tier.put(KEY, 0, DATA[::-1])


async def test_other_bytes_that_nobody_looked_for_are_not_mixed_with_those_kept(directory: Path) -> None:
    filled(directory)
    filled(directory, key=OTHER)
    async with running(directory) as tier:
        tier.put(KEY, 0, block(100))
        tier.put(KEY, 20, block(20))
        await settled(tier)
        assert [await tier.get(KEY, number) for number in range(21)] == [None] * 21
        assert await kept(tier, OTHER, 8) == list(range(8))


def test_the_directory_is_for_nobody_else(directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o755)
    filled(directory)
    for path in (directory, *directory.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_off_it_touches_no_disk(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def use() -> None:
        async with running(directory, 0) as tier:
            tier.put(KEY, 0, DATA)
            await tier.room()
            tier.drop(KEY)
            assert await tier.get(KEY, 0) is None
            assert not tier.has(KEY, 0)
            assert (tier.size, tier.capacity) == (0, 0)

    trio.run(use)
    assert not directory.parent.exists()
    assert caplog.records == []


# --- dropping --------------------------------------------------------------------------------------------------------


async def test_a_dropped_instance_is_gone_at_once_and_for_good(directory: Path) -> None:
    filled(directory)
    filled(directory, key=OTHER)
    async with running(directory) as tier:
        await tier.load(KEY)
        tier.put(KEY, 20, DATA)
        tier.drop(KEY)
        assert not tier.has(KEY, 0)
        assert await kept(tier, KEY, 21) == []
        tier.put(KEY, 0, DATA)  # which was another one before
        assert await tier.get(KEY, 0) == DATA
        await settled(tier)
        assert await tier.get(KEY, 0) == DATA
        assert await kept(tier, OTHER, 8) == list(range(8))
    assert len(files(directory)) == len(rows(directory)) == 9


async def test_dropped_while_it_is_written(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = slow_writes(monkeypatch)
    async with running(directory) as tier:
        await tier.load(KEY)
        tier.put(KEY, 0, DATA)
        while not tier._current.blocks:
            await trio.lowlevel.checkpoint()
        tier.drop(KEY)
        assert not tier.has(KEY, 0)
        tier.put(KEY, 0, DATA[::-1])
        go_on.set()
        assert await tier.get(KEY, 0) == DATA[::-1]
        await settled(tier)
        assert await tier.get(KEY, 0) == DATA[::-1]
        assert [tier._known.digest(KEY, number) is not None for number in range(2)] == [True, False]


async def test_dropped_while_it_is_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    go_on = slow_reads(monkeypatch)
    async with running(directory) as tier:
        found = []

        async def get() -> None:
            found.append(await tier.get(KEY, 0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(get)
            while not tier._reading:
                await trio.lowlevel.checkpoint()
            tier.drop(KEY)
            tier.put(KEY, 0, DATA)
            nursery.start_soon(get)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
        assert found == [DATA, None]


async def test_what_cannot_be_dropped_now_is_dropped_later(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    with monkeypatch.context() as patch:
        patch.setattr(BlockStore, "_remove", lambda *_: raise_(OSError(5, "Input/output error")))
        tier = opened(directory)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tier.run)
            tier.drop(KEY)
            await settled(tier)
            assert tier._next.drops == {KEY}
            tier._known.clear()  # as when thousands of others have been looked at
            assert await kept(tier, KEY, 8) == []
            nursery.cancel_scope.cancel()
    tier.close()
    assert files(directory) == rows(directory) == []


def raise_(error: Exception) -> None:
    raise error


# --- reading ---------------------------------------------------------------------------------------------------------


def slow_reads(monkeypatch: pytest.MonkeyPatch, seen: list[bytes] | None = None) -> threading.Event:
    go_on = threading.Event()
    read = block_files.read

    def slow(path: Path, name: bytes, number: int) -> tuple[bytes, bytes]:
        if seen is not None:
            seen.append(name)
        assert go_on.wait(10)
        return read(path, name, number)

    monkeypatch.setattr(block_files, "read", slow)
    return go_on


async def test_those_who_ask_at_once_share_one_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    reads: list[bytes] = []
    go_on = slow_reads(monkeypatch, reads)
    found: list[bytes | None] = []
    async with running(directory) as tier:
        await tier.load(KEY)

        async def get() -> None:
            found.append(await tier.get(KEY, 0))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(get)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
        assert tier._reading == {}
    assert len(reads) == 1
    assert found[0] == block(0)
    assert all(one is found[0] for one in found)


async def test_at_most_eight_reads_at_once_and_whoever_is_cancelled_harms_nobody(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(directory, 20)
    reads: list[bytes] = []
    go_on = slow_reads(monkeypatch, reads)
    found: list[bytes | None] = []
    async with running(directory) as tier, trio.open_nursery() as nursery:
        await tier.load(KEY)

        async def get(number: int, scope: trio.CancelScope) -> None:
            with scope:
                found.append(await tier.get(KEY, number))

        scopes = [trio.CancelScope() for _ in range(40)]
        for number in range(20):  # of each block, the first to ask will be cancelled: some read, some wait for a turn
            for scope in scopes[2 * number : 2 * number + 2]:
                nursery.start_soon(get, number, scope)
                await trio.testing.wait_all_tasks_blocked()
        while len(reads) < 8:  # noqa: ASYNC110
            await trio.sleep(0.001)
        assert len(reads) == 8
        for scope in scopes[::2]:
            scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        while len(found) < 20:  # noqa: ASYNC110
            await trio.sleep(0.001)
        await settled(tier)
    assert {block(number) for number in range(20)} <= set(found)
    assert (tier._reading, tier._reads.borrowed_tokens) == ({}, 0)


async def test_cancelled_anywhere_nothing_leaks_or_hangs(directory: Path) -> None:
    chance = random.Random(5)
    async with running(directory, 400 * KIB) as tier:

        async def use(number: int) -> None:
            with trio.move_on_after(chance.uniform(0, 0.02)):
                for _ in range(20):
                    key = (KEY, OTHER)[chance.randrange(2)]
                    which = chance.randrange(40)
                    await tier.room()
                    assert await tier.get(key, which) in (None, block(which))
                    if chance.random() < 0.6:
                        tier.put(key, which, block(which))
                    if chance.random() < 0.02:
                        tier.drop(key)

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(use, number)
        await settled(tier)
        assert not tier._reading
        assert tier._next == tier._current == Work()
        assert 0 < tier.size <= 400 * KIB
        assert {limiter.borrowed_tokens for limiter in (tier._reads, tier._writes, tier._look_ups)} == {0}
    assert len(files(directory)) == len(rows(directory))


def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[Key | str]:
    """What is looked up in the index from now on: series, or single instances."""
    asked: list[Key | str] = []

    def counted(ask: Callable[..., Any]) -> Callable[..., Any]:
        def noting(index: object, what: Key | str, *rest: int) -> Any:
            asked.append(what)
            return ask(index, what, *rest)

        return noting

    for name in ("digests", "series_digests"):
        monkeypatch.setattr(disk_index.DiskIndex, name, counted(getattr(disk_index.DiskIndex, name)))
    return asked


async def test_what_is_kept_is_asked_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    asked = asked_for(monkeypatch)
    async with running(directory) as tier:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(tier.load, KEY)
        for key in (KEY, OTHER, OTHER):
            await tier.load(key)
        assert await kept(tier, KEY, 8) == list(range(8))
    assert asked == [KEY[0]]


async def test_of_a_long_series_each_instance_is_asked_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    filled(directory, key=OTHER)
    asked = asked_for(monkeypatch)
    monkeypatch.setattr(disk, "_SERIES_BLOCKS", 15)
    async with running(directory) as tier:
        for _ in range(2):
            assert await kept(tier, KEY, 9) == await kept(tier, OTHER, 9) == list(range(8))
            assert await kept(tier, (KEY[0], "another"), 2) == []
    assert asked == [KEY[0], KEY, OTHER, (KEY[0], "another")]


# --- back-pressure ---------------------------------------------------------------------------------------------------


async def test_room_waits_while_the_disk_is_behind(directory: Path, autojump_clock: trio.testing.MockClock) -> None:
    tier = opened(directory)
    data = [random.Random(number).randbytes(MIB) for number in range(17)]
    for number in range(16):
        tier.put(KEY, number, data[number])
    with trio.move_on_after(1) as scope:
        await tier.room()
    assert not scope.cancelled_caught
    tier.put(KEY, 16, data[16])
    with trio.move_on_after(1) as scope:
        await tier.room()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(tier.room)
        await trio.testing.wait_all_tasks_blocked()
        tier.drop(KEY)  # makes room as well
    for number in range(17):
        tier.put(KEY, number, data[number])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        await tier.room()
        await settled(tier)
        nursery.cancel_scope.cancel()
    tier.close()
    assert len(files(directory)) == 17


# --- contents that are in memory too may wait -------------------------------------------------------------------------


@asynccontextmanager
async def behind(directory: Path, behind_bytes: int) -> AsyncIterator[DiskTier]:
    """A tier that may be behind, as a mount has it; its first look for what has to go is over."""
    tier = DiskTier(directory, PLENTY, Stats(), behind_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        await settled(tier)
        yield tier
        nursery.cancel_scope.cancel()
    tier.close()


async def test_nothing_is_written_while_more_comes_and_all_of_it_afterwards(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_QUIET_SECONDS", 1.0)
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
            assert not tier._is_urgent.is_set()
            tier.put(KEY, number, block(number, MIB))
        assert tier._is_urgent.is_set()
        await settled(tier)
        assert len(files(directory)) == 8


async def test_what_comes_for_ever_does_not_wait_for_ever(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_LONGEST_SECONDS", 0.5)
    monkeypatch.setattr(disk, "_QUIET_SECONDS", 60.0)
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
        tiers.put(INSTANCE, 0, block(0, MIB))
        assert not tier._is_urgent.is_set()
        for number in range(1, 5):
            tiers.put(INSTANCE, number, block(number, MIB))
        assert memory.get(INSTANCE.key, 0) is None
        assert tier._is_urgent.is_set()
        await settled(tier)
        assert len(files(directory)) == 5


async def test_sync_returns_when_what_waits_is_on_disk(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_QUIET_SECONDS", 60.0)
    monkeypatch.setattr(disk, "_LONGEST_SECONDS", 60.0)
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
        while not tier._next.used:
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
            await tier.room()
        tier.put(KEY, number, data)
    with pytest.raises(trio.TooSlowError), trio.fail_after(1):
        await tier.room()
    tier.drop(KEY)


# --- the bound -------------------------------------------------------------------------------------------------------


async def test_least_recently_used_goes_first(directory: Path) -> None:
    each = 3 * 4 * KIB
    async with running(directory, 11 * each) as tier:
        for number in range(10):
            tier.put(KEY, number, block(number))
        await settled(tier)
        await tier.load(KEY)
        assert await kept(tier, KEY, 3) == [0, 1, 2]
        for number in range(10, 14):
            tier.put(KEY, number, block(number))
            await settled(tier)
            assert tier.size <= 11 * each
        assert not any(tier.has(KEY, number) for number in range(3, 7))  # one in 50 more than need be, rounded up
        assert await kept(tier, KEY, 14) == [0, 1, 2, *range(7, 14)]


async def test_hits_count_at_the_next_start(directory: Path) -> None:
    each = 3 * 4 * KIB
    filled(directory, 10, capacity_bytes=10 * each)
    async with running(directory, 10 * each) as tier:
        assert await tier.get(KEY, 0) == block(0)
    async with running(directory, 10 * each) as tier:
        tier.put(OTHER, 0, block(0))
        await settled(tier)
        assert await kept(tier, KEY, 10) == [0, *range(3, 10)]


async def test_too_large_a_block_is_not_kept_and_pushes_nothing_out(directory: Path) -> None:
    filled(directory, 3, capacity_bytes=40 * KIB)
    async with running(directory, 40 * KIB) as tier:
        tier.put(KEY, 9, bytes(40 * KIB))
        await settled(tier)
        assert await tier.get(KEY, 9) is None
        assert await kept(tier, KEY, 3) == [0, 1, 2]


async def test_more_than_fits_at_once_leaves_the_newest(directory: Path) -> None:
    tier = opened(directory, 40 * KIB)
    for number in range(50):
        tier.put(KEY, number, block(number))
    tier.close()
    async with running(directory, 40 * KIB) as tier:
        assert await kept(tier, KEY, 50) == [47, 48, 49]


async def test_a_lowered_bound_holds_soon_after_the_start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_store, "_ROUND_BLOCKS", 3)
    monkeypatch.setattr(disk_store, "_MOST_ROUNDS", 2)
    filled(directory, 60)
    async with running(directory, 100 * KIB) as tier:
        await settled(tier)
        assert tier.size <= 100 * KIB
    assert 7 <= len(files(directory)) <= 8


def test_a_damaged_total_does_not_keep_the_writer_busy(directory: Path) -> None:
    filled(directory, 2)
    with contextlib.closing(sqlite3.connect(directory / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE state SET bytes = bytes + 1000000000000")

    async def use() -> None:
        async with running(directory, 100 * KIB) as tier:
            tier.put(KEY, 0, block(0))
            await settled(tier)
            tier.put(KEY, 1, block(1))
            await settled(tier)
            assert tier.size <= 24 * KIB
            assert await kept(tier, KEY, 2) == [1]

    trio.run(use)


async def test_two_mounts_share_the_bound(directory: Path) -> None:
    async with running(directory, 200 * KIB) as one, running(directory, 200 * KIB) as other:
        for number in range(60):
            one.put(KEY, number, block(number))
            other.put(OTHER, number, block(number))
            other.put(KEY, number, block(number))  # the same at the same time
            if number % 7 == 0:
                await settled(one)
                await settled(other)
        await settled(one)
        await settled(other)
        (total,) = rows(directory, "SELECT bytes FROM state")[0]
        assert 0 < sum(file.stat().st_blocks * 512 for file in files(directory)) <= total <= 200 * KIB
        for tier in (one, other):
            for key in (KEY, OTHER):
                await kept(tier, key, 60)


# --- damage ----------------------------------------------------------------------------------------------------------

PLACES = [*range(HEADER_BYTES), HEADER_BYTES + 1, HEADER_BYTES + 5_000, HEADER_BYTES + 9_999]


async def test_a_flipped_bit_anywhere_is_a_miss(directory: Path) -> None:
    async with running(directory) as tier:
        await tier.load(KEY)
        for count, place in enumerate(PLACES):
            tier.put(KEY, 0, DATA)
            await settled(tier)
            file = file_of(directory, KEY, 0)
            content = bytearray(file.read_bytes())
            content[place] ^= 1 << place % 8
            file.write_bytes(content)
            assert await tier.get(KEY, 0) is None, place
            assert not tier.has(KEY, 0)
            assert not file.exists()
            assert tier._stats["disk_damaged"] == count + 1
            await settled(tier)
            assert rows(directory) == []


def cut(file: Path, length: int) -> None:
    with file.open("r+b") as opened_file:
        opened_file.truncate(length)


SPOILT: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: cut(file, 0),
    "header cut": lambda file: cut(file, HEADER_BYTES - 1),
    "header alone": lambda file: cut(file, HEADER_BYTES),
    "cut": lambda file: cut(file, HEADER_BYTES + 9_999),
    "extended": lambda file: cut(file, HEADER_BYTES + 10_001),
    "huge": lambda file: cut(file, 1 << 40),
    "zeros": lambda file: file.write_bytes(bytes(HEADER_BYTES + 10_000)),
    "of another block": lambda file: file.write_bytes(file_of(file.parents[1], KEY, 1).read_bytes()),
    "of another instance": lambda file: file.write_bytes(file_of(file.parents[1], OTHER, 0).read_bytes()),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_file_that_is_not_as_written_is_a_miss(directory: Path, how: str) -> None:
    filled(directory, 2)
    filled(directory, 1, OTHER)
    SPOILT[how](file_of(directory, KEY, 0))
    async with running(directory) as tier:
        assert await tier.get(KEY, 0) is None
        assert tier._stats["disk_damaged"] == 1
        await settled(tier)
        assert len(files(directory)) == len(rows(directory)) == 2
        tier.put(KEY, 0, block(0))
        await settled(tier)
        assert await tier.get(KEY, 0) == block(0)
    async with running(directory) as tier:
        assert await kept(tier, KEY, 2) == [0, 1]
        assert await kept(tier, OTHER, 1) == [0]
        assert tier._stats["disk_damaged"] == 0


async def test_a_file_that_is_gone_or_no_file_is_a_miss(directory: Path) -> None:
    filled(directory, 3)
    file_of(directory, KEY, 0).unlink()
    file_of(directory, KEY, 1).unlink()
    file_of(directory, KEY, 1).symlink_to(file_of(directory, KEY, 2))
    async with running(directory) as tier:
        assert await kept(tier, KEY, 3) == [2]
        assert tier._stats["disk_damaged"] == 1  # the link
        await settled(tier)
        assert (name_of(KEY, 0),) not in rows(directory)


async def test_what_another_mount_replaced_is_not_mixed(directory: Path) -> None:
    filled(directory, 2)
    async with running(directory) as one, running(directory) as other:
        await one.load(KEY)
        other.drop(KEY)
        other.put(KEY, 0, DATA)
        await settled(other)
        assert await one.get(KEY, 0) is None
        assert await one.get(KEY, 0) == DATA  # it has looked again
        assert not one.has(KEY, 1)
        assert one._stats["disk_damaged"] == 0


def garbage(index: Path) -> None:
    index.write_bytes(b"no database " * 1_000)


def torn_header(index: Path) -> None:
    index.write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)


def garbage_beside_an_old_log(index: Path) -> None:
    Path(f"{index}-wal").write_bytes(b"\xff" * 5_000)
    Path(f"{index}-shm").write_bytes(b"\xff" * 5_000)
    garbage(index)


def cut_off(index: Path) -> None:
    cut(index, 4_096)


def pages_inside(index: Path) -> None:
    content = bytearray(index.read_bytes())
    content[4_096:] = b"\xff" * (len(content) - 4_096)
    index.write_bytes(content)


def of_another_version(index: Path) -> None:
    execute(index, "PRAGMA user_version = 999")


def of_another_program(index: Path) -> None:
    index.unlink()
    execute(index, "CREATE TABLE block (name)")


def other_values(index: Path) -> None:
    execute(index, "UPDATE block SET digest = 12345678901234, number = 'x', bytes = 'y'")


def no_total(index: Path) -> None:
    execute(index, "DELETE FROM state")


def execute(index: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute(statement)


DAMAGES = [
    garbage,
    torn_header,
    garbage_beside_an_old_log,
    cut_off,
    pages_inside,
    of_another_version,
    of_another_program,
    other_values,
    no_total,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
async def test_a_damaged_index_is_started_anew_with_one_warning(
    directory: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    filled(directory)
    (directory / "of the user").touch()
    damage(directory / "index.sqlite")
    async with running(directory) as tier:
        assert await kept(tier, KEY, 8) == []
        await settled(tier)
        assert files(directory) == []
        tier.put(KEY, 0, block(0))
        await settled(tier)
        assert await kept(tier, KEY, 8) == [0]
    async with running(directory) as tier:
        assert await kept(tier, KEY, 8) == [0]
    (message,) = messages(caplog)
    assert f"{directory}/index.sqlite is damaged" in message
    assert (directory / "of the user").exists()


@pytest.mark.parametrize("mounts", [1, 2])
async def test_an_index_damaged_under_running_mounts(
    directory: Path, mounts: int, caplog: pytest.LogCaptureFixture
) -> None:
    filled(directory, 500)
    async with contextlib.AsyncExitStack() as stack:
        tiers = [await stack.enter_async_context(running(directory)) for _ in range(mounts)]
        for tier in tiers:
            await settled(tier)
        pages_inside(directory / "index.sqlite")
        for tier in tiers:
            assert set(await kept(tier, KEY, 8)) <= set(range(8))
            tier.put(OTHER, 0, block(0))
            await settled(tier)
        for tier in tiers:
            tier.put(OTHER, 1, block(1))
            await settled(tier)
            assert 1 in await kept(tier, OTHER, 2)
    assert len(messages(caplog)) == 1
    assert {file.name for file in files(directory)} == {bytes(name).hex() for (name,) in rows(directory)}


async def test_the_directory_is_removed_under_a_running_mount(directory: Path) -> None:
    filled(directory)
    async with running(directory) as tier:
        await tier.load(KEY)
        subprocess.run(["rm", "-rf", directory], check=True)  # noqa: ASYNC221
        assert await kept(tier, KEY, 8) == []
        await settled(tier)
        tier.put(KEY, 0, block(0))
        await settled(tier)
        assert await kept(tier, KEY, 8) == [0]
    async with running(directory) as tier:
        assert await kept(tier, KEY, 8) == [0]


async def test_files_whose_rows_a_power_cut_took_are_removed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory, 8)
    execute(directory / "index.sqlite", "DELETE FROM block WHERE number < 3")
    async with running(directory) as tier:
        await settled(tier)
    assert len(files(directory)) == 8  # the machine has not been started since: nothing can be missing
    monkeypatch.setattr(disk_store, "boot_id", lambda: "another")
    async with running(directory) as tier:
        await settled(tier)
        assert len(files(directory)) == 5
        assert await kept(tier, KEY, 8) == [3, 4, 5, 6, 7]


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


async def test_a_look_up_that_fails_is_not_remembered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    async with running(directory) as tier:
        with monkeypatch.context() as patch:
            for name in ("digests", "series_digests"):
                patch.setattr(disk_index.DiskIndex, name, lambda *_: raise_(MemoryError()))
            assert await kept(tier, KEY, 8) == []
        assert await kept(tier, KEY, 8) == list(range(8))


@pytest.mark.parametrize("statement", ["DROP TABLE block", "DROP TABLE state", "ALTER TABLE block RENAME digest TO x"])
async def test_an_index_that_was_gutted_is_started_anew(
    directory: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(directory)
    async with running(directory) as tier:
        await settled(tier)
        execute(directory / "index.sqlite", statement)
        tier.put(OTHER, 0, block(0))
        await settled(tier)
        tier.put(OTHER, 1, block(1))
        await settled(tier)
        assert 1 in await kept(tier, OTHER, 2)
        assert await kept(tier, KEY, 8) == []
    (message,) = messages(caplog)
    assert "is damaged (no such" in message


async def test_damage_that_two_threads_meet_is_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(directory)
    store = BlockStore(directory, PLENTY)
    both = threading.Barrier(2)

    def meet(*_: object) -> None:
        both.wait(10)
        raise disk_index.IndexDamaged("bad page")

    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(disk_index.DiskIndex, "digests", meet)
            patch.setattr(disk_index.DiskIndex, "touch", meet)
            nursery.start_soon(trio.to_thread.run_sync, store.look_up, KEY)
            await trio.to_thread.run_sync(store.apply, Work())
    assert store.generation == len(messages(caplog)) == 1
    store.close()


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
                    tier.put(OTHER, number, big(number))
                    with trio.fail_after(10):
                        await tier.room()
                tier.drop(KEY)
                await settled(tier)
                assert tier._next.drops == {KEY}
                assert tier._next.size == tier._current.size == 0
        tier.put(OTHER, 50, block(50))
        await settled(tier)
        assert await tier.get(OTHER, 50) == block(50)
        assert await kept(tier, KEY, 8) == []
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "unexpected" in record.getMessage()
    assert not any(row for row in rows(directory, "SELECT 1 FROM block WHERE instance = x'312e322e33'"))


# --- no place --------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(at: Path, megabytes: int) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def big(number: int) -> bytes:
    return random.Random(number).randbytes(MIB)


@root_only
async def test_some_of_the_disk_is_left_to_others(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20) as disk:
        async with running(disk / "blocks") as tier:
            for number in range(30):
                tier.put(KEY, number, big(number))
                await tier.room()
            await settled(tier)
            found = [number for number in range(30) if await tier.get(KEY, number) == big(number)]
            assert found == list(range(30 - len(found), 30))
            assert 15 <= len(found) <= 18
            free = os.statvfs(disk)
            assert free.f_bavail >= free.f_blocks * 0.05 - 64  # its log has grown since
            (disk / "of the user").write_bytes(bytes(free.f_bavail * free.f_frsize - 256 * KIB))
            tier.put(KEY, 40, big(40))
            await settled(tier)
            free = os.statvfs(disk)
            assert free.f_bavail >= free.f_blocks * 0.05 - 64
            assert await tier.get(KEY, 40) == big(40)


@root_only
@pytest.mark.parametrize("is_foreseen", [True, False])
async def test_on_a_full_disk_nothing_fails_and_one_warning_says_so(
    tmp_path: Path, is_foreseen: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not is_foreseen:
        monkeypatch.setattr(disk_store, "_FREE_SHARE", -100.0)
    with small_disk(tmp_path / "disk", 20) as disk:
        filler = disk / "of the user"
        async with running(disk / "blocks") as tier:
            for number in range(0 if is_foreseen else 3):  # what is there could give way to what comes
                tier.put(KEY, number, big(number))
            await settled(tier)
            for times in (1, 2):
                filler.write_bytes(bytes(16 * MIB if is_foreseen else 15 * MIB))
                with contextlib.suppress(OSError), filler.open("ab") as file:
                    file.write(bytes(4 * MIB))
                for number in range(10, 20):
                    tier.put(KEY, number, big(number))
                    await tier.room()
                    await settled(tier)
                if not is_foreseen:
                    assert [await tier.get(KEY, number) == big(number) for number in range(3)] == [True] * 3
                assert await tier.get(KEY, 19) is None
                assert len(messages(caplog)) == times
                assert "not kept on disk" in messages(caplog)[-1]
                filler.unlink()
                tier.put(KEY, 30 + times, big(30 + times))
                await settled(tier)
                assert await tier.get(KEY, 30 + times) == big(30 + times)
            assert not list((disk / "blocks" / "tmp").iterdir())
            assert {file.name for file in files(disk / "blocks")} <= {
                bytes(name).hex() for (name,) in rows(disk / "blocks")
            }


async def unusable(directory: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The one warning of a tier that can do nothing."""
    async with running(directory) as tier:
        for number in range(40):
            tier.put(KEY, number, big(0))
            await tier.room()
        tier.drop(KEY)
        assert not tier.has(KEY, 0)
        assert await tier.get(KEY, 0) is None
        assert tier.size == 0
    (message,) = messages(caplog)
    assert f"{directory} cannot be used" in message
    return message


@root_only
async def test_a_read_only_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 20) as disk:
        filled(disk / "blocks")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)  # noqa: ASYNC221
        await unusable(disk / "blocks", caplog)
        assert len(files(disk / "blocks")) == 8


@root_only
async def test_a_directory_of_another_user(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(directory)
    os.chown(directory, 12_345, 12_345)
    assert "belongs to another user" in await unusable(directory, caplog)
    with pytest.raises(UsageError, match="belongs to another user"):
        upkeep.info(directory)
    assert len(files(directory)) == 8


async def test_a_symbolic_link(directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(directory)
    link = tmp_path / "link"
    link.symlink_to(directory)
    assert "is a symbolic link" in await unusable(link, caplog)
    for look in (upkeep.info, upkeep.clear, upkeep.verify):
        with pytest.raises(UsageError, match="is a symbolic link"):
            look(link)
    assert len(files(directory)) == 8


async def test_a_file_where_the_directory_should_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / "file").open("w"):
        await unusable(tmp_path / "file", caplog)


async def test_no_directory_can_be_made(caplog: pytest.LogCaptureFixture) -> None:
    await unusable(Path("/proc/blocks"), caplog)


async def test_another_mount_that_does_not_let_go(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk_index, "_PATIENCE_SECONDS", 0.05)
    filled(directory)
    async with running(directory) as tier:
        await settled(tier)
        with contextlib.closing(sqlite3.connect(directory / "index.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in range(20, 23):
                tier.put(KEY, number, block(number))
                await settled(tier)
            assert await kept(tier, KEY, 23) == list(range(8))  # reading goes on
            (message,) = messages(caplog)
            assert "locked" in message
            other.execute("ROLLBACK")
        tier.put(KEY, 20, block(20))
        await settled(tier)
        assert await kept(tier, KEY, 23) == [*range(8), 20]


# --- starting --------------------------------------------------------------------------------------------------------


def test_opening_looks_neither_at_every_row_nor_at_any_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    many = [(number.to_bytes(16), b"content", b"%d" % (number // 10), number % 10, number) for number in range(100_000)]
    with contextlib.closing(sqlite3.connect(directory / "index.sqlite")) as connection, connection:
        connection.executemany("INSERT INTO block VALUES (?, ?, ?, ?, 4096, x'00', ?)", many)
    steps = 0
    listed: list[Path] = []
    connect = sqlite3.connect
    listdir = os.listdir

    def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_progress_handler(count, 1)
        return connection

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def list_one(path: Path) -> list[str]:
        listed.append(path)
        return listdir(path)

    monkeypatch.setattr(sqlite3, "connect", counting)
    monkeypatch.setattr(os, "listdir", list_one)
    monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("lists a directory"))

    async def use() -> None:
        async with running(directory) as tier:
            await settled(tier)
            await tier.load(("content", "77"))
            assert all(tier.has(("content", "77"), number) for number in range(10))
            assert tier.size == 100_000 * 4_096 + 8 * 12 * KIB
            tier.put(KEY, 9, block(9))
            await settled(tier)

    trio.run(use)
    assert 0 < steps < 5_000 + 10 * disk._SERIES_BLOCKS  # of the one series that is asked for
    assert set(listed) <= {directory / "tmp"}


def test_what_killed_mounts_were_writing_is_removed_when_old(directory: Path) -> None:
    filled(directory)
    old, new = directory / "tmp" / "old", directory / "tmp" / "new"
    for file, age_seconds in ((old, 700), (new, 500)):
        file.write_bytes(DATA)
        os.utime(file, (time.time() - age_seconds,) * 2)
    opened(directory).close()
    assert (old.exists(), new.exists()) == (False, True)


KILLED = """
import os, pathlib, random, signal, sys, time
import trio
from idcfs.content.disk import DiskTier
from idcfs.stats import Stats

directory = pathlib.Path(sys.argv[1])


async def mount(number, written):
    tier = DiskTier(directory, 6_000_000, Stats())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        chance = random.Random(number)
        for count in range(10**9):
            key, block = ("content", str(chance.randrange(20))), chance.randrange(15)
            await tier.room()
            data = random.Random(f"{key} {block}").randbytes(30_000)
            found = await tier.get(key, block)
            assert found in (None, data)
            tier.put(key, block, data)
            if chance.random() < 0.01:
                tier.drop(key)
            await trio.lowlevel.checkpoint()
            if count == 200:
                os.write(written, b"x")


for number in range(15):
    children = []
    for mounts in range(2):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            trio.run(mount, 2 * number + mounts, writing)
        os.close(writing)
        children.append((child, reading))
    for child, reading in children:
        assert os.read(reading, 1) == b"x"
    time.sleep(random.Random(number).uniform(0, 0.1))
    for child, reading in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
"""


def test_mounts_that_are_killed_leave_right_blocks_or_none(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, directory], check=True, timeout=100)
    there = files(directory)
    assert len(there) > 50
    assert {file.name for file in there} <= {bytes(name).hex() for (name,) in rows(directory)}
    ((total,),) = rows(directory, "SELECT bytes FROM state")
    assert sum(file.stat().st_blocks * 512 for file in there) <= total <= 6_000_000
    assert rows(directory, "SELECT sum(bytes) FROM block") == [(total,)]
    for leftover in (directory / "tmp").iterdir():
        os.utime(leftover, (0, 0))
    tier = opened(directory)
    assert not list((directory / "tmp").iterdir())
    found = 0
    for instance in range(20):
        for number in range(15):
            key = ("content", str(instance))
            data = trio.run(tier.get, key, number)
            found += data is not None
            assert data in (None, random.Random(f"{key} {number}").randbytes(30_000))
    tier.close()
    assert found == len(there)
    assert tier._stats["disk_damaged"] == 0
    assert len(rows(directory)) == found  # rows without files have been met, and removed
    assert messages(caplog) == []


# --- other processes -------------------------------------------------------------------------------------------------


def elsewhere(code: str, *words: object) -> str:
    """What ``code`` prints in another process."""
    prelude = "import sys, pathlib\nfrom idcfs.content import upkeep\nfrom idcfs.content.disk_index import DiskIndex\n"
    command = [sys.executable, "-W", "ignore", "-c", prelude + code, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def log_identity(directory: Path) -> list[int]:
    return [(directory / f"index.sqlite-{name}").stat().st_ino for name in ("wal", "shm")]


def work(key: Key, *numbers: int) -> Work:
    made = Work()
    for number in numbers:
        made.add(block_files.NewBlock.of(key, number, block(number)))
    return made


LOOK = "print(upkeep.info(pathlib.Path(sys.argv[1])).blocks)"


@pytest.mark.parametrize("beside", ["nothing", "look-up", "info", "another mount"])
def test_who_closes_the_index_leaves_it_to_those_who_go_on(directory: Path, beside: str) -> None:
    """Whatever the mount's own process opens and closes meanwhile: SQLite's locks must not get lost by it."""
    store = BlockStore(directory, PLENTY)
    store.apply(work(KEY, 0, 1))
    store.look_up(KEY)
    if beside == "look-up":
        store.look_up(OTHER)
    elif beside == "info":
        assert upkeep.info(directory).blocks == 2
    elif beside == "another mount":
        filled(directory, 2)
    before = log_identity(directory)
    for count in range(3):
        assert elsewhere(LOOK, directory) == str(2 + count)
        assert log_identity(directory) == before
        store.apply(work(OTHER, count))
    assert elsewhere(LOOK, directory) == "5"
    store.close()
    assert sorted(path.name for path in directory.glob("index*")) == ["index.sqlite"]
    assert len(files(directory)) == len(rows(directory)) == 5


def test_a_mount_holds_its_lock_whatever_else_is_opened(directory: Path) -> None:
    store = BlockStore(directory, PLENTY)
    store.look_up(KEY)
    upkeep.info(directory)
    inode = (directory / "index.sqlite").stat().st_ino
    held = [line for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]
    assert any("POSIX" in line and f" {os.getpid()} " in line for line in held)
    store.close()


CLOSED = """
import os, pathlib, random, signal, sys, time
import trio
from idcfs.content import upkeep
from idcfs.content.disk import DiskTier
from idcfs.stats import Stats

directory = pathlib.Path(sys.argv[1])


async def mount(number, rounds):
    tier = DiskTier(directory, 2_000_000, Stats())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        chance = random.Random(number)
        for count in range(rounds):
            key, block = ("content", str(chance.randrange(20))), chance.randrange(15)
            await tier.room()
            data = random.Random(f"{key} {block}").randbytes(10_000)
            assert await tier.get(key, block) in (None, data)
            tier.put(key, block, data)
            if count % 100 == 3:
                upkeep.info(directory)  # opens and closes the index in this process too
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    tier.close()


def started(action, *arguments):
    child = os.fork()
    if not child:
        try:
            action(*arguments)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return child


def come_and_go(number):
    for turn in range(15):
        trio.run(mount, 100 * number + turn, 5)
        upkeep.info(directory)


for number in range(3):
    stays = started(trio.run, mount, number, 700)
    goes = [started(come_and_go, 10 * number + one) for one in range(1, 3)]
    killed = started(trio.run, mount, number + 50, 10**9)
    time.sleep(0.4)
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    for child in (*goes, stays):
        assert os.waitpid(child, 0)[1] == 0
"""


def test_mounts_that_close_while_others_go_on_and_are_killed(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLOSED, directory], capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    there = files(directory)
    assert len(there) > 50
    assert {file.name for file in there} <= {bytes(name).hex() for (name,) in rows(directory)}
    assert rows(directory, "PRAGMA integrity_check") == [("ok",)]
    assert rows(directory, "SELECT bytes FROM state") == rows(directory, "SELECT sum(bytes) FROM block")
    found = upkeep.verify(directory)
    assert (found.blocks, found.orphans, found.damaged_blocks) == (len(there), 0, 0)


# --- upkeep ----------------------------------------------------------------------------------------------------------


def test_no_cache_is_an_empty_one(directory: Path) -> None:
    for _ in range(2):
        assert upkeep.info(directory) == upkeep.clear(directory) == upkeep.CacheInfo()
        assert upkeep.verify(directory) == upkeep.Verified()
        assert not directory.exists() or not list(directory.iterdir())
        directory.mkdir(parents=True, exist_ok=True)


def test_info_tells_what_there_is(directory: Path) -> None:
    before = time.time()
    filled(directory)
    filled(directory, 3, OTHER)
    filled(directory, 2, ("more", "1.2.3"))
    info = upkeep.info(directory)
    assert (info.bytes, info.blocks, info.instances, info.series) == (13 * 12 * KIB, 13, 3, 2)
    assert info.oldest is not None
    assert info.newest is not None
    assert before - 1 < info.oldest < info.newest < time.time() + 1


async def test_a_cache_is_cleared_under_a_running_mount(directory: Path) -> None:
    async with running(directory) as tier:
        for number in range(600):
            tier.put(KEY, number, block(number, 100))
        await tier.load(KEY)
        await settled(tier)
        (directory / "00").mkdir(exist_ok=True)
        (directory / "00" / ("0" * 32)).touch()
        before = upkeep.info(directory)
        assert before.blocks == 600
        assert upkeep.clear(directory) == before
        assert upkeep.info(directory) == upkeep.CacheInfo()
        assert files(directory) == []
        assert [await tier.get(KEY, number) for number in range(600)] == [None] * 600
        tier.put(KEY, 0, block(0))
        await settled(tier)
        assert await kept(tier, KEY, 2) == [0]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_damaged_cache_can_be_cleared(directory: Path, damage: Callable[[Path], None]) -> None:
    filled(directory, 300)
    damage(directory / "index.sqlite")
    upkeep.clear(directory)
    assert files(directory) == []
    assert upkeep.info(directory) == upkeep.CacheInfo()


def test_info_of_a_damaged_index_removes_nothing(directory: Path) -> None:
    filled(directory)
    garbage(directory / "index.sqlite")
    with pytest.raises(UsageError, match="is damaged"):
        upkeep.info(directory)
    assert len(files(directory)) == 8


def test_verify_finds_what_is_wrong_and_removes_it(directory: Path) -> None:
    filled(directory, 600)
    file_of(directory, KEY, 0).write_bytes(b"x" * 20_000)
    cut(file_of(directory, KEY, 1), 100)
    file_of(directory, KEY, 2).unlink()
    orphan = directory / "ab" / ("ab" * 16)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(DATA)
    stranger = directory / "ab" / "of the user"
    stranger.touch()
    leftover = directory / "tmp" / "left"
    leftover.touch()
    os.utime(leftover, (0, 0))
    execute(directory / "index.sqlite", "UPDATE state SET bytes = 7")
    told: list[int] = []
    found = upkeep.verify(directory, told.append)
    each = 12 * KIB
    assert found == upkeep.Verified(
        597, 597 * each, damaged_blocks=2, damaged_bytes=2 * each, absent_blocks=1, orphans=1, leftovers=1
    )
    assert told == [each * count for count in range(1, 601)]
    assert (orphan.exists(), leftover.exists(), stranger.exists()) == (False, False, True)
    assert upkeep.info(directory).bytes == 597 * each
    assert upkeep.verify(directory) == upkeep.Verified(597, 597 * each)


def test_verify_leaves_alone_what_cannot_be_opened_now(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory, 3)
    path = file_of(directory, KEY, 0)
    read = block_files.read

    def read_others(at: Path, name: bytes, number: int) -> tuple[bytes, bytes]:
        if at == path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read(at, name, number)

    monkeypatch.setattr(block_files, "read", read_others)
    assert upkeep.verify(directory) == upkeep.Verified(2, 2 * 12 * KIB)
    assert path.is_file()
    assert len(rows(directory)) == 3


def test_upkeep_of_a_directory_that_cannot_be_used_is_one_clear_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(directory)
    monkeypatch.setattr(disk_index, "_PATIENCE_SECONDS", 0.0)
    with locked(directory, 0.0):
        for look in (upkeep.info, upkeep.clear, upkeep.verify):
            with pytest.raises(UsageError, match=f"{directory} cannot be used") as caught:
                look(directory)
            assert "\n" not in str(caught.value)


def test_only_what_is_ours_is_removed(directory: Path) -> None:
    filled(directory)
    strangers = [
        directory / "notes",
        directory / "ab" / "notes",
        directory / "zz" / ("0" * 32),
        directory / "abc" / "x",
    ]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    disk_directory.remove_all(directory)
    assert files(directory) == sorted(path for path in strangers if len(path.parent.name) == 2)
    assert all(path.exists() for path in strangers)


async def test_of_a_series_of_which_nothing_is_kept_nothing_more_is_asked(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(directory)
    async with running(directory) as tier:
        asked = asked_for(monkeypatch)
        for number in range(20):
            await tier.load(("new series", str(number)))
            tier.put(("new series", str(number)), 0, block(number))
        assert asked == ["new series"]
        await settled(tier)
        assert all(tier.has(("new series", str(number)), 0) for number in range(20))
        assert asked == ["new series"]


# --- what goes by another's doing, and what fails ---------------------------------------------------------------------


async def test_what_has_gone_from_disk_is_kept_again_when_it_is_used(directory: Path) -> None:
    async with behind(directory, 0) as tier:
        tiers = Tiers(MemoryTier(64 * MIB), tier)
        for number in range(4):
            tiers.put(INSTANCE, number, block(number))
        await tier.sync()
        upkeep.clear(directory)
        assert not files(directory)
        for number in range(4):
            assert tiers.in_memory(INSTANCE.key, number) == block(number)
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
        await tiers.load(INSTANCE.key)
        with monkeypatch.context() as patch:
            patch.setattr(block_files, "write", lambda *_: raise_(OSError(errno.ENOSPC, "full")))
            tiers.put(INSTANCE, 0, DATA)
            await tier.sync()
        assert stats["disk_unkept"] == 1
        assert tiers.in_memory(INSTANCE.key, 0) == DATA  # not tried at once, but counted: warm must know
        await tier.sync()
        assert (stats["disk_unkept"], files(directory)) == (2, [])
        tier._retry = trio.current_time()
        assert tiers.in_memory(INSTANCE.key, 0) == DATA
        await tier.sync()
        assert (stats["disk_unkept"], len(files(directory))) == (2, 1)
        nursery.cancel_scope.cancel()
    tier.close()


async def test_what_another_mount_adds_to_a_series_is_seen(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_known, "KEPT_SECONDS", 0.2)
    filled(directory, 1)
    filled(directory, 1, OTHER)
    async with running(directory) as one, running(directory) as other:
        assert await kept(one, KEY, 2) == [0]  # and so OTHER's series has been looked up
        assert await one.get(("content", "third"), 0) is None
        for key in (OTHER, ("content", "third")):
            await other.load(key)
            other.put(key, 1, block(1))
        await other.sync()
        await trio.sleep(0.3)
        for key in (OTHER, ("content", "third")):
            assert await one.get(key, 1) == block(1)


async def test_a_read_that_fails_unexpectedly_is_a_miss(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(directory)
    async with running(directory) as tier:
        with monkeypatch.context() as patch:
            patch.setattr(BlockStore, "read", lambda *_: raise_(RuntimeError("can't start new thread")))
            assert await kept(tier, KEY, 8) == []
        assert await kept(tier, KEY, 8) == list(range(8))
    assert [record.exc_info is not None for record in caplog.records if "unexpected" in record.getMessage()] == [True]


async def test_a_disk_that_is_only_busy_does_not_hang(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory, 40)
    read = BlockStore.read
    monkeypatch.setattr(disk, "_PATIENCE_SECONDS", 1.0)

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return read(*arguments)

    async with running(directory) as tier:
        await tier.load(KEY)
        monkeypatch.setattr(BlockStore, "read", slow)
        async with trio.open_nursery() as nursery:
            for number in range(40):  # eight at once: the last ones wait for more than the patience
                nursery.start_soon(tier.get, KEY, number)
        assert tier.capacity > 0
        assert tier._stats["disk_hits"] == 40


@pytest.mark.parametrize("size", [0, 1, 4_039, 4_040, 4_041, MIB - 1, MIB, MIB + 1, 3 * MIB + 5_000])
def test_what_an_instance_takes_on_disk_is_what_its_blocks_take(size: int) -> None:
    blocks = [NewBlock.of(KEY, 0, bytes(min(MIB, size - at))) for at in range(0, size, MIB)]
    assert block_files.disk_bytes(size) == sum(block.disk_bytes for block in blocks)

"""The disk tier: who reads waits for nobody else, and asks for no more than is needed."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from idcfs import patience
from idcfs.content import disk, disk_index, disk_known
from idcfs.content.disk_store import BlockStore
from idcfs.content.disk_work import Work
from idcfs.settings import KIB
from tests.content.on_disk import (
    KEY,
    OTHER,
    asked_for,
    block,
    files,
    filled,
    kept,
    raise_,
    rows,
    running,
    settled,
    slow_reads,
)


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
        assert tier._reads_under_way == {}
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
    assert (tier._reads_under_way, tier._read_turns.borrowed_tokens) == ({}, 0)


async def test_cancelled_anywhere_nothing_leaks_or_hangs(directory: Path) -> None:
    chance = random.Random(5)
    async with running(directory, 400 * KIB) as tier:

        async def use(number: int) -> None:
            with trio.move_on_after(chance.uniform(0, 0.02)):
                for _ in range(20):
                    key = (KEY, OTHER)[chance.randrange(2)]
                    which = chance.randrange(40)
                    await tier.queue.room()
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
        assert not tier._reads_under_way
        assert tier.queue.next == tier.queue.current == Work()
        assert 0 < tier.size <= 400 * KIB
        assert tier._read_turns.borrowed_tokens == 0
    assert len(files(directory)) == len(rows(directory))


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


async def test_a_look_up_that_fails_is_not_remembered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory)
    async with running(directory) as tier:
        with monkeypatch.context() as patch:
            for name in ("digests", "series_digests"):
                patch.setattr(disk_index.DiskIndex, name, lambda *_: raise_(MemoryError()))
            assert await kept(tier, KEY, 8) == []
        assert await kept(tier, KEY, 8) == list(range(8))


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
    monkeypatch.setattr(patience, "_PATIENCE_SECONDS", 1.0)

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

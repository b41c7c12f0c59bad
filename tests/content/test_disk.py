"""The disk tier: what it keeps is right or absent."""

from __future__ import annotations

import math
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from idcfs.content import block_files
from idcfs.content.block_files import HEADER_BYTES
from idcfs.content.blocks import Key
from idcfs.content.disk_store import BlockStore
from idcfs.errors import Damaged
from idcfs.settings import MIB
from tests.content.on_disk import (
    DATA,
    KEY,
    OTHER,
    block,
    files,
    filled,
    kept,
    opened,
    raise_,
    rows,
    running,
    settled,
    slow_reads,
    slow_writes,
)

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
        while not tier.queue.current.blocks:
            await trio.lowlevel.checkpoint()
        assert tier.has(KEY, 0)
        assert await tier.get(KEY, 0) is DATA
        go_on.set()
        await settled(tier)
        assert await tier.get(KEY, 0) == DATA
        assert await tier.get(KEY, 0) is not DATA


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
            await tier.queue.room()
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
        while not tier.queue.current.blocks:
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
            while not tier._reads_under_way:
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
            assert tier.queue.next.drops == {KEY}
            tier._known.clear()  # as when thousands of others have been looked at
            assert await kept(tier, KEY, 8) == []
            nursery.cancel_scope.cancel()
    tier.close()
    assert files(directory) == rows(directory) == []

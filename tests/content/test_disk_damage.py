"""The disk tier: whatever has happened to its files, a miss and never a wrong byte."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from idcfs.content import disk_index, disk_store
from idcfs.content.block_files import HEADER_BYTES, name_of
from idcfs.content.disk_store import BlockStore
from idcfs.content.disk_work import Work
from tests.content.damaging import DAMAGES, cut
from tests.content.on_disk import (
    DATA,
    KEY,
    OTHER,
    PLENTY,
    block,
    file_of,
    files,
    filled,
    kept,
    messages,
    rows,
    running,
    settled,
)
from tests.damaged_sqlite import execute, pages_inside

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

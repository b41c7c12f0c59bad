"""The disk tier: how much it takes, and that to have no place is never a reason to fail."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
import trio

from idcfs.content import amounts, block_files, disk_index, disk_store, upkeep
from idcfs.content.block_files import NewBlock
from idcfs.errors import UsageError
from idcfs.settings import KIB, MIB
from tests.content.on_disk import KEY, OTHER, block, files, filled, kept, messages, opened, rows, running, settled
from tests.small_disk import small_disk
from tests.unprivileged import only_root

ROOT_MOUNTS = only_root("mounts a filesystem of its own")


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


# --- no place --------------------------------------------------------------------------------------------------------


@ROOT_MOUNTS
async def test_some_of_the_disk_is_left_to_others(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20 * MIB) as disk:
        async with running(disk / "blocks") as tier:
            for number in range(30):
                tier.put(KEY, number, block(number, MIB))
                await tier.queue.room()
            await settled(tier)
            found = [number for number in range(30) if await tier.get(KEY, number) == block(number, MIB)]
            assert found == list(range(30 - len(found), 30))
            assert 15 <= len(found) <= 18
            free = os.statvfs(disk)
            assert free.f_bavail >= free.f_blocks * 0.05 - 64  # its log has grown since
            (disk / "of the user").write_bytes(bytes(free.f_bavail * free.f_frsize - 256 * KIB))
            tier.put(KEY, 40, block(40, MIB))
            await settled(tier)
            free = os.statvfs(disk)
            assert free.f_bavail >= free.f_blocks * 0.05 - 64
            assert await tier.get(KEY, 40) == block(40, MIB)


@ROOT_MOUNTS
@pytest.mark.parametrize("is_foreseen", [True, False])
async def test_on_a_full_disk_nothing_fails_and_one_warning_says_so(
    tmp_path: Path, is_foreseen: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not is_foreseen:
        monkeypatch.setattr(amounts, "FREE_SHARE", -100.0)
    with small_disk(tmp_path / "disk", 20 * MIB) as disk:
        filler = disk / "of the user"
        async with running(disk / "blocks") as tier:
            for number in range(0 if is_foreseen else 3):  # what is there could give way to what comes
                tier.put(KEY, number, block(number, MIB))
            await settled(tier)
            for times in (1, 2):
                filler.write_bytes(bytes(16 * MIB if is_foreseen else 15 * MIB))
                with contextlib.suppress(OSError), filler.open("ab") as file:
                    file.write(bytes(4 * MIB))
                for number in range(10, 20):
                    tier.put(KEY, number, block(number, MIB))
                    await tier.queue.room()
                    await settled(tier)
                if not is_foreseen:
                    assert [await tier.get(KEY, number) == block(number, MIB) for number in range(3)] == [True] * 3
                assert await tier.get(KEY, 19) is None
                assert len(messages(caplog)) == times
                assert "not kept on disk" in messages(caplog)[-1]
                filler.unlink()
                tier.put(KEY, 30 + times, block(30 + times, MIB))
                await settled(tier)
                assert await tier.get(KEY, 30 + times) == block(30 + times, MIB)
            assert not list((disk / "blocks" / "tmp").iterdir())
            assert {file.name for file in files(disk / "blocks")} <= {
                bytes(name).hex() for (name,) in rows(disk / "blocks")
            }


async def unusable(directory: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The one warning of a tier that can do nothing."""
    async with running(directory) as tier:
        for number in range(40):
            tier.put(KEY, number, block(0, MIB))
            await tier.queue.room()
        tier.drop(KEY)
        assert not tier.has(KEY, 0)
        assert await tier.get(KEY, 0) is None
        assert tier.size == 0
    (message,) = messages(caplog)
    assert f"{directory} cannot be used" in message
    return message


@ROOT_MOUNTS
async def test_a_read_only_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 20 * MIB) as disk:
        filled(disk / "blocks")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)  # noqa: ASYNC221
        await unusable(disk / "blocks", caplog)
        assert len(files(disk / "blocks")) == 8


@ROOT_MOUNTS
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


@pytest.mark.parametrize("size", [0, 1, 4_039, 4_040, 4_041, MIB - 1, MIB, MIB + 1, 3 * MIB + 5_000])
def test_what_an_instance_takes_on_disk_is_what_its_blocks_take(size: int) -> None:
    blocks = [NewBlock.of(KEY, 0, bytes(min(MIB, size - at))) for at in range(0, size, MIB)]
    assert block_files.disk_bytes(size) == sum(block.disk_bytes for block in blocks)

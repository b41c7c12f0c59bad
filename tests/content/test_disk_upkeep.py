"""What is on disk is shown, checked and removed, also under a running mount."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from idcfs.content import block_files, disk_directory, disk_index, upkeep
from idcfs.content.disk_directory import temporary_path
from idcfs.errors import UsageError
from idcfs.locks import locked
from idcfs.settings import KIB
from tests.content.damaging import DAMAGES, cut
from tests.content.on_disk import DATA, KEY, OTHER, block, file_of, files, filled, kept, rows, running, settled
from tests.damaged_sqlite import execute, garbage


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
    leftover = temporary_path(directory, bytes(16), "0123456789abcdef")
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

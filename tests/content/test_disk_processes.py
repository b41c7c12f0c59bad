"""The disk tier: starting, and several processes over one directory, killed ones among them."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from idcfs.content import block_files, disk, upkeep
from idcfs.content.blocks import Key
from idcfs.content.disk_directory import temporary_path
from idcfs.content.disk_store import BlockStore
from idcfs.content.disk_work import Work
from idcfs.settings import KIB
from tests.content.on_disk import (
    DATA,
    KEY,
    OTHER,
    PLENTY,
    block,
    files,
    filled,
    messages,
    opened,
    rows,
    running,
    settled,
)

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
    old, new = (temporary_path(directory, bytes(16), token) for token in ("0123456789abcdef", "fedcba9876543210"))
    theirs = directory / "tmp" / "old"
    for file, age_seconds in ((old, 700), (new, 500), (theirs, 700)):
        file.write_bytes(DATA)
        os.utime(file, (time.time() - age_seconds,) * 2)
    opened(directory).close()
    assert (old.exists(), new.exists(), theirs.exists()) == (False, True, True)


def test_nothing_is_removed_of_what_links_in_the_directory_lead_to(directory: Path, tmp_path: Path) -> None:
    filled(directory)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    theirs = [elsewhere / f"{'ab' * 16}-{'0' * 16}", elsewhere / ("ab" * 16)]
    for file in theirs:
        file.write_bytes(DATA)
        os.utime(file, (0, 0))
    free = next(name for name in ("00", "01", "02") if not (directory / name).exists())
    (directory / "tmp").rmdir()
    for link in (directory / "tmp", directory / free):
        link.symlink_to(elsewhere)
    opened(directory).close()
    assert upkeep.verify(directory).orphans == 0
    upkeep.clear(directory)
    assert {file.parent.name for file in files(directory)} == {free}
    assert all(file.read_bytes() == DATA for file in theirs)
    filled(directory)  # "tmp" is a directory again


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
            await tier.queue.room()
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
import os, pathlib, random, signal, sys
import trio
from idcfs.content import upkeep
from idcfs.content.disk import DiskTier
from idcfs.stats import Stats

directory = pathlib.Path(sys.argv[1])


async def mount(number, rounds, working=None):
    tier = DiskTier(directory, 2_000_000, Stats())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        chance = random.Random(number)
        for count in range(rounds):
            key, block = ("content", str(chance.randrange(20))), chance.randrange(15)
            await tier.queue.room()
            data = random.Random(f"{key} {block}").randbytes(10_000)
            assert await tier.get(key, block) in (None, data)
            tier.put(key, block, data)
            if count % 100 == 3:
                upkeep.info(directory)  # opens and closes the index in this process too
            if count == 200 and working is not None:
                os.write(working, b"x")
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
    reading, writing = os.pipe()
    killed = started(trio.run, mount, number + 50, 10**9, writing)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
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

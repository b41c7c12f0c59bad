"""The memory of sizes: right or absent, whatever happens to its file, and never a reason to fail."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.namespace.sizes import SizeStore
from tests.namespace.making import encodable_text, hostile, patient

texts = hostile(encodable_text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sizes.sqlite"


def filled(path: Path, count: int = 3_000) -> None:
    """Sizes on several pages of ``path``."""
    store = SizeStore(path)
    for number in range(count):
        store.remember(f"content-{number % 10}", f"1.2.{number}", number)
    store.close()


def loaded(store: SizeStore, content: str) -> dict[str, int]:
    return trio.run(store.load, content)


def at_next_start(path: Path, content: str) -> dict[str, int]:
    store = SizeStore(path)
    try:
        return loaded(store, content)
    finally:
        store.close()


@settings(patient, max_examples=25)
@given(st.dictionaries(st.tuples(texts, texts), st.integers(1, 2**63 - 1), max_size=8))
def test_what_was_remembered_is_known_at_the_next_start(
    tmp_path_factory: pytest.TempPathFactory, sizes: dict[tuple[str, str], int]
) -> None:
    path = tmp_path_factory.mktemp("sizes") / "sizes.sqlite"
    store = SizeStore(path)
    for (content, uid), size in sizes.items():
        store.remember(content, uid, size)
    store.close()
    for content, _ in sizes:
        wanted = {uid: size for (key, uid), size in sizes.items() if key == content}
        assert at_next_start(path, content) == wanted


def test_a_size_is_known_before_it_is_written(path: Path) -> None:
    store = SizeStore(path)
    store.remember("content", "1.2", 7)
    assert loaded(store, "content") == {"1.2": 7}
    assert loaded(store, "other") == {}
    assert at_next_start(path, "content") == {}
    store.close()
    assert at_next_start(path, "content") == {"1.2": 7}


def test_the_last_word_counts(path: Path) -> None:
    filled(path)
    store = SizeStore(path)
    store.remember("content-1", "1.2.1", 5)
    store.remember("content-1", "1.2.1", 6)
    assert loaded(store, "content-1")["1.2.1"] == 6
    store.close()
    assert at_next_start(path, "content-1")["1.2.1"] == 6


async def written(reader: SizeStore, content: str, wanted: dict[str, int]) -> None:
    """Returns once ``reader`` sees ``wanted``."""
    while await reader.load(content) != wanted:  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_two_mounts_share_one_file_while_both_run(path: Path) -> None:
    one, other = SizeStore(path), SizeStore(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(other.run)
        for number in range(50):
            one.remember("content", f"1.{number}", 1 + number)
            other.remember("content", f"2.{number}", 1 + number)
        wanted = {f"{mount}.{number}": 1 + number for mount in (1, 2) for number in range(50)}
        await written(one, "content", wanted)
        await written(other, "content", wanted)
        one.remember("content", "later", 1)  # after the first flush comes another
        await written(other, "content", wanted | {"later": 1})
        nursery.cancel_scope.cancel()
    one.close()
    other.close()


KILLED = """
import os, pathlib, random, signal, sys, time
import trio
import trio.testing
from idcfs.namespace import sizes

sizes._FLUSH_SECONDS = 0
path = pathlib.Path(sys.argv[1])


async def mount(number, written):
    store = sizes.SizeStore(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        for uid in range(10**9):
            store.remember(f"content-{number}", str(uid), uid * 7)
            await trio.sleep(0)
            if uid == 1000:
                os.write(written, b"x")


for number in range(15):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        trio.run(mount, number, writing)
    os.read(reading, 1)
    time.sleep(random.Random(number).uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_a_mount_that_is_killed_leaves_right_sizes_or_none(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path], check=True, timeout=100)
    store = SizeStore(path)
    found = [loaded(store, f"content-{number}") for number in range(15)]
    assert any(found)
    assert all(size == int(uid) * 7 for sizes in found for uid, size in sizes.items())
    store.remember("content", "1.2", 7)
    store.close()
    assert at_next_start(path, "content") == {"1.2": 7}
    assert caplog.records == []


# --- damage ----------------------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1_000)


def torn_header(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)


def garbage_beside_an_old_log(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"\xff" * 5_000)
    Path(f"{path}-shm").write_bytes(b"\xff" * 5_000)
    garbage(path)


def pages_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096])


DAMAGES = [garbage, torn_header, garbage_beside_an_old_log, pages_inside, cut_off]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_damaged_file_is_started_anew_with_one_warning(
    damage: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    damage(path)
    store = SizeStore(path)
    assert loaded(store, "content-1") == {}
    store.remember("content-1", "1.2", 7)
    assert loaded(store, "content-1") == {"1.2": 7}
    store.close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path} is damaged" in record.getMessage()
    assert at_next_start(path, "content-1") == {"1.2": 7}
    assert len(caplog.records) == 1


def test_a_file_damaged_under_a_running_mount_is_started_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    store = SizeStore(path)
    pages_inside(path)
    store.remember("content-1", "1.2", 7)
    assert loaded(store, "content-1") == {"1.2": 7}
    store.close()
    assert len(caplog.records) == 1
    assert at_next_start(path, "content-1") == {"1.2": 7}


# --- no place --------------------------------------------------------------------------------------------------------


async def test_without_a_place_sizes_stay_in_memory_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    store = SizeStore(Path("/proc/sizes.sqlite"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        for number in range(3):
            store.remember("content", str(number), number)
            await trio.sleep(10)
        assert await store.load("content") == {"0": 0, "1": 1, "2": 2}
        nursery.cancel_scope.cancel()
    store.close()
    (record,) = caplog.records
    assert "/proc/sizes.sqlite cannot be used" in record.getMessage()
    assert "in memory only" in record.getMessage()


FULL = """
import logging, pathlib, resource, sys
import trio
import trio.testing
from idcfs.namespace import sizes

logging.basicConfig(stream=sys.stdout, format="%(message)s")
sizes._FLUSH_SECONDS = 0
store = sizes.SizeStore(pathlib.Path(sys.argv[1]))
store.remember("content", "early", 1)


async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        while store._pending:
            await trio.sleep(0.01)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))
        for _ in range(3):
            store.remember("content", "late", 2)
            await trio.sleep(0.05)
        assert await store.load("content") == {"early": 1, "late": 2}, await store.load("content")
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        nursery.cancel_scope.cancel()


trio.run(main)
store.close()
"""


def test_on_a_full_disk_sizes_stay_in_memory_until_there_is_room(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert f"{path} cannot be used" in done.stdout
    assert at_next_start(path, "content") == {"early": 1, "late": 2}


def test_another_mount_that_writes_is_no_reason_to_remove_the_file(path: Path) -> None:
    filled(path)
    writer = SizeStore(path)
    assert writer._connection is not None
    writer._connection.execute("BEGIN IMMEDIATE")
    store = SizeStore(path)
    assert loaded(store, "content-1")["1.2.1"] == 1
    store._connection.execute("PRAGMA busy_timeout = 0") if store._connection else None
    store.remember("content-1", "1.2", 7)
    assert not store._insert(store._pending)
    writer._connection.execute("ROLLBACK")
    writer.close()
    store.close()
    sizes = at_next_start(path, "content-1")
    assert (sizes["1.2.1"], sizes["1.2"]) == (1, 7)


def test_a_size_that_no_file_has_is_not_remembered(path: Path) -> None:
    store = SizeStore(path)
    store.remember("content", "1.2", 2**63)
    store.remember("content", "1.3", 2**63 - 1)
    store.close()
    assert at_next_start(path, "content") == {"1.3": 2**63 - 1}


def test_a_forgotten_size_is_forgotten_at_the_next_start_too(path: Path) -> None:
    store = SizeStore(path)
    store.remember("content", "1.2", 10)
    store.remember("content", "1.3", 11)
    store.close()
    store = SizeStore(path)
    store.forget("content", "1.2")
    assert loaded(store, "content") == {"1.3": 11}
    store.close()
    assert at_next_start(path, "content") == {"1.3": 11}


@pytest.mark.parametrize("value", [0, -5, "abc", 3.5, None, b"10"])
def test_what_is_no_size_is_not_taken_for_one(path: Path, value: object) -> None:
    SizeStore(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE size")
        connection.execute("CREATE TABLE size (content TEXT, instance TEXT, bytes)")
        connection.execute("INSERT INTO size VALUES ('content', '1.2', ?)", (value,))
    assert at_next_start(path, "content") == {}

"""The memory of lists and sizes: right or absent, and never a reason to fail."""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs import patience
from idcfs.errors import IdcfsError
from idcfs.namespace import store as stores
from idcfs.namespace.store import Kept, SeriesStore, StoreInfo, clear, info
from tests.namespace.making import patient
from tests.namespace.storing import at_next_start, filled, kept_at_next_start, list_at_next_start, loaded, texts, until


async def test_a_disk_that_hangs_is_not_asked_again(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "_PATIENCE_SECONDS", 0.2)
    gate = threading.Event()
    store = SeriesStore(store_path)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(SeriesStore, "_read", lambda *_: gate.wait())
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(store.load, "content")
                store.remember_size("content", "1.2", 3)
                assert await store.load("content") == Kept(None, {"1.2": 3})
                assert not await store.sync()
    finally:
        gate.set()
        store.close()
    assert caplog.text.count("does not answer") == 1


async def test_sync_writes_at_once(store_path: Path) -> None:
    store = SeriesStore(store_path)
    store.remember_size("content", "1.2", 3)
    store.remember_list("content", ["1.2"])
    await store.sync()
    assert (info(store_path).sizes, info(store_path).lists) == (1, 1)
    store.close()


@settings(patient, max_examples=25)
@given(st.dictionaries(st.tuples(texts, texts), st.integers(1, 2**63 - 1), max_size=8))
def test_what_was_remembered_is_known_at_the_next_start(
    tmp_path_factory: pytest.TempPathFactory, sizes: dict[tuple[str, str], int]
) -> None:
    store_path = tmp_path_factory.mktemp("store") / "series.sqlite"
    store = SeriesStore(store_path)
    for (content, uid), size in sizes.items():
        store.remember_size(content, uid, size)
    store.close()
    for content, _ in sizes:
        wanted = {uid: size for (key, uid), size in sizes.items() if key == content}
        assert at_next_start(store_path, content) == wanted


def test_a_size_is_known_before_it_is_written(store_path: Path) -> None:
    store = SeriesStore(store_path)
    store.remember_size("content", "1.2", 7)
    assert loaded(store, "content") == Kept(None, {"1.2": 7})
    assert loaded(store, "other") == Kept(None, {})
    assert at_next_start(store_path, "content") == {}
    store.close()
    assert at_next_start(store_path, "content") == {"1.2": 7}


def test_the_last_word_counts(store_path: Path) -> None:
    filled(store_path)
    store = SeriesStore(store_path)
    store.remember_size("content-1", "1.2.1", 5)
    store.remember_size("content-1", "1.2.1", 6)
    assert loaded(store, "content-1").sizes["1.2.1"] == 6
    store.close()
    assert at_next_start(store_path, "content-1")["1.2.1"] == 6


async def written(reader: SeriesStore, content: str, wanted: dict[str, int]) -> None:
    """Returns once ``reader`` sees ``wanted``."""
    await until(lambda kept: kept.sizes == wanted, reader, content)


async def test_a_round_that_fails_unexpectedly_ends_neither_the_mount_nor_the_rounds_after_it(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "_FLUSH_SECONDS", 0)
    store = SeriesStore(store_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        store.remember_size("content", "\ud800", 1)  # which SQLite cannot take, nor could in the next round
        await until(lambda _: bool(caplog.records), store, "content")
        store.remember_list("content", ["1.3"])
        store.remember_size("content", "1.3", 7)
        await until(lambda _: not (store._lists or store._sizes), store, "content")
        nursery.cancel_scope.cancel()
    store.close()
    (record,) = caplog.records
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)
    assert f"{store_path}: what was learnt last is not kept: this is a bug" in record.getMessage()
    again = SeriesStore(store_path)
    assert await again.load("content") == Kept(("1.3",), {"1.3": 7})
    again.close()


async def test_sync_does_not_say_that_what_it_threw_away_is_written(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SeriesStore(store_path)
    write = store._write
    monkeypatch.setattr(store, "_write", lambda *_: 1 / 0)
    store.remember_size("content", "1.2", 7)
    assert not await store.sync()
    monkeypatch.setattr(store, "_write", write)
    assert await store.sync()  # nothing is left
    store.close()
    (record,) = caplog.records
    assert "this is a bug" in record.getMessage()
    again = SeriesStore(store_path)
    assert await again.load("content") == Kept(None, {})
    again.close()


async def test_two_mounts_share_one_file_while_both_run(store_path: Path) -> None:
    one, other = SeriesStore(store_path), SeriesStore(store_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(other.run)
        for number in range(50):
            one.remember_size("content", f"1.{number}", 1 + number)
            other.remember_size("content", f"2.{number}", 1 + number)
        wanted = {f"{mount}.{number}": 1 + number for mount in (1, 2) for number in range(50)}
        await written(one, "content", wanted)
        await written(other, "content", wanted)
        one.remember_size("content", "later", 1)  # after the first flush comes another
        await written(other, "content", wanted | {"later": 1})
        nursery.cancel_scope.cancel()
    one.close()
    other.close()


KILLED = """
import os, pathlib, random, signal, sys, time
import trio
import trio.testing
from idcfs.namespace import store as stores

stores._FLUSH_SECONDS = 0
store_path = pathlib.Path(sys.argv[1])


async def mount(number, written):
    store = stores.SeriesStore(store_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        for uid in range(10**9):
            store.remember_size(f"content-{number}", str(uid), uid * 7)
            store.remember_list(f"content-{number}", map(str, range(uid % 100)))
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


def test_a_mount_that_is_killed_leaves_what_is_right_or_nothing(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run([sys.executable, "-c", KILLED, store_path], check=True, timeout=100)
    store = SeriesStore(store_path)
    found = [loaded(store, f"content-{number}") for number in range(15)]
    assert any(kept.sizes for kept in found)
    assert all(size == int(uid) * 7 for kept in found for uid, size in kept.sizes.items())
    assert any(kept.uids for kept in found)
    assert all(kept.uids == tuple(map(str, range(len(kept.uids)))) for kept in found if kept.uids)
    store.remember_size("content", "1.2", 7)
    store.close()
    assert at_next_start(store_path, "content") == {"1.2": 7}
    assert caplog.records == []


# --- no place --------------------------------------------------------------------------------------------------------


async def test_without_a_place_lists_and_sizes_stay_in_memory_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(patience, "_PATIENCE_SECONDS", math.inf)  # the clock does not see that a thread is writing
    store = SeriesStore(Path("/proc/series.sqlite"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        for number in range(3):
            store.remember_size("content", str(number), number)
            store.remember_list("content", map(str, range(number)))
            await trio.sleep(10)
        assert await store.load("content") == Kept(("0", "1"), {"0": 0, "1": 1, "2": 2})
        nursery.cancel_scope.cancel()
    store.close()
    (record,) = caplog.records
    assert "/proc/series.sqlite cannot be used" in record.getMessage()
    assert "in memory only" in record.getMessage()


FULL = """
import logging, pathlib, resource, sys
import trio
import trio.testing
from idcfs.namespace import store as stores

logging.basicConfig(stream=sys.stdout, format="%(message)s")
stores._FLUSH_SECONDS = 0
store = stores.SeriesStore(pathlib.Path(sys.argv[1]))
store.remember_size("content", "early", 1)
store.remember_list("early", ["1"])


async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        while store._sizes or store._lists:
            await trio.sleep(0.01)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))
        for _ in range(3):
            store.remember_size("content", "late", 2)
            store.remember_list("late", ["2"])
            await trio.sleep(0.05)
        assert (await store.load("content")).sizes == {"early": 1, "late": 2}, await store.load("content")
        assert [(await store.load(name)).uids for name in ("early", "late")] == [("1",), ("2",)]
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        nursery.cancel_scope.cancel()


trio.run(main)
store.close()
"""


def test_on_a_full_disk_lists_and_sizes_stay_in_memory_until_there_is_room(store_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, store_path], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert f"{store_path} cannot be used" in done.stdout
    assert at_next_start(store_path, "content") == {"early": 1, "late": 2}
    assert [list_at_next_start(store_path, name) for name in ("early", "late")] == [("1",), ("2",)]


def test_another_mount_that_writes_is_no_reason_to_remove_the_file(store_path: Path) -> None:
    filled(store_path)
    writer = SeriesStore(store_path)
    assert writer._connection is not None
    writer._connection.execute("BEGIN IMMEDIATE")
    store = SeriesStore(store_path)
    assert loaded(store, "content-1").sizes["1.2.1"] == 1
    store._connection.execute("PRAGMA busy_timeout = 0") if store._connection else None
    store.remember_size("content-1", "1.2", 7)
    store.remember_list("content-1", ["1.2"])
    assert not store._write(store._sizes, store._lists)
    writer._connection.execute("ROLLBACK")
    writer.close()
    store.close()
    uids, sizes = kept_at_next_start(store_path, "content-1")
    assert (sizes["1.2.1"], sizes["1.2"], uids) == (1, 7, ("1.2",))


def test_a_size_that_no_file_has_is_not_remembered(store_path: Path) -> None:
    store = SeriesStore(store_path)
    store.remember_size("content", "1.2", 2**63)
    store.remember_size("content", "1.3", 2**63 - 1)
    store.close()
    assert at_next_start(store_path, "content") == {"1.3": 2**63 - 1}


def test_a_forgotten_size_is_forgotten_at_the_next_start_too(store_path: Path) -> None:
    store = SeriesStore(store_path)
    store.remember_size("content", "1.2", 10)
    store.remember_size("content", "1.3", 11)
    store.close()
    store = SeriesStore(store_path)
    store.forget_size("content", "1.2")
    assert loaded(store, "content").sizes == {"1.3": 11}
    store.close()
    assert at_next_start(store_path, "content") == {"1.3": 11}


@pytest.mark.parametrize("value", [0, -5, "abc", 3.5, None, b"10"])
def test_what_is_no_size_is_not_taken_for_one(store_path: Path, value: object) -> None:
    SeriesStore(store_path).close()
    with contextlib.closing(sqlite3.connect(store_path)) as connection, connection:
        connection.execute("DROP TABLE size")
        connection.execute("CREATE TABLE size (content TEXT, instance TEXT, bytes)")
        connection.execute("INSERT INTO size VALUES ('content', '1.2', ?)", (value,))
    assert at_next_start(store_path, "content") == {}


# --- from outside ----------------------------------------------------------------------------------------------------


def test_what_is_kept_can_be_counted_and_cleared(store_path: Path) -> None:
    assert info(store_path) == clear(store_path) == StoreInfo(0, 0, 0)
    assert not store_path.exists()
    filled(store_path)
    assert info(store_path) == StoreInfo(10, 3_000, store_path.stat().st_size)
    held = info(store_path)
    assert clear(store_path) == held
    assert (info(store_path).lists, info(store_path).sizes) == (0, 0)
    assert info(store_path).bytes < held.bytes / 3
    assert kept_at_next_start(store_path, "content-1") == Kept(None, {})


def test_a_store_can_be_counted_and_cleared_while_mounts_use_it(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(store_path)
    one, other = SeriesStore(store_path), SeriesStore(store_path)
    assert len(loaded(one, "content-1").sizes) == 300
    one.remember_size("content-1", "1.2", 7)
    assert one._write(one._sizes, one._lists)
    assert info(store_path)[:2] == (10, 3_001)
    held = clear(store_path)
    assert held[:2] == (10, 3_001)
    assert info(store_path).bytes < held.bytes
    other.remember_list("content-1", ["1.2"])
    assert other._write(other._sizes, other._lists)
    assert loaded(other, "content-1").uids == ("1.2",)
    one.close()
    other.close()
    assert kept_at_next_start(store_path, "content-1") == Kept(
        ("1.2",), {"1.2": 7}
    )  # what a mount knows it may write again
    assert caplog.records == []


def test_a_store_that_another_mount_is_writing_is_not_cleared_by_force(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_BUSY_SECONDS", 0.1)
    filled(store_path)
    writer = SeriesStore(store_path)
    assert writer._connection is not None
    writer._connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(IdcfsError, match=r"series\.sqlite cannot be cleared: database is locked"):
        clear(store_path)
    writer._connection.execute("ROLLBACK")
    writer.close()
    assert info(store_path)[:2] == (10, 3_000)

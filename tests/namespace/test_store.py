"""The memory of lists and sizes: right or absent, whatever happens to its file, and never a reason to fail."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.errors import IdcfsError
from idcfs.namespace import store as stores
from idcfs.namespace.store import Kept, SeriesStore, StoreInfo, clear, info
from tests.namespace.making import any_text, encodable_text, hostile, patient

texts = hostile(encodable_text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "series.sqlite"


def filled(path: Path, count: int = 3_000) -> None:
    """Sizes and lists on several pages of ``path``."""
    store = SeriesStore(path)
    for number in range(count):
        store.remember_size(f"content-{number % 10}", f"1.2.{number}", number)
    for number in range(10):
        store.remember_list(f"content-{number}", [f"1.2.{uid}" for uid in range(number, count, 10)])
    store.close()


async def test_a_disk_that_hangs_is_not_asked_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "_PATIENCE_SECONDS", 0.2)
    gate = threading.Event()
    store = SeriesStore(path)
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


async def test_sync_writes_at_once(path: Path) -> None:
    store = SeriesStore(path)
    store.remember_size("content", "1.2", 3)
    store.remember_list("content", ["1.2"])
    await store.sync()
    assert (info(path).sizes, info(path).lists) == (1, 1)
    store.close()


def loaded(store: SeriesStore, content: str) -> Kept:
    return trio.run(store.load, content)


def kept_at_next_start(path: Path, content: str) -> Kept:
    store = SeriesStore(path)
    try:
        return loaded(store, content)
    finally:
        store.close()


def at_next_start(path: Path, content: str) -> dict[str, int]:
    return kept_at_next_start(path, content).sizes


def list_at_next_start(path: Path, content: str) -> tuple[str, ...] | None:
    return kept_at_next_start(path, content).uids


@settings(patient, max_examples=25)
@given(st.dictionaries(st.tuples(texts, texts), st.integers(1, 2**63 - 1), max_size=8))
def test_what_was_remembered_is_known_at_the_next_start(
    tmp_path_factory: pytest.TempPathFactory, sizes: dict[tuple[str, str], int]
) -> None:
    path = tmp_path_factory.mktemp("store") / "series.sqlite"
    store = SeriesStore(path)
    for (content, uid), size in sizes.items():
        store.remember_size(content, uid, size)
    store.close()
    for content, _ in sizes:
        wanted = {uid: size for (key, uid), size in sizes.items() if key == content}
        assert at_next_start(path, content) == wanted


def test_a_size_is_known_before_it_is_written(path: Path) -> None:
    store = SeriesStore(path)
    store.remember_size("content", "1.2", 7)
    assert loaded(store, "content") == Kept(None, {"1.2": 7})
    assert loaded(store, "other") == Kept(None, {})
    assert at_next_start(path, "content") == {}
    store.close()
    assert at_next_start(path, "content") == {"1.2": 7}


def test_the_last_word_counts(path: Path) -> None:
    filled(path)
    store = SeriesStore(path)
    store.remember_size("content-1", "1.2.1", 5)
    store.remember_size("content-1", "1.2.1", 6)
    assert loaded(store, "content-1").sizes["1.2.1"] == 6
    store.close()
    assert at_next_start(path, "content-1")["1.2.1"] == 6


async def written(reader: SeriesStore, content: str, wanted: dict[str, int]) -> None:
    """Returns once ``reader`` sees ``wanted``."""
    await until(lambda kept: kept.sizes == wanted, reader, content)


async def until(condition: Callable[[Kept], bool], store: SeriesStore, content: str) -> None:
    while not condition(await store.load(content)):  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_a_round_that_fails_unexpectedly_ends_neither_the_mount_nor_the_rounds_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "_FLUSH_SECONDS", 0)
    store = SeriesStore(path)
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
    assert f"{path}: what was learnt last is not kept: this is a bug" in record.getMessage()
    again = SeriesStore(path)
    assert await again.load("content") == Kept(("1.3",), {"1.3": 7})
    again.close()


async def test_two_mounts_share_one_file_while_both_run(path: Path) -> None:
    one, other = SeriesStore(path), SeriesStore(path)
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
path = pathlib.Path(sys.argv[1])


async def mount(number, written):
    store = stores.SeriesStore(path)
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


def test_a_mount_that_is_killed_leaves_what_is_right_or_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path], check=True, timeout=100)
    store = SeriesStore(path)
    found = [loaded(store, f"content-{number}") for number in range(15)]
    assert any(kept.sizes for kept in found)
    assert all(size == int(uid) * 7 for kept in found for uid, size in kept.sizes.items())
    assert any(kept.uids for kept in found)
    assert all(kept.uids == tuple(map(str, range(len(kept.uids)))) for kept in found if kept.uids)
    store.remember_size("content", "1.2", 7)
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
    store = SeriesStore(path)
    assert loaded(store, "content-1") == Kept(None, {})
    store.remember_size("content-1", "1.2", 7)
    store.remember_list("content-1", ["1.2"])
    assert loaded(store, "content-1") == Kept(("1.2",), {"1.2": 7})
    store.close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path} is damaged" in record.getMessage()
    assert kept_at_next_start(path, "content-1") == Kept(("1.2",), {"1.2": 7})
    assert len(caplog.records) == 1


def test_a_file_damaged_under_a_running_mount_is_started_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    store = SeriesStore(path)
    pages_inside(path)
    store.remember_size("content-1", "1.2", 7)
    assert loaded(store, "content-1") == Kept(None, {"1.2": 7})
    store.close()
    assert len(caplog.records) == 1
    assert at_next_start(path, "content-1") == {"1.2": 7}


def no_table(path: Path) -> None:
    execute(path, "DROP TABLE size")


def no_column(path: Path) -> None:
    execute(path, "ALTER TABLE listing DROP COLUMN instances")


def no_text(path: Path) -> None:
    execute(path, "INSERT INTO size VALUES ('content-1', CAST(x'ff' AS TEXT), 7)")


def execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize("damage", [no_table, no_column, no_text], ids=lambda damage: str(damage.__name__))
def test_a_file_whose_tables_are_not_what_they_were_is_damaged(
    damage: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    store = SeriesStore(path)
    damage(path)
    assert loaded(store, "content-1") == Kept(None, {})
    store.remember_size("content-1", "1.2", 7)
    store.remember_list("content-1", ["1.2"])
    store.close()
    (record,) = caplog.records
    assert f"{path} is damaged" in record.getMessage()
    assert kept_at_next_start(path, "content-1") == Kept(("1.2",), {"1.2": 7})


def test_a_damaged_file_is_removed_once_and_the_other_mounts_follow(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    one, other, third = (SeriesStore(path) for _ in range(3))
    pages_inside(path)
    assert loaded(one, "content-1") == Kept(None, {})
    one.remember_size("content-1", "1.2", 7)
    assert one._write(one._sizes, one._lists)
    assert loaded(other, "content-1").sizes == {"1.2": 7}
    other.remember_size("content-1", "1.3", 8)
    third.remember_size("content-1", "1.4", 9)  # without having looked
    for store in (other, third, one):
        store.close()
    assert len(caplog.records) == 1
    assert at_next_start(path, "content-1") == {"1.2": 7, "1.3": 8, "1.4": 9}


def test_a_damaged_file_that_another_mount_has_replaced_meanwhile_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    one, other = SeriesStore(path), SeriesStore(path)
    pages_inside(path)
    recover = other._recover

    def late(error: sqlite3.DatabaseError) -> None:  # between finding the damage and doing something about it
        one.remember_size("content-1", "1.2", 7)
        assert not one._write(one._sizes, one._lists)
        assert one._write(one._sizes, one._lists)
        recover(error)

    monkeypatch.setattr(other, "_recover", late)
    assert loaded(other, "content-1") == Kept(None, {})
    assert loaded(other, "content-1").sizes == {"1.2": 7}
    one.close()
    other.close()
    assert len(caplog.records) == 1
    assert at_next_start(path, "content-1") == {"1.2": 7}


def test_a_damaged_file_is_not_removed_while_another_mount_opens_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "_BUSY_SECONDS", 0.1)
    garbage(path)
    before = path.read_bytes()
    held = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        SeriesStore(path).close()
        with pytest.raises(IdcfsError, match=r"series\.sqlite cannot be cleared"):
            clear(path)
        assert info(path)[:2] == (0, 0)
    finally:
        os.close(held)
    assert path.read_bytes() == before
    (record,) = caplog.records
    assert f"{path} cannot be used" in record.getMessage()
    SeriesStore(path).close()
    assert f"{path} is damaged" in caplog.records[1].getMessage()


# --- no place --------------------------------------------------------------------------------------------------------


async def test_without_a_place_lists_and_sizes_stay_in_memory_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(stores, "_PATIENCE_SECONDS", math.inf)  # the clock does not see that a thread is writing
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


def test_on_a_full_disk_lists_and_sizes_stay_in_memory_until_there_is_room(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert f"{path} cannot be used" in done.stdout
    assert at_next_start(path, "content") == {"early": 1, "late": 2}
    assert [list_at_next_start(path, name) for name in ("early", "late")] == [("1",), ("2",)]


def test_another_mount_that_writes_is_no_reason_to_remove_the_file(path: Path) -> None:
    filled(path)
    writer = SeriesStore(path)
    assert writer._connection is not None
    writer._connection.execute("BEGIN IMMEDIATE")
    store = SeriesStore(path)
    assert loaded(store, "content-1").sizes["1.2.1"] == 1
    store._connection.execute("PRAGMA busy_timeout = 0") if store._connection else None
    store.remember_size("content-1", "1.2", 7)
    store.remember_list("content-1", ["1.2"])
    assert not store._write(store._sizes, store._lists)
    writer._connection.execute("ROLLBACK")
    writer.close()
    store.close()
    uids, sizes = kept_at_next_start(path, "content-1")
    assert (sizes["1.2.1"], sizes["1.2"], uids) == (1, 7, ("1.2",))


def test_a_size_that_no_file_has_is_not_remembered(path: Path) -> None:
    store = SeriesStore(path)
    store.remember_size("content", "1.2", 2**63)
    store.remember_size("content", "1.3", 2**63 - 1)
    store.close()
    assert at_next_start(path, "content") == {"1.3": 2**63 - 1}


def test_a_forgotten_size_is_forgotten_at_the_next_start_too(path: Path) -> None:
    store = SeriesStore(path)
    store.remember_size("content", "1.2", 10)
    store.remember_size("content", "1.3", 11)
    store.close()
    store = SeriesStore(path)
    store.forget_size("content", "1.2")
    assert loaded(store, "content").sizes == {"1.3": 11}
    store.close()
    assert at_next_start(path, "content") == {"1.3": 11}


@pytest.mark.parametrize("value", [0, -5, "abc", 3.5, None, b"10"])
def test_what_is_no_size_is_not_taken_for_one(path: Path, value: object) -> None:
    SeriesStore(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE size")
        connection.execute("CREATE TABLE size (content TEXT, instance TEXT, bytes)")
        connection.execute("INSERT INTO size VALUES ('content', '1.2', ?)", (value,))
    assert at_next_start(path, "content") == {}


# --- lists -----------------------------------------------------------------------------------------------------------


@settings(patient, max_examples=25)
@given(st.dictionaries(texts, st.lists(hostile(any_text), max_size=8, unique=True), max_size=4))
def test_a_list_that_was_remembered_is_the_same_at_the_next_start_or_none(
    tmp_path_factory: pytest.TempPathFactory, lists: dict[str, list[str]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "series.sqlite"
    store = SeriesStore(path)
    for content, uids in lists.items():
        store.remember_list(content, uids)
        assert loaded(store, content).uids == tuple(uids)
    store.close()
    for content, uids in lists.items():
        cut = any("\n" in uid for uid in uids)
        assert list_at_next_start(path, content) == (None if cut else tuple(uids))


def test_another_list_takes_the_place_of_the_one_before(path: Path) -> None:
    filled(path)
    for uids in (["1.2", "1.3"], ["1.3", "1.4"], []):
        store = SeriesStore(path)
        store.remember_list("content-1", uids)
        assert loaded(store, "content-1").uids == tuple(uids)
        store.close()
        assert list_at_next_start(path, "content-1") == tuple(uids)
    assert len(list_at_next_start(path, "content-2") or ()) == 300
    store = SeriesStore(path)
    store.remember_list("content-2", ["no\nUID"])  # cannot be kept; nor can what it replaces
    store.close()
    assert list_at_next_start(path, "content-2") is None


async def test_a_list_is_written_while_the_mount_runs_and_no_longer_held(path: Path) -> None:
    one, other = SeriesStore(path), SeriesStore(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        one.remember_list("content", ["1.2", "1.3"])
        await until(lambda kept: kept.uids == ("1.2", "1.3"), other, "content")
        await until(lambda _: not one._lists, one, "content")
        assert (await one.load("content")).uids == ("1.2", "1.3")
        one.remember_list("content", ["1.4"])
        assert (await one.load("content")).uids == ("1.4",)
        await until(lambda kept: kept.uids == ("1.4",), other, "content")
        nursery.cancel_scope.cancel()
    one.close()
    other.close()


async def test_the_largest_list_of_all_is_packed_and_unpacked_outside_the_event_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outside(work: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            threads.append(threading.current_thread())
            return work(*arguments)

        return checked

    threads: list[threading.Thread] = []
    monkeypatch.setattr(stores, "_packed", outside(stores._packed))
    monkeypatch.setattr(stores, "_unpacked", outside(stores._unpacked))
    uids = tuple(f"1.3.6.1.4.1.14519.5.2.1.{number * 7919 % 91_981}.{number**7}" for number in range(91_980))
    store = SeriesStore(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        store.remember_list("content", uids)
        assert (await store.load("content")).uids == uids
        await until(lambda _: not store._lists, store, "content")
        nursery.cancel_scope.cancel()
    assert (await store.load("content")).uids == uids
    store.close()
    assert len(threads) >= 3
    assert threading.main_thread() not in threads
    assert info(path).bytes < 24 * len(uids)


def test_lists_that_cannot_be_written_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_MAX_WAITING", 10)
    store = SeriesStore(Path("/proc/series.sqlite"))
    for number in range(5):
        store.remember_list(f"content-{number}", map(str, range(4)))
    assert [loaded(store, f"content-{number}").uids is not None for number in range(5)] == [False] * 3 + [True] * 2
    store.remember_list("content-3", map(str, range(5)))  # the youngest again
    store.remember_list("content-5", map(str, range(4)))
    assert [loaded(store, f"content-{number}").uids is not None for number in (3, 4, 5)] == [True, False, True]
    store.remember_list("huge", map(str, range(11)))
    assert loaded(store, "huge").uids is None


def change(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def packed(path: Path, content: str) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT uids FROM listing WHERE content = ?", (content,)).fetchone()
    assert isinstance(found, bytes)
    return found


@settings(patient, max_examples=50)
@given(st.data())
def test_a_damaged_list_is_not_kept_and_never_a_wrong_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("store") / "series.sqlite"
    filled(path, 100)
    whole = packed(path, "content-1")
    damaged = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    value = data.draw(st.sampled_from([bytes(damaged), whole[:place], whole + b"x", b"", "text", 7, whole.hex()]))
    change(path, "UPDATE listing SET uids = ? WHERE content = 'content-1'", value)
    assert kept_at_next_start(path, "content-1") == Kept(None, {f"1.2.{uid}": uid for uid in range(1, 100, 10)})
    assert len(list_at_next_start(path, "content-2") or ()) == 10


@pytest.mark.parametrize("instances", [0, 9, 11, -1, "10 or so", 10.5])
def test_a_list_that_is_not_as_long_as_it_was_is_not_kept(path: Path, instances: object) -> None:
    filled(path, 100)
    change(path, "UPDATE listing SET instances = ? WHERE content = 'content-1'", instances)
    assert list_at_next_start(path, "content-1") is None


def test_a_list_of_another_series_is_not_taken_for_this_one_s(path: Path) -> None:
    filled(path, 100)
    change(path, "UPDATE listing SET uids = ? WHERE content = 'content-1'", packed(path, "content-2"))
    assert list_at_next_start(path, "content-1") is None


# --- from outside ----------------------------------------------------------------------------------------------------


def test_what_is_kept_can_be_counted_and_cleared(path: Path) -> None:
    assert info(path) == clear(path) == StoreInfo(0, 0, 0)
    assert not path.exists()
    filled(path)
    assert info(path) == StoreInfo(10, 3_000, path.stat().st_size)
    held = info(path)
    assert clear(path) == held
    assert (info(path).lists, info(path).sizes) == (0, 0)
    assert info(path).bytes < held.bytes / 3
    assert kept_at_next_start(path, "content-1") == Kept(None, {})


def test_a_store_can_be_counted_and_cleared_while_mounts_use_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    one, other = SeriesStore(path), SeriesStore(path)
    assert len(loaded(one, "content-1").sizes) == 300
    one.remember_size("content-1", "1.2", 7)
    assert one._write(one._sizes, one._lists)
    assert info(path)[:2] == (10, 3_001)
    held = clear(path)
    assert held[:2] == (10, 3_001)
    assert info(path).bytes < held.bytes
    other.remember_list("content-1", ["1.2"])
    assert other._write(other._sizes, other._lists)
    assert loaded(other, "content-1").uids == ("1.2",)
    one.close()
    other.close()
    assert kept_at_next_start(path, "content-1") == Kept(("1.2",), {"1.2": 7})  # what a mount knows it may write again
    assert caplog.records == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_damaged_store_can_be_cleared(damage: Callable[[Path], None], path: Path) -> None:
    filled(path)
    damage(path)
    assert info(path)[:2] == (0, 0)
    clear(path)
    assert kept_at_next_start(path, "content-1") == Kept(None, {})


def test_a_store_that_another_mount_is_writing_is_not_cleared_by_force(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_BUSY_SECONDS", 0.1)
    filled(path)
    writer = SeriesStore(path)
    assert writer._connection is not None
    writer._connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(IdcfsError, match=r"series\.sqlite cannot be cleared: database is locked"):
        clear(path)
    writer._connection.execute("ROLLBACK")
    writer.close()
    assert info(path)[:2] == (10, 3_000)

"""The memory of lists: kept whole or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.namespace import store as stores
from idcfs.namespace.store import Kept, SeriesStore, info
from tests.namespace.making import any_text, hostile, patient
from tests.namespace.storing import filled, kept_at_next_start, list_at_next_start, loaded, texts, until


@settings(patient, max_examples=25)
@given(st.dictionaries(texts, st.lists(hostile(any_text), max_size=8, unique=True), max_size=4))
def test_a_list_that_was_remembered_is_the_same_at_the_next_start_or_none(
    tmp_path_factory: pytest.TempPathFactory, lists: dict[str, list[str]]
) -> None:
    store_path = tmp_path_factory.mktemp("store") / "series.sqlite"
    store = SeriesStore(store_path)
    for content, uids in lists.items():
        store.remember_list(content, uids)
        assert loaded(store, content).uids == tuple(uids)
    store.close()
    for content, uids in lists.items():
        cut = any("\n" in uid for uid in uids)
        assert list_at_next_start(store_path, content) == (None if cut else tuple(uids))


def test_another_list_takes_the_place_of_the_one_before(store_path: Path) -> None:
    filled(store_path)
    for uids in (["1.2", "1.3"], ["1.3", "1.4"], []):
        store = SeriesStore(store_path)
        store.remember_list("content-1", uids)
        assert loaded(store, "content-1").uids == tuple(uids)
        store.close()
        assert list_at_next_start(store_path, "content-1") == tuple(uids)
    assert len(list_at_next_start(store_path, "content-2") or ()) == 300
    store = SeriesStore(store_path)
    store.remember_list("content-2", ["no\nUID"])  # cannot be kept; nor can what it replaces
    store.close()
    assert list_at_next_start(store_path, "content-2") is None


async def test_a_list_is_written_while_the_mount_runs_and_no_longer_held(store_path: Path) -> None:
    one, other = SeriesStore(store_path), SeriesStore(store_path)
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
    store_path: Path, monkeypatch: pytest.MonkeyPatch
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
    store = SeriesStore(store_path)
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
    assert info(store_path).bytes < 24 * len(uids)


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


def change(store_path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(store_path)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def packed(store_path: Path, content: str) -> bytes:
    with contextlib.closing(sqlite3.connect(store_path)) as connection:
        (found,) = connection.execute("SELECT uids FROM listing WHERE content = ?", (content,)).fetchone()
    assert isinstance(found, bytes)
    return found


@settings(patient, max_examples=50)
@given(st.data())
def test_a_damaged_list_is_not_kept_and_never_a_wrong_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store_path = tmp_path_factory.mktemp("store") / "series.sqlite"
    filled(store_path, 100)
    whole = packed(store_path, "content-1")
    damaged = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    value = data.draw(st.sampled_from([bytes(damaged), whole[:place], whole + b"x", b"", "text", 7, whole.hex()]))
    change(store_path, "UPDATE listing SET uids = ? WHERE content = 'content-1'", value)
    assert kept_at_next_start(store_path, "content-1") == Kept(None, {f"1.2.{uid}": uid for uid in range(1, 100, 10)})
    assert len(list_at_next_start(store_path, "content-2") or ()) == 10


@pytest.mark.parametrize("instances", [0, 9, 11, -1, "10 or so", 10.5])
def test_a_list_that_is_not_as_long_as_it_was_is_not_kept(store_path: Path, instances: object) -> None:
    filled(store_path, 100)
    change(store_path, "UPDATE listing SET instances = ? WHERE content = 'content-1'", instances)
    assert list_at_next_start(store_path, "content-1") is None


def test_a_list_of_another_series_is_not_taken_for_this_one_s(store_path: Path) -> None:
    filled(store_path, 100)
    change(store_path, "UPDATE listing SET uids = ? WHERE content = 'content-1'", packed(store_path, "content-2"))
    assert list_at_next_start(store_path, "content-1") is None

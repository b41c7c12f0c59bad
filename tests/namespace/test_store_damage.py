"""The memory of lists and sizes: a file that is damaged is started anew, once, by whichever mount meets it."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from idcfs.errors import IdcfsError
from idcfs.namespace import store as stores
from idcfs.namespace.store import Kept, SeriesStore, clear, info
from tests.damaged_sqlite import DAMAGES, execute, garbage, pages_inside
from tests.namespace.storing import at_next_start, filled, kept_at_next_start, loaded


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_damaged_file_is_started_anew_with_one_warning(
    damage: Callable[[Path], None], store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(store_path)
    damage(store_path)
    store = SeriesStore(store_path)
    assert loaded(store, "content-1") == Kept(None, {})
    store.remember_size("content-1", "1.2", 7)
    store.remember_list("content-1", ["1.2"])
    assert loaded(store, "content-1") == Kept(("1.2",), {"1.2": 7})
    store.close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{store_path} is damaged" in record.getMessage()
    assert kept_at_next_start(store_path, "content-1") == Kept(("1.2",), {"1.2": 7})
    assert len(caplog.records) == 1


def test_a_file_damaged_under_a_running_mount_is_started_anew(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(store_path)
    store = SeriesStore(store_path)
    pages_inside(store_path)
    store.remember_size("content-1", "1.2", 7)
    assert loaded(store, "content-1") == Kept(None, {"1.2": 7})
    store.close()
    assert len(caplog.records) == 1
    assert at_next_start(store_path, "content-1") == {"1.2": 7}


def no_table(store_path: Path) -> None:
    execute(store_path, "DROP TABLE size")


def no_column(store_path: Path) -> None:
    execute(store_path, "ALTER TABLE listing DROP COLUMN instances")


def no_text(store_path: Path) -> None:
    execute(store_path, "INSERT INTO size VALUES ('content-1', CAST(x'ff' AS TEXT), 7)")


@pytest.mark.parametrize("damage", [no_table, no_column, no_text], ids=lambda damage: str(damage.__name__))
def test_a_file_whose_tables_are_not_what_they_were_is_damaged(
    damage: Callable[[Path], None], store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(store_path)
    store = SeriesStore(store_path)
    damage(store_path)
    assert loaded(store, "content-1") == Kept(None, {})
    store.remember_size("content-1", "1.2", 7)
    store.remember_list("content-1", ["1.2"])
    store.close()
    (record,) = caplog.records
    assert f"{store_path} is damaged" in record.getMessage()
    assert kept_at_next_start(store_path, "content-1") == Kept(("1.2",), {"1.2": 7})


def test_a_damaged_file_is_removed_once_and_the_other_mounts_follow(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(store_path)
    one, other, third = (SeriesStore(store_path) for _ in range(3))
    pages_inside(store_path)
    assert loaded(one, "content-1") == Kept(None, {})
    one.remember_size("content-1", "1.2", 7)
    assert one._write(one._sizes, one._lists)
    assert loaded(other, "content-1").sizes == {"1.2": 7}
    other.remember_size("content-1", "1.3", 8)
    third.remember_size("content-1", "1.4", 9)  # without having looked
    for store in (other, third, one):
        store.close()
    assert len(caplog.records) == 1
    assert at_next_start(store_path, "content-1") == {"1.2": 7, "1.3": 8, "1.4": 9}


def test_a_damaged_file_that_another_mount_has_replaced_meanwhile_is_left_alone(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(store_path)
    one, other = SeriesStore(store_path), SeriesStore(store_path)
    pages_inside(store_path)
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
    assert at_next_start(store_path, "content-1") == {"1.2": 7}


def test_a_damaged_file_is_not_removed_while_another_mount_opens_it(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "_BUSY_SECONDS", 0.1)
    garbage(store_path)
    before = store_path.read_bytes()
    held = os.open(store_path.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        SeriesStore(store_path).close()
        with pytest.raises(IdcfsError, match=r"series\.sqlite cannot be cleared"):
            clear(store_path)
        assert info(store_path)[:2] == (0, 0)
    finally:
        os.close(held)
    assert store_path.read_bytes() == before
    (record,) = caplog.records
    assert f"{store_path} cannot be used" in record.getMessage()
    SeriesStore(store_path).close()
    assert f"{store_path} is damaged" in caplog.records[1].getMessage()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_damaged_store_can_be_cleared(damage: Callable[[Path], None], store_path: Path) -> None:
    filled(store_path)
    damage(store_path)
    assert info(store_path)[:2] == (0, 0)
    clear(store_path)
    assert kept_at_next_start(store_path, "content-1") == Kept(None, {})

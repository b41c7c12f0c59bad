"""An SQLite file that mounts share: for its owner alone, told from the one that took its place, removed whole."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from idcfs import database


def make_table(connection: sqlite3.Connection) -> None:
    connection.executescript("CREATE TABLE IF NOT EXISTS t (x)")


def test_it_and_what_is_beside_it_are_for_its_owner_alone(tmp_path: Path) -> None:
    path, before = tmp_path / "x.sqlite", os.umask(0o022)
    try:
        with contextlib.closing(database.connect(path, 1.0, make_table)) as connection, connection:
            connection.execute("INSERT INTO t VALUES (1)")
            modes = {file.stat().st_mode & 0o777 for file in database.files_of(path)}
    finally:
        os.umask(before)
    assert modes == {0o600}


def test_one_that_took_its_place_is_another(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    assert database.identity(path) is None
    with contextlib.closing(database.connect(path, 1.0, make_table)):
        opened = database.identity(path)
        database.remove(path)
        assert not list(tmp_path.iterdir())
        database.connect(path, 1.0, make_table).close()
        assert database.identity(path) not in (None, opened)
    assert database.identity(path / "no directory") is None


def test_a_set_up_that_fails_leaves_no_connection(tmp_path: Path) -> None:
    path, made = tmp_path / "x.sqlite", []

    def fail(connection: sqlite3.Connection) -> None:
        made.append(connection)
        raise KeyError("no")

    with pytest.raises(KeyError):
        database.connect(path, 1.0, fail)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_damage_is_what_no_waiting_mends(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError) as foreign:
        database.connect(path, 0.1, make_table)
    assert database.is_damage(foreign.value)
    path.unlink()
    with contextlib.closing(database.connect(path, 0.1, make_table)) as one:
        with contextlib.closing(database.connect(path, 0.0, lambda connection: None)) as other:
            one.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="locked") as locked:
                other.execute("INSERT INTO t VALUES (1)")
            assert not database.is_damage(locked.value)
        with pytest.raises(sqlite3.OperationalError) as gutted:
            one.execute("SELECT 1 FROM gone")
        assert database.is_damage(gutted.value)
        with pytest.raises(sqlite3.OperationalError) as mistake:
            one.execute("no SQL")
    assert not database.is_damage(mistake.value)
    assert database.is_damage(mistake.value, {sqlite3.SQLITE_ERROR})


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("execute", ("SELECT * FROM t",)),
        ("executemany", ("INSERT INTO t VALUES (?)", [(1,)])),
        ("executescript", ("SELECT * FROM t",)),
    ],
)
def test_a_schema_that_is_no_text_is_damage(method: str, words: tuple[object, ...], tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with contextlib.closing(database.connect(path, 1.0, make_table)) as connection:
        with contextlib.closing(sqlite3.connect(path)) as damaging, damaging:
            damaging.execute("PRAGMA writable_schema = ON")
            damaging.execute("UPDATE sqlite_master SET sql = sql || CAST(x'ff' AS TEXT)")
            damaging.execute("PRAGMA schema_version = 77")  # so that it is read anew
        with pytest.raises(sqlite3.DatabaseError) as met:
            getattr(connection, method)(*words)
        with pytest.raises(sqlite3.DatabaseError) as opened:
            database.connect(path, 1.0, make_table)
    assert database.is_damage(met.value)
    assert database.is_damage(opened.value)

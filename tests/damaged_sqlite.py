"""What can have happened to a file of SQLite."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1_000)


def torn_header(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)


def garbage_beside_an_old_log(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"\xff" * 5_000)
    Path(f"{path}-shm").write_bytes(b"\xff" * 5_000)
    garbage(path)


def cut_off(path: Path) -> None:
    os.truncate(path, 4_096)


def pages_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4_096:] = b"\xff" * (len(content) - 4_096)
    path.write_bytes(content)


def execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


DAMAGES = [garbage, torn_header, garbage_beside_an_old_log, cut_off, pages_inside]

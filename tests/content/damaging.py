"""What can have happened to the files of a disk tier."""

from __future__ import annotations

from pathlib import Path

from tests import damaged_sqlite


def cut(file: Path, length: int) -> None:
    with file.open("r+b") as opened_file:
        opened_file.truncate(length)


def of_another_version(index: Path) -> None:
    damaged_sqlite.execute(index, "PRAGMA user_version = 999")


def of_another_program(index: Path) -> None:
    index.unlink()
    damaged_sqlite.execute(index, "CREATE TABLE block (name)")


def other_values(index: Path) -> None:
    damaged_sqlite.execute(index, "UPDATE block SET digest = 12345678901234, number = 'x', bytes = 'y'")


def no_total(index: Path) -> None:
    damaged_sqlite.execute(index, "DELETE FROM state")


DAMAGES = [*damaged_sqlite.DAMAGES, of_another_version, of_another_program, other_values, no_total]
"""Each makes an index that has to be started anew."""

"""An SQLite file that several mounts share and that may be lost: how it is opened, and when it is past use.

Nobody but SQLite may open such a file, nor those beside it, not even to close it at once: POSIX locks are the
process's, and closing any descriptor of a file lets go of all of them. SQLite, which keeps its own descriptors open for
that reason, could not know; the next process to close the database would take itself for the last one and remove the
log that this one goes on writing to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FileIdentity = tuple[int, int]

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_GUTTED = ("no such table", "no such column")
"""How SQLite says, with the code of any mistake, that the file has lost what was made when it was opened."""


def connect(path: Path, patience_seconds: float, set_up: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """A connection to the file at ``path``, which is made if there is none, for any thread; only its owner may read it.

    To be called with the lock of its directory held: who removes a damaged file holds it, too.

    :param patience_seconds: longest wait for another mount that is writing.
    :param set_up: makes the tables; what it raises closes the connection.
    :raises sqlite3.Error: if it cannot be opened.
    """
    connection = sqlite3.connect(path, check_same_thread=False, timeout=patience_seconds, factory=_Connection)
    try:
        path.chmod(0o600)  # SQLite's own is the umask's; the files beside take this one over
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


class _Connection(sqlite3.Connection):
    """One that says in an ``sqlite3.Error`` what is wrong with a file, whatever bytes that would have to quote.

    Where SQLite's own message is no text, since it has a damaged schema in it, Python raises UnicodeDecodeError.
    """

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """The method of ``sqlite3.Connection``."""
        with _in_words():
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        """The method of ``sqlite3.Connection``."""
        with _in_words():
            return super().executemany(*arguments)

    def executescript(self, *arguments: Any) -> sqlite3.Cursor:
        """The method of ``sqlite3.Connection``."""
        with _in_words():
            return super().executescript(*arguments)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        damage = sqlite3.DatabaseError("its schema is no text")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage from error


def identity(path: Path) -> FileIdentity | None:
    """Which file is at ``path``: another one, where another mount has started it anew; None where none is in reach.

    Two files that exist at the same time differ in it, so the old one is to be closed after the new one is open.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_damage(error: sqlite3.Error, more: Container[int] = ()) -> bool:
    """Whether the file will never do, rather than is out of reach for now: locked, or without space.

    :param more: primary result codes that say so too.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says where
    return code in _DAMAGE or code in more or str(error).startswith(_GUTTED)


def files_of(path: Path) -> tuple[Path, Path, Path]:
    """The database's log, the log's index and the database, in the order in which they are to be removed.

    A database without its log is an old one; a log alone is nothing.
    """
    return Path(f"{path}-wal"), Path(f"{path}-shm"), path


def remove(path: Path) -> None:
    """Remove the database at ``path``, if there is one, with what is beside it."""
    for file in files_of(path):
        file.unlink(missing_ok=True)

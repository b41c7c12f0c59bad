"""The index of the disk cache: one SQLite row per block, shared by every mount that uses the directory.

It answers what is kept of an instance, how much there is in all and what was used longest ago, without looking at the
files. A change to the files is made inside ``change``, whose lock all mounts share.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .. import database
from ..locks import locked
from .block_files import NewBlock, decoded, encoded
from .blocks import Key
from .disk_directory import index_path

_VERSION = 1
_PATIENCE_SECONDS = 5.0
"""How long other mounts may hold a lock; what they do under it takes milliseconds."""

# The total is kept by triggers, so that nobody ever has to add it up. Deletions by REPLACE would not set them off.
_SCHEMA = """
CREATE TABLE block (
    name BLOB PRIMARY KEY, content BLOB NOT NULL, instance BLOB NOT NULL, number INTEGER NOT NULL,
    bytes INTEGER NOT NULL, digest BLOB NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX block_of_instance ON block (content, instance);
CREATE INDEX block_by_use ON block (used);
CREATE TABLE state (bytes INTEGER NOT NULL, boot TEXT NOT NULL);
INSERT INTO state VALUES (0, '');
CREATE TRIGGER block_added AFTER INSERT ON block BEGIN UPDATE state SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER block_removed AFTER DELETE ON block BEGIN UPDATE state SET bytes = bytes - OLD.bytes; END
"""
_COLUMNS = "name, content, instance, number, bytes, digest"

T = TypeVar("T")


class IndexDamaged(Exception):
    """The file is not what was written, and can only be started anew."""


class Row(NamedTuple):
    """A block that is kept; ``disk_bytes`` is what its file takes."""

    name: bytes
    key: Key
    number: int
    disk_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a disk cache holds."""

    bytes: int = 0
    """What it takes on disk."""
    blocks: int = 0
    instances: int = 0
    series: int = 0
    oldest: float | None = None
    """When the block that is next to go was last used, in seconds since the epoch; None where there is none."""
    newest: float | None = None


class DiskIndex:
    """One connection, which threads share. Where another mount has started the index anew, it follows.

    Nobody but SQLite may open the file: see ``database``. Each method may fail:

    :raises IndexDamaged: where the file is damaged.
    :raises sqlite3.Error: where it cannot be done now (locked, no space).
    :raises OSError: where the directory cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = index_path(directory)
        self._connection: sqlite3.Connection | None = None
        self._opened: database.FileIdentity | None = None
        self._clock = 0
        self._turn = threading.RLock()  # whose change, or statement, it is

    @property
    def is_current(self) -> bool:
        """Whether the file that is open is still the one in the directory."""
        is_open = self._connection is not None and self._opened is not None
        return is_open and self._opened == database.identity(self.path)

    def open(self) -> None:
        """Open the index, and make it if there is none."""
        with self._turn:
            self.close()
            with locked(self._directory, _PATIENCE_SECONDS):
                self._connect()

    def start_anew(self, remove: Callable[[], None]) -> None:
        """The file is damaged: ``remove`` it and all it speaks of, unless another mount has done so already."""
        with self._turn, locked(self._directory, _PATIENCE_SECONDS):
            if self._is_still_damaged():
                remove()
            self.close()  # not before: while it is open, no new file can have the same identity
            self._connect()

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):  # a damaged file may fail even here
                    connection.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """What is done herein no other mount or thread interrupts; an exception takes the rows back."""
        with self._turn:
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    # --- questions ---------------------------------------------------------------------------------------------------

    def total(self) -> int:
        """Bytes that all blocks take on disk."""
        return self._one("SELECT bytes FROM state", int)

    def boot(self) -> str:
        """During which run of the machine it was last used."""
        return self._one("SELECT boot FROM state", str)

    def digest(self, name: bytes) -> bytes | None:
        """Digest of a block, if it is kept."""
        found = self._execute("SELECT digest FROM block WHERE name = ?", (name,))
        return _typed(found[0][0], bytes) if found else None

    def digests(self, key: Key) -> dict[int, bytes]:
        """Digests of the blocks that are kept of an instance, by number."""
        select = "SELECT number, digest FROM block WHERE content = ? AND instance = ?"
        found = self._execute(select, encoded(key))
        return {_typed(number, int): _typed(digest, bytes) for number, digest in found}

    def series_digests(self, content: str, most: int) -> dict[Key, dict[int, bytes]] | None:
        """Digests of the blocks that are kept of a series, by instance and number; None if more than ``most`` are."""
        select = "SELECT instance, number, digest FROM block WHERE content = ? LIMIT ?"
        (series, _) = encoded((content, ""))
        rows = self._execute(select, (series, most + 1))
        if len(rows) > most:
            return None
        found: dict[Key, dict[int, bytes]] = {}
        for instance, number, digest in rows:
            key = _key(series, instance)
            found.setdefault(key, {})[_typed(number, int)] = _typed(digest, bytes)
        return found

    def blocks(self, key: Key) -> list[Row]:
        """The blocks that are kept of an instance."""
        return self._rows("WHERE content = ? AND instance = ?", encoded(key))

    def oldest(self, limit: int) -> list[Row]:
        """The ``limit`` blocks that were used longest ago, those first."""
        return self._rows("ORDER BY used LIMIT ?", (limit,))

    def after(self, name: bytes, limit: int) -> list[Row]:
        """The next ``limit`` blocks by name: to see them all without holding them all."""
        return self._rows("WHERE name > ? ORDER BY name LIMIT ?", (name, limit))

    def info(self) -> CacheInfo:
        """What there is; looks at every row."""
        select = "SELECT count(*), count(DISTINCT content), min(used) / 1e9, max(used) / 1e9 FROM block"
        ((blocks, series, oldest, newest),) = self._execute(select)
        instances = self._one("SELECT count(*) FROM (SELECT DISTINCT content, instance FROM block)", int)
        return CacheInfo(self.total(), blocks, instances, series, oldest, newest)

    # --- changes -----------------------------------------------------------------------------------------------------

    def add(self, blocks: Iterable[NewBlock]) -> None:
        """Keep rows for ``blocks``, instead of those of the same names."""
        for block in blocks:
            self.remove(block.name)
            row = (block.name, *encoded(block.key), block.number, block.disk_bytes, block.digest, self._now())
            self._execute("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def remove(self, name: bytes) -> None:
        """Keep no row for the block ``name``."""
        self._execute("DELETE FROM block WHERE name = ?", (name,))

    def touch(self, names: Iterable[bytes]) -> list[bytes]:
        """These blocks have been used just now, the last of them last; returns those that are not kept."""
        touch = "UPDATE block SET used = ? WHERE name = ? RETURNING 1"
        return [name for name in names if not self._execute(touch, (self._now(), name))]

    def set_boot(self, boot: str) -> None:
        """It has been used during this run of the machine."""
        self._execute("UPDATE state SET boot = ?", (boot,))

    def recount(self) -> None:
        """Add the total up anew."""
        self._execute("UPDATE state SET bytes = (SELECT coalesce(sum(bytes), 0) FROM block)")

    # --- the connection ----------------------------------------------------------------------------------------------

    def _execute(self, statement: str, parameters: tuple[object, ...] = ()) -> list[Any]:
        """All rows that ``statement`` gives."""
        with self._turn:
            connection = self._current()
            with _damage_told():
                return connection.execute(statement, parameters).fetchall()

    def _current(self) -> sqlite3.Connection:
        """The connection, opened (again) if need be, but never in the middle of a change."""
        if self._connection is None or not (self._connection.in_transaction or self.is_current):
            self.open()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        self._connection = _connect(self.path)
        self._opened = database.identity(self.path)  # not before: there may have been no file

    def _roll_back(self) -> None:
        """End a change; SQLite may have done so already."""
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()  # nobody else can change anything before that

    def _is_still_damaged(self) -> bool:
        if self._connection is not None:
            return self.is_current
        try:
            self._connect()
        except IndexDamaged:
            return True
        return False

    def _rows(self, which: str, parameters: tuple[object, ...]) -> list[Row]:
        found = self._execute(f"SELECT {_COLUMNS} FROM block {which}", parameters)
        return [_row(*columns) for columns in found]

    def _one(self, select: str, kind: type[T]) -> T:
        found = self._execute(select)
        return _typed(found[0][0] if found else None, kind)

    def _now(self) -> int:
        """The time in ns, later at each call: mounts that share the index agree on what was used last."""
        self._clock = max(self._clock + 1, time.time_ns())
        return self._clock


def _row(name: object, content: object, instance: object, number: object, size: object, digest: object) -> Row:
    key = _key(content, instance)
    return Row(_typed(name, bytes), key, _typed(number, int), _typed(size, int), _typed(digest, bytes))


def _key(content: object, instance: object) -> Key:
    try:
        return decoded(_typed(content, bytes), _typed(instance, bytes))
    except UnicodeDecodeError as error:
        raise IndexDamaged(str(error)) from error


def _typed(value: object, kind: type[T]) -> T:
    """``value``, which SQLite would give as anything that a damaged page says."""
    if not isinstance(value, kind):
        raise IndexDamaged(f"{value!r:.50} is not what was written")
    return value


def _connect(path: Path) -> sqlite3.Connection:
    with _damage_told():
        return database.connect(path, _PATIENCE_SECONDS, _set_up)


def _set_up(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # each statement for itself, unless ``change`` says otherwise
    connection.text_factory = lambda text: text.decode(errors="replace")  # a damaged one is told by its type
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}; PRAGMA user_version = {_VERSION}; COMMIT")
    elif version != _VERSION:
        raise IndexDamaged("it is of another version")


@contextmanager
def _damage_told() -> Iterator[None]:
    """SQLite's complaints about the file itself become ``IndexDamaged``; no others do."""
    try:
        yield
    except sqlite3.Error as error:
        if database.is_damage(error):
            raise IndexDamaged(str(error)) from error
        raise

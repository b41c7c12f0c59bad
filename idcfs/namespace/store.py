"""Instance lists, exact sizes and what a bucket's files are, remembered across mounts.

All in one SQLite file in the cache directory, shared by mounts.

Keyed by content (the series' content UUID where the index has one), so an entry stays true across IDC releases. Losing
the file costs one query per series and provisional sizes, nothing else; so it is never a reason to fail: what cannot be
written stays in memory.

A damaged file is removed under a lock that all who open it take, and mounts that still have it open follow to the one
that took its place.

A list is kept as ``listing.uids``: a checksum, then the UIDs, one a line, compressed (17–21 bytes per instance). SQLite
notices torn pages, not flipped bits, and a wrong list would name files that are none: so one that its checksum does
not fit is not kept. ``objects`` is made just so; its lines are the business of whoever knows buckets.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import trio

from .. import database
from ..errors import IdcfsError
from ..locks import locked
from ..patience import in_time

_SCHEMA = """
CREATE TABLE IF NOT EXISTS size (
    content TEXT, instance TEXT, bytes INTEGER NOT NULL, PRIMARY KEY (content, instance)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listing (content TEXT PRIMARY KEY, uids BLOB NOT NULL, instances INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS objects (content TEXT PRIMARY KEY, uids BLOB NOT NULL, instances INTEGER NOT NULL)
"""
_LISTING, _OBJECTS = _TABLES = ("listing", "objects")
_MAX_BYTES = 2**63 - 1  # SQLite's and the kernel's
_FLUSH_SECONDS = 0.5
"""What is learnt within this time is written together."""
_BUSY_SECONDS = 5.0
"""Longest wait for another mount that is writing, or that opens the file."""
_SEARCH_SECONDS = 2.0
"""Longest search through all lists, which takes 0.6 s for a million instances: then the archive is asked instead."""
_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # the tables are not those that were made
        sqlite3.SQLITE_CONSTRAINT,  # in tables as they were made there is none: what is inserted was deleted before
        sqlite3.SQLITE_MISMATCH,
    }
)
"""What else SQLite says here of a file that will never do, in primary result codes."""
_MAX_WAITING = 1_000_000
"""Instances (about 100 bytes each) of lists that wait to be written; the largest series of IDC v25 has 91,980. More
come together only where nothing can be written, or in a list that had better not become one value of a database."""
_DIGEST_BYTES = 16
_COMPRESSION = 1  # 91,980 UIDs: 60 ms; level 6 takes 0.2–0.3 s for 5 % less

T = TypeVar("T")

log = logging.getLogger(__name__)

_Sizes = dict[tuple[str, str], int | None]
"""By (content, SOPInstanceUID), in bytes; None: to be forgotten."""
_Lists = dict[tuple[str, str], tuple[str, ...]]
"""By (table, content)."""


class Kept(NamedTuple):
    """What is known of one series."""

    uids: tuple[str, ...] | None
    """SOPInstanceUIDs of all its instances, each once, in no particular order; None where no list is kept."""
    sizes: dict[str, int]
    """Exact sizes in bytes by SOPInstanceUID, of as many instances as happen to be known."""


class StoreInfo(NamedTuple):
    """What a store holds."""

    lists: int
    sizes: int
    bytes: int
    """Of the files on disk."""


class SeriesStore:
    """Instance lists and what a bucket's files are, by content; sizes in bytes by (content, SOPInstanceUID)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: _Sizes = {}  # what waits to be written
        self._lists: _Lists = {}
        self._wake = trio.Event()
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._warned = False
        self._hangs = False
        self._connection: sqlite3.Connection | None = None
        self._opened: database.FileIdentity | None = None  # which file that is
        self._seen: tuple[database.FileIdentity | None, int] | None = None  # which file, and how often it was emptied
        self.losses = 0
        """How often it has turned out that what was kept is gone: cleared, or damaged and begun anew."""
        self._open()

    async def load(self, content: str) -> Kept:
        """Everything known of ``content``."""
        uids, sizes = await self._ask(lambda connection: _known(connection, content), Kept(None, {}))
        waiting = {uid: size for (key, uid), size in self._sizes.items() if key == content}
        known = {uid: size for uid, size in (sizes | waiting).items() if size is not None}
        return Kept(self._lists.get((_LISTING, content), uids), known)

    async def load_objects(self, content: str) -> tuple[str, ...] | None:
        """What ``remember_objects`` was given."""
        waiting = self._lists.get((_OBJECTS, content))
        if waiting is not None:
            return waiting
        return await self._ask(lambda connection: _lines(connection, _OBJECTS, content), None)

    async def contents_listing(self, instance_uid: str) -> list[str]:
        """The contents whose lists have that instance, as far as can be told within ``_SEARCH_SECONDS``."""
        lists, none = self._lists.items(), list[str]()
        waiting = [content for (table, content), uids in lists if table == _LISTING and instance_uid in uids]
        return waiting + await self._ask(lambda connection: _contents_listing(connection, instance_uid), none)

    def remember_objects(self, content: str, lines: Iterable[str]) -> None:
        """Keep what the files of a series are, in place of what was kept; written a moment later."""
        self._remember(_OBJECTS, content, lines)

    def remember_list(self, content: str, uids: Iterable[str]) -> None:
        """Keep the list of all instances of a series, each once, in place of what was kept; written a moment later."""
        self._remember(_LISTING, content, uids)

    def _remember(self, table: str, content: str, lines: Iterable[str]) -> None:
        self._lists.pop((table, content), None)  # so that it stands last
        self._lists[table, content] = tuple(lines)
        waiting = sum(map(len, self._lists.values()))
        while waiting > _MAX_WAITING:  # the oldest give way: asking for one again costs a query
            waiting -= len(self._lists.pop(next(iter(self._lists))))
        self._wake.set()

    def remember_size(self, content: str, instance_uid: str, size: int) -> None:
        """Keep a size; written a moment later."""
        if size <= _MAX_BYTES:
            self._sizes[content, instance_uid] = size
            self._wake.set()

    def forget_size(self, content: str, instance_uid: str) -> None:
        """Keep a size no longer; written a moment later."""
        self._sizes[content, instance_uid] = None
        self._wake.set()

    async def look(self) -> None:
        """Find out whether what was kept is gone: see ``losses``."""
        await self._in_time(self._current, None)

    async def run(self) -> None:
        """Write what is to be remembered, until cancelled."""
        while True:
            await self._wake.wait()
            await trio.sleep(_FLUSH_SECONDS)
            self._wake = trio.Event()
            await self.sync()

    async def sync(self) -> bool:
        """Write what is to be remembered by now; whether that is possible."""
        sizes, lists = dict(self._sizes), dict(self._lists)
        if not (sizes or lists):
            return True
        try:
            is_written = is_over = await self._in_time(partial(self._write, sizes, lists), False)
        except Exception:
            # Not tried again: it would fail every later round too, and to have lost it costs a query.
            log.exception("%s: what was learnt last is not kept: this is a bug", self._path)
            is_written, is_over = False, True
        if is_over:
            self._sizes = {key: size for key, size in self._sizes.items() if sizes.get(key, -1) != size}
            self._lists = {key: uids for key, uids in self._lists.items() if lists.get(key) is not uids}
        return is_written

    async def _ask(self, question: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """The answer to ``question``; ``otherwise`` where the file does not give one."""
        return await self._in_time(partial(self._read, question, otherwise), otherwise)

    async def _in_time(self, work: Callable[[], T], otherwise: T) -> T:
        """What ``work``, in a thread, gives. If it does not end, ``otherwise``, and the file is not asked any more."""
        async with self._one_at_a_time:
            if not self._hangs:
                try:
                    # Only the patience may give it up: what is cancelled while it writes would go on beside ``close``.
                    with trio.CancelScope(shield=True):
                        return await in_time(work)
                except trio.TooSlowError:
                    self._hangs = True
                    log.warning("%s does not answer: lists and sizes are remembered in memory only", self._path)
        return otherwise

    def close(self) -> None:
        """Write the rest and let go of the file."""
        if self._hangs:
            return
        self._write(self._sizes, self._lists)
        if self._connection is not None:
            self._connection.close()

    def _open(self, damage: sqlite3.DatabaseError | None = None) -> None:
        """Open the file, instead of the one that is open; that one is removed if it is damaged and still in place."""
        before, self._connection = self._connection, None
        try:
            with locked(self._path.parent, _BUSY_SECONDS):
                if damage is not None and self._opened == database.identity(self._path):
                    self._remove(damage)
                self._connection = self._connect()
                self._opened = database.identity(self._path)
        except (sqlite3.DatabaseError, OSError) as error:
            self._warn(error)
        if before is not None:
            with suppress(sqlite3.Error):  # a damaged file may fail even here
                before.close()  # not sooner: while it is open, no new file can have the same identity

    def _connect(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._remove(error)
            return _connect(self._path)

    def _remove(self, damage: sqlite3.DatabaseError) -> None:
        log.warning("%s is damaged (%s): starting it anew", self._path, damage)
        database.remove(self._path)

    def _current(self) -> sqlite3.Connection | None:
        """The connection, to the file that is there now: another mount may have found the last one damaged."""
        if self._connection is not None and self._opened != database.identity(self._path):
            self._open()
        if self._connection is not None:
            with suppress(sqlite3.DatabaseError):  # whoever asks next meets it too
                self._note_losses(self._connection)
        return self._connection

    def _note_losses(self, connection: sqlite3.Connection) -> None:
        (emptied,) = connection.execute("PRAGMA user_version").fetchone()
        before, self._seen = self._seen, (self._opened, emptied)
        self.losses += before not in (None, self._seen)

    def _read(self, question: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        connection = self._current()
        if connection is None:
            return otherwise
        try:
            return question(connection)
        except sqlite3.DatabaseError as error:
            self._recover(error)
            return otherwise

    def _write(self, sizes: _Sizes, lists: _Lists) -> bool:
        """Whether all of it is on disk now."""
        connection = self._current()
        if connection is None or not (sizes or lists):
            return False
        known = [(content, uid, size) for (content, uid), size in sizes.items() if size is not None]
        try:
            with connection:
                connection.executemany("DELETE FROM size WHERE content = ? AND instance = ?", sizes)
                connection.executemany("INSERT INTO size VALUES (?, ?, ?)", known)
                for (table, content), lines in lists.items():
                    connection.execute(f"DELETE FROM {table} WHERE content = ?", (content,))
                    if not any("\n" in line for line in lines):  # which no UID holds, whatever else a server may give
                        packed = content, _packed(content, lines), len(lines)
                        connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", packed)
        except sqlite3.DatabaseError as error:
            self._recover(error)
            return False
        return True

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """Go on: what failed for want of space, say, may succeed later; a damaged file never will."""
        if _is_damage(error):
            self._open(error)
        else:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            log.warning("%s cannot be used (%s): lists and sizes are remembered in memory only", self._path, error)
        self._warned = True


def info(path: Path) -> StoreInfo:
    """What the store at ``path`` holds; nothing where there is none, no entries where it cannot be read."""
    size = 0
    for file in database.files_of(path):
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    if not path.exists():
        return StoreInfo(0, 0, size)
    try:
        with locked(path.parent, _BUSY_SECONDS), closing(_connect(path)) as connection:
            (lists,) = connection.execute("SELECT count(*) FROM listing").fetchone()
            (sizes,) = connection.execute("SELECT count(*) FROM size").fetchone()
    except (sqlite3.DatabaseError, OSError):
        return StoreInfo(0, 0, size)
    return StoreInfo(lists, sizes, size)


def clear(path: Path) -> StoreInfo:
    """Empty the store at ``path``, even while mounts use it; returns what it held.

    :raises IdcfsError: if that is not possible.
    """
    held = info(path)
    if not path.exists():
        return held
    try:
        with locked(path.parent, _BUSY_SECONDS):
            _empty(path)
    except (sqlite3.DatabaseError, OSError) as error:
        raise IdcfsError(f"{path} cannot be cleared: {error}") from None
    return held


def _empty(path: Path) -> None:
    try:
        with closing(_connect(path)) as connection:
            with connection:
                for table in ("size", *_TABLES):
                    connection.execute(f"DELETE FROM {table}")
                (emptied,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {emptied + 1}")  # so that mounts notice
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the log keeps what was deleted
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        database.remove(path)


def _known(connection: sqlite3.Connection, content: str) -> Kept:
    rows = connection.execute("SELECT instance, bytes FROM size WHERE content = ?", (content,))
    sizes = {uid: size for uid, size in rows if isinstance(size, int) and 0 < size <= _MAX_BYTES}
    return Kept(_lines(connection, _LISTING, content), sizes)


def _lines(connection: sqlite3.Connection, table: str, content: str) -> tuple[str, ...] | None:
    row = connection.execute(f"SELECT uids, instances FROM {table} WHERE content = ?", (content,))
    return _unpacked(content, *(row.fetchone() or (None, None)))


def _contents_listing(connection: sqlite3.Connection, instance_uid: str) -> list[str]:
    deadline = time.monotonic() + _SEARCH_SECONDS
    found: list[str] = []
    for content, packed, instances in connection.execute(f"SELECT content, uids, instances FROM {_LISTING}"):
        if instance_uid in (_unpacked(content, packed, instances) or ()):
            found.append(content)
        if time.monotonic() > deadline:
            break
    return found


def _packed(content: str, uids: tuple[str, ...]) -> bytes:
    body = zlib.compress("\n".join(uids).encode("utf-8", "surrogatepass"), _COMPRESSION)
    return _digest(content, len(uids), body) + body


def _unpacked(content: str, packed: object, instances: object) -> tuple[str, ...] | None:
    """The list in ``packed``, or None if that is not what ``_packed`` once gave for ``content``."""
    if not isinstance(packed, bytes) or packed[:_DIGEST_BYTES] != _digest(content, instances, packed[_DIGEST_BYTES:]):
        return None
    uids = zlib.decompress(packed[_DIGEST_BYTES:]).decode("utf-8", "surrogatepass").split("\n")
    return tuple(uids) if instances else ()


def _digest(content: str, instances: object, body: bytes) -> bytes:
    return hashlib.blake2b(f"{content}\n{instances}\n".encode() + body, digest_size=_DIGEST_BYTES).digest()


def _is_damage(error: sqlite3.Error) -> bool:
    if not hasattr(error, "sqlite_errorcode"):  # Python's own: text that is no UTF-8, or else mistakes in here
        return isinstance(error, sqlite3.OperationalError)
    return database.is_damage(error, _DAMAGE)


def _connect(path: Path) -> sqlite3.Connection:
    return database.connect(path, _BUSY_SECONDS, _make_tables)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.executescript(_SCHEMA)

"""Exact sizes, remembered across mounts: a small SQLite file beside the catalog, shared by every mount.

Keyed by content (the series' content UUID where the index has one), so an entry stays true across IDC releases. Losing
the file costs provisional sizes, nothing else; so it is never a reason to fail: what cannot be written stays in memory.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import trio

_SCHEMA = """
CREATE TABLE IF NOT EXISTS size (
    content TEXT, instance TEXT, bytes INTEGER NOT NULL, PRIMARY KEY (content, instance)
) WITHOUT ROWID
"""
_MAX_BYTES = 2**63 - 1  # SQLite's and the kernel's
_FLUSH_SECONDS = 0.5
"""Sizes learnt within this time are written together."""

log = logging.getLogger(__name__)


class SizeStore:
    """Sizes in bytes by (content, SOPInstanceUID)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: dict[tuple[str, str], int | None] = {}  # None: to be forgotten
        self._wake = trio.Event()
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._warned = False
        self._connection: sqlite3.Connection | None = self._open()

    async def load(self, content: str) -> dict[str, int]:
        """Every size known for ``content``."""
        sizes = await trio.to_thread.run_sync(self._select, content, limiter=self._one_at_a_time)
        pending = {uid: size for (key, uid), size in self._pending.items() if key == content}
        return {uid: size for uid, size in (sizes | pending).items() if size is not None}

    def remember(self, content: str, instance_uid: str, size: int) -> None:
        """Keep a size; written a moment later."""
        if size <= _MAX_BYTES:
            self._pending[content, instance_uid] = size
            self._wake.set()

    def forget(self, content: str, instance_uid: str) -> None:
        """Keep a size no longer; written a moment later."""
        self._pending[content, instance_uid] = None
        self._wake.set()

    async def run(self) -> None:
        """Write what is to be remembered, until cancelled."""
        while True:
            await self._wake.wait()
            await trio.sleep(_FLUSH_SECONDS)
            self._wake = trio.Event()
            rows = dict(self._pending)
            if await trio.to_thread.run_sync(self._insert, rows, limiter=self._one_at_a_time):
                self._pending = {key: size for key, size in self._pending.items() if rows.get(key, 0) != size}

    def close(self) -> None:
        """Write the rest and let go of the file."""
        self._insert(self._pending)
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> sqlite3.Connection | None:
        try:
            return _connect(self._path)
        except sqlite3.OperationalError as error:  # no place, no right, no space: nothing is wrong with the file
            self._warn(error)
            return None
        except sqlite3.DatabaseError as error:
            return self._start_anew(error)

    def _start_anew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection | None:
        log.warning("%s is damaged (%s): starting it anew", self._path, error)
        try:
            for file in (self._path, Path(f"{self._path}-wal"), Path(f"{self._path}-shm")):
                file.unlink(missing_ok=True)
            return _connect(self._path)
        except (sqlite3.DatabaseError, OSError) as failure:
            self._warn(failure)
            return None

    def _select(self, content: str) -> dict[str, int]:
        if self._connection is None:
            return {}
        try:
            rows = self._connection.execute("SELECT instance, bytes FROM size WHERE content = ?", (content,))
            return {uid: size for uid, size in rows if isinstance(size, int) and 0 < size <= _MAX_BYTES}
        except sqlite3.DatabaseError as error:
            self._recover(error)
            return {}

    def _insert(self, rows: dict[tuple[str, str], int | None]) -> bool:
        """Whether ``rows`` are on disk now."""
        if self._connection is None or not rows:
            return False
        try:
            with self._connection:
                self._connection.executemany("DELETE FROM size WHERE content = ? AND instance = ?", rows)
                self._connection.executemany(
                    "INSERT INTO size VALUES (?, ?, ?)",
                    [(content, uid, size) for (content, uid), size in rows.items() if size is not None],
                )
        except sqlite3.DatabaseError as error:
            self._recover(error)
            return False
        return True

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """Go on: what failed for want of space, say, may succeed later; a damaged file never will."""
        if isinstance(error, sqlite3.OperationalError):
            self._warn(error)
        elif self._connection is not None:
            self._connection.close()
            self._connection = self._start_anew(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            log.warning("%s cannot be used (%s): sizes are remembered in memory only", self._path, error)
        self._warned = True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection

"""The disk cache of all mounts that share a directory: block files and their index, kept in step. No event loop here.

    directory/index.sqlite       one row per block
    directory/xx/<32 digits>     one file per block
    directory/tmp/               files that are being written

There is never a file without a row: a row is committed before its file is renamed into place, and goes after its file
is gone, both under the index's lock. So a kill at any instant leaves rows without files, which are misses, and files in
``tmp``, which the next mounts remove. Nothing is synced to disk: a kill loses no page the kernel has, and what a power
cut loses the digests find out.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from ..errors import Damaged, UsageError
from . import block_files
from .block_files import NewBlock
from .blocks import Key
from .disk_directory import blocks_in, boot_id, claim, directories_in, remove_all, remove_leftovers, unlink
from .disk_index import CacheInfo, DiskIndex, Row

log = logging.getLogger(__name__)

_FREE_SHARE = 0.05
"""Of the disk; left to others."""
_EVICTED_SHARE = 0.02
"""Of the capacity; evicted at once, so that not every block has to look for another that goes."""
_ROUND_BLOCKS = 500
"""Removed under one lock: some 20 ms, then other mounts have their turn."""
_MOST_ROUNDS = 20
"""Of eviction before a block is written; where there is more to remove (the capacity was lowered), nothing is kept
meanwhile, and nobody waits for long."""


class Miss(Enum):
    """Why a block that is known has no bytes."""

    ABSENT = auto()
    DAMAGED = auto()
    REPLACED = auto()  # another mount has found that the archive has other bytes now
    UNREADABLE = auto()  # perhaps later: too many open files, say


@dataclass(slots=True)
class Work:
    """What has gathered, in the order in which it is done."""

    drops: set[Key] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    """Names of blocks whose files were not there."""
    used: dict[bytes, tuple[Key, int]] = field(default_factory=dict)
    """Blocks by name, last used last."""
    blocks: list[NewBlock] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What has become of it."""

    has_dropped: bool = False
    kept: list[NewBlock] = field(default_factory=list)
    gone: list[Row] = field(default_factory=list)
    """Blocks that were evicted, or belonged to an instance that has been replaced."""
    absent: list[bytes] = field(default_factory=list)
    """Names of blocks that have been used and are not kept: somebody else has removed them."""
    has_more: bool = False
    """More is to be evicted."""
    is_anew: bool = False
    """All that was kept is gone."""


class BlockStore:
    """``read`` may be called in many threads, ``look_up`` in one at a time, everything else in another."""

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        """Open what is there, or make it.

        :raises UsageError: if the directory is not ours.
        :raises OSError, sqlite3.Error: if it cannot be used.
        """
        self._directory = directory
        self._temporary = directory / "tmp"
        self._capacity = capacity_bytes
        self._token = secrets.token_hex(8)  # tells our temporary files from those of others
        self._index = DiskIndex(directory)
        self._look_up_index = DiskIndex(directory)
        self._damage: sqlite3.DatabaseError | None = None
        self._warned = False
        self._outcome = Outcome()
        claim(directory)
        self._open()
        self.size = self._index.total()
        """Bytes on disk, as last seen."""
        remove_leftovers(self._temporary)

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()
        self._look_up_index.close()

    @property
    def index(self) -> DiskIndex:
        """The index, for those who keep the cache in order."""
        return self._index

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def is_damaged(self) -> bool:
        """Whether ``look_up`` has found that the index has to be started anew, which ``apply`` does."""
        return self._damage is not None

    def look_up(self, key: Key) -> dict[int, bytes] | None:
        """Digests of the blocks that are kept of an instance, by number; None if that cannot be told now."""
        try:
            return self._look_up_index.digests(key)
        except (OSError, sqlite3.OperationalError) as error:
            self._warn(error)
        except (sqlite3.Error, ValueError, TypeError) as error:
            self._damage = sqlite3.DatabaseError(str(error))
        return None

    def read(self, name: bytes, number: int, digest: bytes) -> bytes | Miss:
        """The bytes of a block that should have ``digest``. A damaged file is removed."""
        path = block_files.path_of(self._directory, name)
        try:
            data, found = block_files.read(path, name, number)
        except FileNotFoundError:
            return Miss.ABSENT
        except OSError as error:
            log.info("%s cannot be opened: %s", path, error.strerror)
            return Miss.UNREADABLE
        except Damaged as error:
            log.info("%s: it is removed", error)
            unlink(path)
            return Miss.DAMAGED
        return data if found == digest else Miss.REPLACED

    # --- changing ----------------------------------------------------------------------------------------------------

    def apply(self, work: Work) -> Outcome:
        """Do ``work``. Never raises: what cannot be done is not kept."""
        self._outcome = Outcome()
        try:
            if self._damage is not None:
                raise self._damage
            self._apply(work)
            self.size = self._index.total()
        except (OSError, UsageError, sqlite3.OperationalError) as error:
            self._warn(error)
        except Exception as error:
            self._start_anew_after(error)
        return self._outcome

    def clear(self) -> CacheInfo:
        """Remove every block; returns what there was, as far as the index can be read."""
        try:
            before = self._index.info()
            while self._remove_some():
                pass
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._start_anew(error)
            return CacheInfo()
        self.remove_orphans()
        return before

    def verify(self, row: Row) -> bytes | Miss:
        """Read a block; one that is not as it should be is removed with its row."""
        found = self.read(row.name, row.number, row.digest)
        if found in (Miss.ABSENT, Miss.DAMAGED):
            self.remove_lost({row.name})
        return found

    def remove_lost(self, names: Iterable[bytes]) -> None:
        """Remove the rows of those of these blocks whose files are not there."""
        with self._index.change():
            for name in names:
                if not block_files.path_of(self._directory, name).exists():
                    self._index.remove(name)

    def remove_orphans(self) -> int:
        """Remove files without rows, and return how many there were."""
        count = 0
        for directory in directories_in(self._directory):
            with self._index.change():
                for path in blocks_in(directory):
                    if self._index.digest(bytes.fromhex(path.name)) is None:
                        count += unlink(path)
        return count

    def _remove_some(self) -> bool:
        """Remove a round of blocks; whether there were any."""
        with self._index.change():
            rows = self._index.oldest(_ROUND_BLOCKS)
            self._remove(rows)
        return bool(rows)

    def _apply(self, work: Work) -> None:
        if not self._index.is_current:
            claim(self._directory)  # somebody may have removed it
        self._tidy_after_power_cut()
        if work.lost:
            self.remove_lost(work.lost)
        with self._index.change():
            for key in work.drops:
                self._remove(self._index.blocks(key))
            self._outcome.absent = self._index.touch(work.used)
        self._outcome.has_dropped = True
        blocks = self._fitting(self._missing(work.blocks))
        if self._reserve(blocks) and blocks:
            self._write(blocks)

    def _missing(self, blocks: list[NewBlock]) -> list[NewBlock]:
        """Those of ``blocks`` that are not kept yet.

        An instance of which other bytes are kept has been replaced in the archive. Which bytes are the new ones cannot
        be told, and they must not be mixed: nothing of it is kept.
        """
        with self._index.change():
            kept = {block.name: self._index.digest(block.name) for block in blocks}
            replaced = {block.key for block in blocks if kept[block.name] not in (None, block.digest)}
            for key in replaced:
                log.info("instance %s: other bytes of it are kept: it is dropped", key[1])
                self._evict(self._index.blocks(key))
            blocks = [block for block in blocks if block.key not in replaced]
            here = [block for block in blocks if kept[block.name] and self._path(block.name).exists()]
            self._index.touch([block.name for block in here])
        self._outcome.kept += here
        names = {block.name for block in here}
        return [block for block in blocks if block.name not in names]

    def _fitting(self, blocks: list[NewBlock]) -> list[NewBlock]:
        """The last of ``blocks``, as many as fit at all."""
        left = capacity = self._effective_capacity()
        fitting: list[NewBlock] = []
        for block in reversed(blocks):
            if block.disk_bytes <= left:
                left -= block.disk_bytes
                fitting.append(block)
            elif capacity < block.disk_bytes <= self._capacity:
                self._warn(OSError(errno.ENOSPC, f"less than {_FREE_SHARE:.0%} of the disk is free"))
        return fitting[::-1]

    def _reserve(self, blocks: list[NewBlock]) -> bool:
        """Make room for ``blocks`` and add their rows; whether there is room."""
        needed = sum(block.disk_bytes for block in blocks)
        before = len(self._outcome.gone)
        for _ in range(_MOST_ROUNDS):
            with self._index.change():
                if self._make_room(needed):
                    self._index.add(blocks)
                    return True
        self._outcome.has_more = len(self._outcome.gone) > before
        return False

    def _make_room(self, needed: int) -> bool:
        """Evict a round of blocks, if need be; whether there is room for ``needed`` bytes now."""
        capacity = self._effective_capacity()
        left = self._index.total() + needed
        if left <= capacity:
            return True
        rows = self._index.oldest(_ROUND_BLOCKS)
        if not rows:
            self._index.recount()  # only a damaged total can be the reason
        while rows and left > capacity * (1 - _EVICTED_SHARE):
            left -= rows[0].disk_bytes
            self._evict([rows.pop(0)])
        return left <= capacity

    def _effective_capacity(self) -> int:
        """Bytes that may be kept: never so many that the disk is full for others."""
        disk = os.statvfs(self._directory)
        spare = int(disk.f_bavail * disk.f_frsize - disk.f_blocks * disk.f_frsize * _FREE_SHARE)
        return max(0, min(self._capacity, self._index.total() + spare))

    def _write(self, blocks: list[NewBlock]) -> None:
        """Write ``blocks``, which have rows. Those whose row has been removed meanwhile are not kept."""
        written = self._write_temporary(blocks)
        try:
            with self._index.change():
                for block in blocks:
                    if self._index.digest(block.name) == block.digest:
                        self._put_in_place(block, block in written)
        finally:
            for block in blocks:
                unlink(self._temporary_path(block))
        if len(written) == len(blocks):
            self._warned = False

    def _write_temporary(self, blocks: list[NewBlock]) -> list[NewBlock]:
        """Write ``blocks`` one after another; those that could be."""
        written = []
        try:
            self._temporary.mkdir(mode=0o700, exist_ok=True)
            for block in blocks:
                block_files.write(self._temporary_path(block), block)
                written.append(block)
        except OSError as error:
            self._warn(error)
        return written

    def _put_in_place(self, block: NewBlock, is_written: bool) -> None:
        path = self._path(block.name)
        try:
            if is_written:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                self._temporary_path(block).replace(path)
                self._outcome.kept.append(block)
                return
        except OSError as error:
            self._warn(error)
        unlink(path)
        self._index.remove(block.name)

    def _evict(self, rows: list[Row]) -> None:
        self._remove(rows)
        self._outcome.gone += rows

    def _remove(self, rows: list[Row]) -> None:
        """Remove files, then rows; in a change."""
        for row in rows:
            self._path(row.name).unlink(missing_ok=True)
            self._index.remove(row.name)

    def _tidy_after_power_cut(self) -> None:
        """Where the machine has been started since, rows may be missing whose files are there."""
        boot = boot_id()
        if self._index.boot() != boot:
            self.remove_orphans()
            with self._index.change():
                self._index.set_boot(boot)

    def _path(self, name: bytes) -> Path:
        return block_files.path_of(self._directory, name)

    def _temporary_path(self, block: NewBlock) -> Path:
        return self._temporary / f"{block.name.hex()}-{self._token}"

    # --- when it fails -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._index.open()
            self._index.total()
        except sqlite3.OperationalError:  # no place, no right, no space: nothing is wrong with the file
            raise
        except sqlite3.DatabaseError as error:
            self._start_anew(error)

    def _start_anew_after(self, error: Exception) -> None:
        """The index is damaged; or there is a mistake in here, which must not end the mount either."""
        if not isinstance(error, sqlite3.DatabaseError):
            log.error("%s: unexpected", self._directory, exc_info=error)
        self._outcome = Outcome(has_dropped=True, is_anew=True)
        try:
            self._start_anew(error)
            self._damage = None
            self.size = self._index.total()
        except (OSError, sqlite3.Error) as failure:
            self._outcome.has_dropped = False
            self._warn(failure)

    def _start_anew(self, error: Exception) -> None:
        def remove() -> None:
            if not self._warned:
                log.warning("%s is damaged (%s): starting it anew", self._index.path, error)
            remove_all(self._directory)

        self._index.start_anew(remove)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            log.warning("%s cannot be used (%s): what comes is not kept on disk", self._directory, error)
        self._warned = True

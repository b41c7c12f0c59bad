"""The disk cache of all mounts that share a directory: block files and their index, kept in step. No event loop here.

There is never a file without a row: a row is committed before its file is renamed into place, and goes after its file
is gone, both under the index's lock. So a kill at any instant leaves rows without files, which are misses, and files in
``tmp``, which the next mounts remove. Nothing is synced to disk: a kill loses no page the kernel has, and what a power
cut loses the digests find out.
"""

from __future__ import annotations

import errno
import logging
import secrets
import sqlite3
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import Damaged, UsageError
from . import block_files
from .amounts import FREE_SHARE, spare_on_disk
from .block_files import NewBlock
from .blocks import Key
from .disk_directory import (
    block_path,
    blocks_in,
    boot_id,
    claim,
    directories_in,
    name_at,
    remove_all,
    remove_leftovers,
    temporary_path,
    unlink,
)
from .disk_index import DiskIndex, IndexDamaged, Row
from .disk_work import Miss, Outcome, Work

log = logging.getLogger(__name__)

UNBOUNDED = sys.maxsize
"""A capacity with which nothing is ever evicted."""
_EVICTED_SHARE = 0.02
"""Of the capacity; evicted at once, so that not every block has to look for another that goes."""
_ROUND_BLOCKS = 500
"""Removed under one lock: some 20 ms, then other mounts have their turn."""
_MOST_ROUNDS = 20
"""Of eviction before a block is written; where there is more to remove (the capacity was lowered), nothing is kept
meanwhile, and nobody waits for long."""


class _Compared(NamedTuple):
    """Blocks that are to be kept, beside those that are."""

    kept: list[NewBlock]
    missing: list[NewBlock]
    replaced: list[Row]
    """Removed: the archive has other bytes of their instances now."""


class _Reserved(NamedTuple):
    is_enough: bool
    evicted: list[Row]


class BlockStore:
    """``read`` and ``look_up`` may be called in many threads, everything else in one at a time.

    Who looks up waits for one change of the index at most, never for files being written.
    """

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        """Open what is there, or make it.

        :raises UsageError: if the directory is not ours.
        :raises OSError, sqlite3.Error: if it cannot be used.
        """
        self._directory = directory
        self._capacity = capacity_bytes
        self._token = secrets.token_hex(8)  # tells our temporary files from those of others
        self._has_warned = False
        self._unexpected: set[type[Exception]] = set()
        self.index = DiskIndex(directory)
        """For those who keep the cache in order."""
        self.generation = 0
        """Higher whenever all that was kept is gone, because the index was damaged."""
        self._anew = threading.Lock()
        claim(directory)
        try:
            self.index.open()
            self.size = self.index.total()
            """Bytes on disk, as last seen."""
        except IndexDamaged as error:
            self.start_anew(error)
        self._is_tidy = self.index.boot() == boot_id()
        self.capacity = self._effective_capacity()
        """Bytes it may take on disk, as last seen: less than was asked for where the disk is nearly full."""
        remove_leftovers(directory)

    def close(self) -> None:
        """Let go of the index."""
        self.index.close()

    def look_up(self, key: Key) -> dict[int, bytes] | None:
        """Digests of the blocks that are kept of an instance, by number; None if that cannot be told now."""
        generation = self.generation
        try:
            return self.index.digests(key)
        except Exception as error:
            return {} if self._recover(error, generation) else None

    def look_up_series(self, content: str, most: int) -> dict[Key, dict[int, bytes]] | None:
        """Digests of the blocks that are kept of a series, by instance and number.

        None if they are more than ``most``, or that cannot be told now.
        """
        generation = self.generation
        try:
            return self.index.series_digests(content, most)
        except Exception as error:
            return {} if self._recover(error, generation) else None

    def read(self, name: bytes, number: int, digest: bytes) -> bytes | Miss:
        """The bytes of a block that should have ``digest``. A damaged file is removed."""
        path = self._path(name)
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

    def apply(self, work: Work) -> Outcome:
        """Do ``work``. Never raises: what cannot be done is not kept."""
        outcome, generation = Outcome(), self.generation
        try:
            self._apply(work, outcome)
            self.size, self.capacity = self.index.total(), self._effective_capacity()
        except Exception as error:
            if self._recover(error, generation):
                return Outcome(has_dropped=True)
        return outcome

    # --- removing ----------------------------------------------------------------------------------------------------

    def remove_oldest(self) -> bool:
        """Remove a round of blocks; whether there were any."""
        with self.index.change():
            rows = self.index.oldest(_ROUND_BLOCKS)
            self._remove(rows)
        return bool(rows)

    def remove_lost(self, names: Iterable[bytes]) -> None:
        """Remove the rows of those of these blocks whose files are not there."""
        with self.index.change():
            for name in names:
                if not self._path(name).is_file():
                    self.index.remove(name)

    def remove_orphans(self) -> int:
        """Remove files without rows, and return how many there were."""
        return sum(self._remove_orphans_in(directory) for directory in directories_in(self._directory))

    def start_anew(self, error: IndexDamaged) -> None:
        """Remove everything, since the index is damaged; unless another mount has done so already."""

        def remove() -> None:
            if not self._has_warned:
                log.warning("%s is damaged (%s): starting it anew", self.index.path, error)
            remove_all(self._directory)

        self.index.start_anew(remove)
        self.generation += 1
        self.size = self.index.total()

    def _remove_orphans_in(self, directory: Path) -> int:
        with self.index.change():
            orphans = [path for path in blocks_in(directory) if self.index.digest(name_at(path)) is None]
            return sum(map(unlink, orphans))

    def _remove(self, rows: list[Row]) -> None:
        """Remove files, then rows; in a change."""
        for row in rows:
            self._path(row.name).unlink(missing_ok=True)
            self.index.remove(row.name)

    # --- changing ----------------------------------------------------------------------------------------------------

    def _apply(self, work: Work, outcome: Outcome) -> None:
        """Do ``work``; ``outcome`` says how far it came if there is an exception."""
        if not self.index.is_current:
            claim(self._directory)  # somebody may have removed it
        self._tidy_after_power_cut()
        outcome.absent = self._note(work)
        outcome.has_dropped = True
        outcome.kept, missing, outcome.gone = self._compared(list(work.blocks.values()))
        blocks = self._fitting(missing)
        reserved = self._reserve(blocks)
        outcome.gone += reserved.evicted
        outcome.has_more = bool(reserved.evicted) and not reserved.is_enough
        if blocks and reserved.is_enough:
            outcome.kept += self._write(blocks)

    def _tidy_after_power_cut(self) -> None:
        """Where the machine has been started since the last mount, rows may be missing whose files are there."""
        if not self._is_tidy:
            self.remove_orphans()
            with self.index.change():
                self.index.set_boot(boot_id())
            self._is_tidy = True

    def _note(self, work: Work) -> list[tuple[Key, int]]:
        """Do what makes no block; returns the used ones that are not kept."""
        if work.lost:
            self.remove_lost(work.lost)
        with self.index.change():
            for key in work.drops:
                self._remove(self.index.blocks(key))
            return [work.used[name] for name in self.index.touch(work.used)]

    def _compared(self, blocks: list[NewBlock]) -> _Compared:
        """Which of ``blocks`` are kept already.

        An instance of which other bytes are kept has been replaced in the archive. Which bytes are the new ones cannot
        be told, and they must not be mixed: nothing of it is kept.
        """
        with self.index.change():
            digests = {block.name: self.index.digest(block.name) for block in blocks}
            replaced = {block.key for block in blocks if digests[block.name] not in (None, block.digest)}
            gone = [row for key in replaced for row in self._drop_replaced(key)]
            blocks = [block for block in blocks if block.key not in replaced]
            kept = [block for block in blocks if digests[block.name] and self._path(block.name).is_file()]
            names = {block.name: None for block in kept}
            self.index.touch(names)
        return _Compared(kept, [block for block in blocks if block.name not in names], gone)

    def _drop_replaced(self, key: Key) -> list[Row]:
        log.info("instance %s: other bytes of it are kept: it is dropped", key[1])
        rows = self.index.blocks(key)
        self._remove(rows)
        return rows

    def _fitting(self, blocks: list[NewBlock]) -> list[NewBlock]:
        """The last of ``blocks``, as many as fit at all."""
        left = capacity = self._effective_capacity()
        fitting: list[NewBlock] = []
        for block in reversed(blocks):
            if block.disk_bytes <= left:
                left -= block.disk_bytes
                fitting.append(block)
            elif capacity < block.disk_bytes <= self._capacity:
                self._warn(OSError(errno.ENOSPC, f"less than {FREE_SHARE:.0%} of the disk is free"))
        return fitting[::-1]

    def _reserve(self, blocks: list[NewBlock]) -> _Reserved:
        """Make room for ``blocks`` and add their rows, if there is enough."""
        needed = sum(block.disk_bytes for block in blocks)
        evicted: list[Row] = []
        for _ in range(_MOST_ROUNDS):
            with self.index.change():
                reserved = self._make_room(needed)
                evicted += reserved.evicted
                if reserved.is_enough:
                    self.index.add(blocks)
                    return _Reserved(True, evicted)
        return _Reserved(False, evicted)

    def _make_room(self, needed: int) -> _Reserved:
        """Evict a round of blocks, if need be, so that there is room for ``needed`` bytes."""
        capacity = self._effective_capacity()
        left = self.index.total() + needed
        if left <= capacity:
            return _Reserved(True, [])
        rows = self.index.oldest(_ROUND_BLOCKS)
        if not rows:
            self.index.recount()  # only a damaged total can be the reason
        evicted: list[Row] = []
        while len(evicted) < len(rows) and left > capacity * (1 - _EVICTED_SHARE):
            evicted.append(rows[len(evicted)])
            left -= evicted[-1].disk_bytes
        self._remove(evicted)
        return _Reserved(left <= capacity, evicted)

    def _effective_capacity(self) -> int:
        """Bytes that may be kept: never so many that the disk is full for others."""
        if self._capacity == UNBOUNDED:
            return UNBOUNDED
        return max(0, min(self._capacity, self.index.total() + spare_on_disk(self._directory)))

    def _write(self, blocks: list[NewBlock]) -> list[NewBlock]:
        """Write ``blocks``, which have rows. Those whose row has been removed meanwhile are not kept."""
        written = self._write_temporary(blocks)
        is_all = len(written) == len(blocks)
        try:
            with self.index.change():
                wanted = [block for block in blocks if self.index.digest(block.name) == block.digest]
                kept = [block for block in wanted if self._put_in_place(block, block.name in written)]
            written -= {block.name for block in kept}
        finally:
            for block in blocks:
                if block.name in written:
                    unlink(self._temporary_path(block))
        if is_all:
            self._has_warned = False
        return kept

    def _write_temporary(self, blocks: list[NewBlock]) -> set[bytes]:
        """Write ``blocks`` one after another; names of those that could be."""
        written = set()
        try:
            for number, block in enumerate(blocks):
                path = self._temporary_path(block)
                if number == 0:
                    path.parent.mkdir(mode=0o700, exist_ok=True)
                written.add(block.name)  # in part, if there is no room
                block_files.write(path, block)
        except OSError as error:
            unlink(path)
            written.discard(block.name)
            self._warn(error)
        return written

    def _put_in_place(self, block: NewBlock, is_written: bool) -> bool:
        """Rename the file of ``block`` to where it belongs; without it, it has no row either."""
        path = self._path(block.name)
        try:
            if is_written:
                self._rename(self._temporary_path(block), path)
                return True
        except OSError as error:
            self._warn(error)
        unlink(path)
        self.index.remove(block.name)
        return False

    def _rename(self, temporary: Path, path: Path) -> None:
        try:
            temporary.replace(path)
        except FileNotFoundError:  # the first one here
            path.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.replace(path)

    def _path(self, name: bytes) -> Path:
        return block_path(self._directory, name)

    def _temporary_path(self, block: NewBlock) -> Path:
        return temporary_path(self._directory, block.name, self._token)

    # --- when it fails -----------------------------------------------------------------------------------------------

    def _recover(self, error: Exception, generation: int) -> bool:
        """Be ready for what comes next; whether all that was kept is gone. Nothing but damage is a reason for that."""
        if isinstance(error, IndexDamaged):
            return self._has_started_anew(error, generation)
        if isinstance(error, (OSError, UsageError, sqlite3.OperationalError)):
            self._warn(error)
        elif type(error) not in self._unexpected:
            log.error("%s: unexpected; not all is kept on disk", self._directory, exc_info=error)
            self._unexpected.add(type(error))
        return False

    def _has_started_anew(self, error: IndexDamaged, generation: int) -> bool:
        try:
            with self._anew:
                if generation == self.generation:  # else another thread has met the damage first
                    self.start_anew(error)
        except (OSError, sqlite3.Error, IndexDamaged) as failure:
            self._warn(failure)
            return False
        return True

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            log.warning("%s cannot be used (%s): what comes is not kept on disk", self._directory, error)
        self._has_warned = True


def open_store(directory: Path, capacity_bytes: int) -> BlockStore | None:
    """The store in ``directory``; None, and a line in the log, where that cannot be used."""
    try:
        return BlockStore(directory, capacity_bytes)
    except (OSError, UsageError, sqlite3.Error, IndexDamaged) as error:
        log.warning("%s cannot be used (%s): contents are kept in memory only", directory, error)
        return None

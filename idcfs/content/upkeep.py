"""Looking after a disk cache from outside, also while mounts use it: what is in it, empty it, check it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from .disk_directory import check_ours, index_path, remove_leftovers
from .disk_index import CacheInfo, DiskIndex, IndexDamaged, Row
from .disk_store import UNBOUNDED, BlockStore
from .disk_work import Miss

__all__ = ["CacheInfo", "Verified", "clear", "info", "verify"]

_ROWS = 500
"""Looked at together; what is not held cannot fill the memory."""


@dataclass(slots=True)
class Verified:
    """What ``verify`` has found; all of it but the good blocks is removed.

    A block that cannot be opened now (no right, too many open files), or that a mount is replacing, is left alone and
    counted nowhere.
    """

    blocks: int = 0
    """Blocks that are as they were written."""
    bytes: int = 0
    """What they take on disk."""
    damaged_blocks: int = 0
    damaged_bytes: int = 0
    absent_blocks: int = 0
    """In the index, but not on disk: a killed mount's."""
    orphans: int = 0
    """Files that the index does not know."""
    leftovers: int = 0
    """Files that killed mounts were writing."""


def info(directory: Path) -> CacheInfo:
    """What the disk cache in ``directory`` holds; zeros where there is none.

    :raises UsageError: if it cannot be looked at.
    """
    with _errors_told(directory):
        if not _is_cache(directory):
            return CacheInfo()
        with closing(DiskIndex(directory)) as index:
            return index.info()


def clear(directory: Path) -> CacheInfo:
    """Remove every block from the disk cache in ``directory``; returns what was there, as far as that can be told.

    :raises UsageError: if that cannot be done.
    """
    with _errors_told(directory):
        if not _is_cache(directory):
            return CacheInfo()
        with closing(_store(directory)) as store:
            try:
                before = store.index.info()
                while store.remove_oldest():
                    pass
            except IndexDamaged as error:
                store.start_anew(error)
                return CacheInfo()
            store.remove_orphans()
            return before


def verify(directory: Path, progress: Callable[[int], None] = lambda _: None) -> Verified:
    """Read every block of the disk cache in ``directory``; whatever is not as it was written is removed.

    :param progress: told the bytes looked at so far.
    :raises UsageError: if that cannot be done.
    """
    verified = Verified()
    with _errors_told(directory):
        if not _is_cache(directory):
            return verified
        verified.leftovers = remove_leftovers(directory)
        with closing(_store(directory)) as store:
            _verify_blocks(store, verified, progress)
            verified.orphans = store.remove_orphans()
            with store.index.change():
                store.index.recount()
    return verified


def _verify_blocks(store: BlockStore, verified: Verified, progress: Callable[[int], None]) -> None:
    done = 0
    last = b""
    while rows := store.index.after(last, _ROWS):
        for row in rows:
            found = _verify_block(store, row)
            if found is Miss.DAMAGED:
                verified.damaged_blocks += 1
                verified.damaged_bytes += row.disk_bytes
            elif found is Miss.ABSENT:
                verified.absent_blocks += 1
            elif isinstance(found, bytes):
                verified.blocks += 1
                verified.bytes += row.disk_bytes
            done += row.disk_bytes
            progress(done)
        last = rows[-1].name


def _verify_block(store: BlockStore, row: Row) -> bytes | Miss:
    """Read a block; one that is damaged or absent is removed with its row."""
    found = store.read(row.name, row.number, row.digest)
    if found in (Miss.ABSENT, Miss.DAMAGED):
        store.remove_lost([row.name])
    return found


def _store(directory: Path) -> BlockStore:
    return BlockStore(directory, UNBOUNDED)  # nothing is evicted for looking


def _is_cache(directory: Path) -> bool:
    """Whether there is a disk cache at all.

    :raises UsageError: if what is there is not ours.
    """
    try:
        check_ours(directory)
    except FileNotFoundError:
        return False
    return index_path(directory).exists()


@contextmanager
def _errors_told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"the disk cache {directory} cannot be used: {error.strerror}") from error
    except sqlite3.Error as error:
        raise UsageError(f"the disk cache {directory} cannot be used now: {error}") from error
    except IndexDamaged as error:
        raise UsageError(f"the index of the disk cache {directory} is damaged ({error}): clear the cache") from error

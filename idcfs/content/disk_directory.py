"""The directory of the disk cache: whose it is, and what lies where. Nothing else in it is ever touched.

directory/index.sqlite       one row per block; SQLite makes index.sqlite-wal and index.sqlite-shm beside it
directory/xx/<32 digits>     one file per block, by its name in hexadecimal; 256 directories, none of them large
directory/tmp/               files that are being written
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from .. import trust
from ..errors import UsageError

_INDEX = "index.sqlite"
_INDEX_FILES = (f"{_INDEX}-wal", f"{_INDEX}-shm", _INDEX)
"""In the order in which they are to be removed: a database without its log is an old one, a log alone is nothing."""
_TEMPORARY = "tmp"
_LEFTOVER_SECONDS = 600.0
"""A file that has been in ``tmp`` for so long is nobody's: writing one takes milliseconds."""
_NAME = re.compile(r"[0-9a-f]{32}")
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]+")
_DIRECTORY = re.compile(r"[0-9a-f]{2}")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def claim(directory: Path) -> None:
    """Make ``directory`` ours, for nobody else to look into.

    :raises UsageError: if it is another user's, or a symbolic link, which may lead anywhere.
    :raises OSError: if it cannot be made.
    """
    trust.make_directory(directory)
    check_ours(directory)
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        directory.chmod(0o700)


def check_ours(directory: Path) -> None:
    """See that ``directory`` is one, and ours.

    :raises UsageError: if not.
    :raises OSError: if it is not there.
    """
    found = directory.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(f"{directory} is a symbolic link: give the directory itself")
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{directory} is not a directory")
    if found.st_uid != os.geteuid():
        raise UsageError(f"{directory} belongs to another user")


# --- what lies where -------------------------------------------------------------------------------------------------


def index_path(directory: Path) -> Path:
    """The index; to be opened by SQLite alone, see ``DiskIndex``."""
    return directory / _INDEX


def block_path(directory: Path, name: bytes) -> Path:
    """Where the block ``name`` lies."""
    digits = name.hex()
    return directory / digits[:2] / digits


def name_at(path: Path) -> bytes:
    """Name of the block that lies at ``path``."""
    return bytes.fromhex(path.name)


def temporary_path(directory: Path, name: bytes, token: str) -> Path:
    """Where the block ``name`` is written; ``token`` tells the writers apart."""
    return directory / _TEMPORARY / f"{name.hex()}-{token}"


def directories_in(directory: Path) -> Iterator[Path]:
    """Those that blocks lie in; no links to others, where what looks like a block may be anybody's."""
    return (path for path in _entries(directory, _DIRECTORY) if not path.is_symlink())


def blocks_in(directory: Path) -> Iterator[Path]:
    """The blocks in one of ``directories_in``."""
    return _entries(directory, _NAME)


# --- removing --------------------------------------------------------------------------------------------------------


def remove_all(directory: Path) -> None:
    """Remove whatever is ours in ``directory``, the index last."""
    for inner in directories_in(directory):
        for path in blocks_in(inner):
            unlink(path)
    for name in _INDEX_FILES:
        (directory / name).unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> int:
    """Remove what killed mounts were writing, and return how many files that were."""
    temporary = directory / _TEMPORARY
    if temporary.is_symlink():  # whatever it leads to is not what mounts were writing
        temporary.unlink(missing_ok=True)
    temporary.mkdir(mode=0o700, exist_ok=True)
    newest = time.time() - _LEFTOVER_SECONDS
    return sum(unlink(path) for path in _entries(temporary, _TEMPORARY_NAME) if _changed(path) < newest)


def unlink(path: Path) -> bool:
    """Remove a file; whether that could be done."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def boot_id() -> str:
    """Tells one run of the machine from the next."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _entries(directory: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    names = os.listdir(directory) if directory.is_dir() else []
    return (directory / name for name in names if pattern.fullmatch(name))


def _changed(path: Path) -> float:
    """When a file was written last, in seconds since the epoch; now if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()

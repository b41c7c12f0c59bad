"""Whether others may change what is to be believed: what they could write, they could have made up, or made a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import UsageError


def is_anothers(status: os.stat_result) -> bool:
    """Whether somebody owns it who is neither this user nor root."""
    return status.st_uid not in (0, os.geteuid())


def is_open_to_all(status: os.stat_result) -> bool:
    """Whether everybody may write it."""
    return bool(status.st_mode & stat.S_IWOTH)


def make_directory(directory: Path) -> None:
    """Make ``directory`` for nobody else to look into, and what is missing above it for nobody else to write into.

    Of what lies above, the umask alone would decide, which is 0 for some services and containers.

    :raises OSError: if it cannot be made.
    """
    for parent in reversed(directory.parents):
        if not parent.exists():
            parent.mkdir(mode=0o755, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)


def check_directory(directory: Path, name: str) -> None:
    """See that nobody else decides what lies in ``directory``; its group is trusted, since users' own is often theirs.

    :param name: what it is, in messages.
    :raises UsageError: if it is another user's, or led to by another's link, or everybody may write into it.
    :raises OSError: if it is not there.
    """
    status = directory.stat()
    if is_anothers(directory.lstat()) or is_anothers(status):
        raise UsageError(f"the {name} {directory} belongs to another user, who could change what lies in it")
    if is_open_to_all(status):
        raise UsageError(
            f"everybody may write into the {name} {directory}: give another, or one in it, or 'chmod o-w' it"
        )

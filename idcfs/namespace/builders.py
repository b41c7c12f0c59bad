"""What keeps builders of catalogs, and of what is made of them, out of each other's way."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK_NAME = "catalog.lock"
"""A file in each directory that has catalogs. It stays: it is what all share."""
_QUIET_SECONDS = 3.0
"""Longest wait for another one that nobody hears of."""
_POLL_SECONDS = 0.05


@contextmanager
def building_in(directory: Path, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Nobody else writes or clears catalogs in ``directory`` within such a block; waits for as long as that takes.

    :param tell: is told, once, if that is long.
    :raises OSError: if it is no directory, or cannot be written.
    """
    with (directory / LOCK_NAME).open("w") as lock:
        if tell is None or not _is_free_soon(lock):
            if tell is not None:
                tell(f"waiting for another idcfs that builds a catalog in {directory}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_free_soon(lock: IO[str]) -> bool:
    """Whether ``lock`` is ours now."""
    end = time.monotonic() + _QUIET_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True

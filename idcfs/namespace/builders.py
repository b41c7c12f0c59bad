"""What keeps builders of catalogs, and of what is made of them, out of each other's way."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "catalog.lock"
"""A file in each directory that has catalogs. It stays: it is what all share."""


@contextmanager
def building_in(directory: Path) -> Iterator[None]:
    """Nobody else writes or clears catalogs in ``directory`` within such a block; waits for as long as that takes.

    :raises OSError: if it is no directory, or cannot be written.
    """
    with (directory / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

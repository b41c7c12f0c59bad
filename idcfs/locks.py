"""A lock that all processes share which use a directory."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.05


@contextmanager
def locked(directory: Path, patience_seconds: float) -> Iterator[None]:
    """Nobody else who locks ``directory`` is within such a block; a killed process lets go by itself.

    :raises OSError: if somebody else holds it for longer than that, or it is no directory.
    """
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(file)

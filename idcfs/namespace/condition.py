"""Conditions in SQL, each evaluated in a process of its own (``where.py``) whose time and memory have an end.

DuckDB bounds neither by itself: it looks up only between one batch of rows and the next, and does not count what
functions make. So the kernel does, which ends whoever has too much of either.
"""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from .process import WHERE, run_apart

LIMIT_SECONDS = 60.0
"""Over the packaged index a condition takes one to four seconds."""
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
"""What Python may need of the environment to find itself. A condition is to find nothing else in it."""


def rows_that_fit(source: Path, condition: str, limit_seconds: float = LIMIT_SECONDS) -> Any:
    """The numbers of the rows of the parquet file ``source`` for which ``condition`` is true, as a numpy array in no
    order.

    :raises UsageError: in one line, if it is no condition, reads anything else, fails, or takes more than it may.
    """
    try:
        text = condition.encode()
    except UnicodeEncodeError:
        raise UsageError("--where: it is no text in UTF-8") from None
    with tempfile.TemporaryFile() as rows:
        words = (str(os.getpid()), f"{limit_seconds:g}", str(source))
        code, reason = run_apart(WHERE, *words, lines=[text], output=rows, environment=_environment())
        if code == 0:
            rows.seek(0)
            return np.frombuffer(rows.read(), np.int64)
    if code == -signal.SIGALRM:
        raise UsageError(f"--where: not done within {limit_seconds:g} s")
    if code < 0:
        raise UsageError(f"--where: DuckDB fails at it, as where it needs too much memory ({reason})")
    raise UsageError(reason)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # Arrow's other pools set 1 GiB aside at once, and each thread its stack, which would count as used. Times mean the
    # same everywhere.
    return kept | {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "4", "TZ": "UTC"}

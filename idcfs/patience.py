"""The rule for disks: one that does not give, or take, some MiB in 20 s hangs, and nobody waits for it any longer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import trio

_PATIENCE_SECONDS = 20.0
"""A disk that has to spin up does not take as long."""

_THREADS = trio.CapacityLimiter(math.inf)
"""Whoever needs one has waited already: what counts against the patience is the work, not who was there before."""

T = TypeVar("T")


async def in_time(work: Callable[[], T]) -> T:
    """What ``work``, in a thread, gives. A thread whose work does not end is left behind, also by who is cancelled.

    :raises trio.TooSlowError: if it does not end: the disk hangs, and had better not be asked any more.
    """
    with trio.fail_after(_PATIENCE_SECONDS):
        return await trio.to_thread.run_sync(work, limiter=_THREADS, abandon_on_cancel=True)

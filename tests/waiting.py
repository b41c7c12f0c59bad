"""Waiting for what happens in a thread or another process."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 20.0
"""How long is waited for what has to come; a test that succeeds never waits so long."""


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true before patience ends."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False

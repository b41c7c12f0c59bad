"""When something was measured, and of what."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path


def today() -> str:
    """The date, by UTC, as in ``2026-01-31``."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def commit() -> str:
    """Of the checkout, with ``-dirty`` behind it if that is changed; empty if it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

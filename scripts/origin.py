"""When something was measured, and of what."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path
from typing import NamedTuple


class Origin(NamedTuple):
    """Of figures."""

    taken: str
    """The date, by UTC, as in ``2026-01-31``."""
    commit: str
    """That of the checkout, with ``-dirty`` behind it if that is changed; or ``unknown``."""


def origin() -> Origin:
    """Of what is measured from now on: measuring may write into the checkout, and people commit meanwhile."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Origin(datetime.datetime.now(datetime.UTC).date().isoformat(), done.stdout.strip() or "unknown")

"""What a check of ``idcfs doctor`` has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and where something is wrong, what to do."""

    check: str
    state: Literal["ok", "warn", "fail"]
    """``warn``: idcfs works, but not all that a user may expect; ``fail``: something does not work."""
    said: str
    remedy: str = ""


def ok(check: str, said: str) -> Finding:
    """It is as it should be."""
    return Finding(check, "ok", said)


def warn(check: str, said: str, remedy: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding(check, "warn", said, remedy)


def fail(check: str, said: str, remedy: str) -> Finding:
    """It does not work before somebody has done what the remedy says."""
    return Finding(check, "fail", said, remedy)

"""What a check of ``idcfs doctor`` has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and where something is wrong, what to do."""

    check: str
    state: Literal["ok", "warn", "fail"]
    """``warn``: idcfs works, but not all that a user may expect; ``fail``: something does not work."""
    said: str
    remedy: str = ""

    @classmethod
    def ok(cls, check: str, said: str) -> Self:
        """It is as it should be."""
        return cls(check, "ok", said)

    @classmethod
    def warn(cls, check: str, said: str, remedy: str) -> Self:
        """It works, but not as well as it could."""
        return cls(check, "warn", said, remedy)

    @classmethod
    def fail(cls, check: str, said: str, remedy: str) -> Self:
        """It does not work before somebody has done what the remedy says."""
        return cls(check, "fail", said, remedy)

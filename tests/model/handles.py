"""What a machine has open, and what may fail meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.model.face import Piece
from tests.model.reference import File, Reference


@dataclass(eq=False)
class OpenFile:
    """A handle."""

    file: File
    number: int
    size: int

    def piece(self, offset: int, length: int) -> Piece:
        """A read of it; from the end, where ``offset`` is negative."""
        return Piece(self.number, max(0, self.size + offset) if offset < 0 else offset, length)


@dataclass(eq=False)
class OpenDirectory:
    """A handle, what it lists, and where each of the names that have come begins."""

    number: int
    names: Sequence[str]
    starts: list[int]
    at: int = 0


class MayFail:
    """A context in which what fails as it may has failed, and that is all."""

    def __init__(self, reference: Reference, allowed: Collection[int], what: str) -> None:
        self._reference = reference
        self._allowed = allowed
        self._what = what

    def __enter__(self) -> None:
        """Nothing has failed yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, OSError):
            return False
        self._reference.note_error(error, self._allowed, self._what)
        return True

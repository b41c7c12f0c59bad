"""What readers do at this moment, in a file that they and who watches them map: a place for each, and one word to all.

A reader that is killed, or hangs in the kernel, cannot say what it did; what it was about to do stands here.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

GO, REST, END = 0, 1, 2
"""Words to all: read; do nothing; end."""
_HEAD_BYTES = 8
_MARK = struct.Struct("<ddH16s200s")
_BUSY, _RESTING = 1, 2


@dataclass(frozen=True, slots=True)
class Mark:
    """What one does."""

    since: float
    """When the call began, by the monotonic clock, in s; 0: it is in none."""
    opened: float
    """When the file was opened that the call is about; else as ``since``."""
    is_resting: bool
    mount: str
    what: str


class Marks:
    """The file; every process maps it."""

    def __init__(self, path: Path, places: int = 0) -> None:
        """
        :param places: makes a new file, for so many.
        """
        if places:
            path.write_bytes(bytes(_HEAD_BYTES + places * _MARK.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @property
    def word(self) -> int:
        return self._map[0]

    @word.setter
    def word(self, word: int) -> None:
        self._map[0] = word

    def begin(self, place: int, since: float, opened: float, mount: str, what: str) -> None:
        """A call begins."""
        fields = since, opened, _BUSY, mount.encode(), what.encode()
        _MARK.pack_into(self._map, _HEAD_BYTES + place * _MARK.size, *fields)

    def end(self, place: int, *, resting: bool = False) -> None:
        """It has ended; or there is none, since all rest."""
        _MARK.pack_into(self._map, _HEAD_BYTES + place * _MARK.size, 0.0, 0.0, _RESTING * resting, b"", b"")

    def read(self, place: int) -> Mark:
        since, opened, state, mount, what = _MARK.unpack_from(self._map, _HEAD_BYTES + place * _MARK.size)
        return Mark(since, opened, state == _RESTING, _text(mount), _text(what))


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="replace")

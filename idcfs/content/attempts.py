"""How often a download may be opened again, and from how many places, before a failure is its readers'."""

from __future__ import annotations

from ..deadline import FLOOR_BYTES

RESTART_SECONDS = 0.2
"""Pause before a broken download is opened again."""
_BREAKS_WITHOUT_GAIN = 2
"""A body that breaks off at the same byte once more is the archive's last word."""
_BREAKS_WITHOUT_PROGRESS = 3
"""And so are those, one after the other, that bring hardly more."""
_MAX_BREAKS = 8
"""Where the source starts at 0 only, each one costs the bytes received so far once more."""
MAX_PLACES = 3
"""Places from which one download fetches, one after the other, whatever the source says of more."""


class Attempts:
    """Those of one download."""

    def __init__(self) -> None:
        self._places = 1
        self._breaks = 0
        self._without_gain = self._without_progress = 0

    @property
    def may_go_elsewhere(self) -> bool:
        """Whether one more place may be asked for."""
        return self._places < MAX_PLACES

    def go_elsewhere(self) -> None:
        """From here on it comes from another place, which has broken off nothing yet."""
        self._places += 1
        self._breaks = self._without_gain = self._without_progress = 0

    def break_off(self, gained: int) -> bool:
        """A body has broken off, after so many bytes that nobody had before; whether it may be opened again."""
        self._breaks += 1
        self._without_gain = 0 if gained > 0 else self._without_gain + 1
        self._without_progress = 0 if gained >= FLOOR_BYTES else self._without_progress + 1
        is_stuck = self._without_gain >= _BREAKS_WITHOUT_GAIN or self._without_progress >= _BREAKS_WITHOUT_PROGRESS
        return not is_stuck and self._breaks < _MAX_BREAKS

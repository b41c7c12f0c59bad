"""Whether a server sends ranges, as far as its answers have shown.

One answer that fits no other is about what was asked for: a page for people, or an object that is sent whole. What a
server can do is only taken back after several in a row.
"""

from __future__ import annotations

from collections.abc import Hashable

import trio
from cachetools import TTLCache

_WHOLE_SECONDS = 600.0
"""How long all is asked for of what could not be had in part."""
_MAX_WHOLE = 100_000
_CONTRADICTIONS = 3
"""Different resources in a row that come whole, or not at all, where a part was asked for."""


class RangeHabit:
    """That of one server, or bucket."""

    def __init__(self, *, known: bool | None = None) -> None:
        """
        :param known: whether it sends ranges, if that is known beforehand.
        """
        self.known = known
        """Whether it sends ranges; None: it has not shown it yet."""
        self._whole: TTLCache[Hashable, bool] = TTLCache(_MAX_WHOLE, _WHOLE_SECONDS, trio.current_time)
        self._in_a_row: set[Hashable] = set()

    def may_send(self, resource: Hashable) -> bool:
        """Whether it makes sense to ask for a part of ``resource``."""
        return self.known is not False and resource not in self._whole

    def note_range(self) -> None:
        """What was asked for has come, and no more."""
        self.known = True
        self._in_a_row.clear()

    def note_whole(self, resource: Hashable) -> None:
        """All of ``resource`` has come where a part was asked for: who has never sent a part cannot."""
        if self.known is None:
            self.known = False
        self._note(resource)

    def note_odd(self, resource: Hashable) -> None:
        """Something else has come where a part was asked for: that alone says nothing of who has sent parts before."""
        if self.known is None:
            self._note(resource)
        else:
            self._whole[resource] = True

    def _note(self, resource: Hashable) -> None:
        self._whole[resource] = True
        self._in_a_row.add(resource)
        if len(self._in_a_row) >= _CONTRADICTIONS:
            self.known = False

"""How far a download runs ahead of its readers, and where it stands still.

It stands still by taking no more of the body: TCP's own flow control then holds the sender.
"""

from __future__ import annotations

import trio

from ..deadline import Progress
from ..settings import BLOCK_BYTES, MIB
from .amounts import HEADER_BYTES
from .arrival import Arrival
from .blocks import block_count
from .slots import Slot
from .waiters import Waiters

_SPARE_AFTER_SECONDS = 0.2
"""How long a download stands still before it has to give way to others: far longer than a reader's pause between two
reads, far shorter than anybody's patience."""

_ENOUGH_FOR_A_HEADER = HEADER_BYTES + MIB // 2
"""As long as it may be a header that somebody reads, no more than this is fetched."""

_TO_THE_END = 1 << 62


class Pace:
    """That of one download."""

    def __init__(self, arrival: Arrival, waiters: Waiters, progress: Progress, read_ahead_bytes: int) -> None:
        """
        :param arrival: what has come, and
        :param waiters: who waits; both are only looked at here.
        :param progress: its clock stops while the download stands still.
        """
        self._arrival = arrival
        self._waiters = waiters
        self._progress = progress
        self._read_ahead_bytes = read_ahead_bytes
        self._slot: Slot | None = None  # while it stands still
        self._more = trio.Event()
        self.wanted_end = 0
        """Up to which byte somebody reads, or has read."""

    @property
    def is_for_size(self) -> bool:
        """Whether somebody waits for the size and only the end may show it."""
        return self._waiters.is_size_awaited and not self._arrival.has_proven_size

    def run_to(self, end: int) -> None:
        """Somebody reads up to byte ``end``."""
        if end > self.wanted_end:
            self.wanted_end = end
            self.go_on()

    def run_to_the_end(self) -> None:
        """All of it is wanted."""
        self.run_to(_TO_THE_END)

    def rest(self) -> None:
        """Go on no further than the beginning, until somebody wants more."""
        self.wanted_end = 0

    def go_on(self) -> None:
        """See again whether to stand still; at once, since the slot must not be taken from who has a reader again."""
        self._more.set()
        if self._slot is not None:
            self._slot.keep()

    async def stand_still(self, slot: Slot) -> None:
        """Wait while far enough ahead of what is wanted; after a moment, others may have ``slot``."""
        self._slot = slot
        try:
            while self._is_far_enough:
                await self._wait(slot)
        finally:
            self._slot = None  # it knows the download, which would not be freed at once

    async def _wait(self, slot: Slot) -> None:
        more = self._more = trio.Event()
        self._progress.pause()
        with trio.move_on_after(_SPARE_AFTER_SECONDS):
            await more.wait()
        if not more.is_set():
            with slot.spare():
                await more.wait()
        self._progress.restart()

    @property
    def _is_far_enough(self) -> bool:
        arrival = self._arrival
        if arrival.has_all or arrival.is_held_back or not arrival.is_checked or self.is_for_size:
            return False
        enough = max(self.wanted_end + self._read_ahead_bytes, block_count(self.wanted_end) * BLOCK_BYTES)
        if self.wanted_end <= arrival.start + HEADER_BYTES:
            enough = min(enough, arrival.start + _ENOUGH_FOR_A_HEADER)
        return arrival.position >= enough

"""Who waits for which bytes of a download. They are served in the order in which the bytes come."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ..settings import BLOCK_BYTES
from .blocks import Slice


@dataclass(slots=True)
class Waiter:
    """One who waits: ``woken`` with his data, or without if the download is over."""

    wanted: Slice
    data: bytes | None = None
    woken: trio.Event = field(default_factory=trio.Event)

    @property
    def end(self) -> int:
        """Offset in the instance after the last byte wanted."""
        return self.wanted.block * BLOCK_BYTES + self.wanted.stop


class Waiters:
    """All who wait for one download."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiter]] = []  # whose last byte comes first is first
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, wanted: Slice) -> Waiter:
        """One more."""
        waiter = Waiter(wanted)
        heapq.heappush(self._heap, (waiter.end, next(self._numbers), waiter))
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """He waits no longer, if he still did."""
        self._heap = [entry for entry in self._heap if entry[2] is not waiter]
        heapq.heapify(self._heap)

    def serve(self, end: int, get: Callable[[Slice], bytes | None]) -> None:
        """Wake with their data, from ``get``, all who want no byte after ``end``."""
        while self._heap and self._heap[0][0] <= end:
            _, _, waiter = heapq.heappop(self._heap)
            waiter.data = get(waiter.wanted)
            waiter.woken.set()

    def send_away(self) -> None:
        """Wake all who are left, without data."""
        for _, _, waiter in self._heap:
            waiter.woken.set()
        self._heap = []

"""Who waits for a download: for which bytes of it, or for its size. Bytes are handed out in the order they come in."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from .blocks import Slice


@dataclass(slots=True)
class _Waiter:
    """One who waits: ``woken`` with the data, or without if the download is over."""

    wanted: Slice
    data: bytes | None = None
    woken: trio.Event = field(default_factory=trio.Event)


class Waiters:
    """All who wait for one download."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, _Waiter]] = []  # whose last byte comes first is first
        self._numbers = itertools.count()
        self._for_size = 0
        self._size_settled = trio.Event()
        self._idle = trio.Event()

    @property
    def is_size_awaited(self) -> bool:
        """Whether anybody waits for the size."""
        return self._for_size > 0

    async def wait(self, wanted: Slice) -> bytes | None:
        """The wanted bytes once they have come; None if the download is over before."""
        waiter = _Waiter(wanted)
        heapq.heappush(self._heap, (wanted.end, next(self._numbers), waiter))
        try:
            await waiter.woken.wait()
        except trio.Cancelled:
            self._remove(waiter)
            raise
        finally:
            self._notice_idle()
        return waiter.data

    async def wait_for_size(self) -> None:
        """Return when the size is settled, or cannot be."""
        self._for_size += 1
        try:
            await self._size_settled.wait()
        finally:
            self._for_size -= 1
            self._notice_idle()

    async def wait_for_nobody(self) -> None:
        """Return when nobody else waits."""
        while not self._is_idle:
            await self._idle.wait()

    def serve(self, end: int, get: Callable[[Slice], bytes | None]) -> None:
        """Wake with their data, from ``get``, all who want no byte after ``end``."""
        while self._heap and self._heap[0][0] <= end:
            _, _, waiter = heapq.heappop(self._heap)
            waiter.data = get(waiter.wanted)
            waiter.woken.set()

    def settle_size(self) -> None:
        """Wake all who wait for the size, now and later."""
        self._size_settled.set()

    def send_away(self) -> None:
        """The download is over: wake all who are left, without data."""
        self.settle_size()
        for _, _, waiter in self._heap:
            waiter.woken.set()
        self._heap = []
        self._notice_idle()

    def _remove(self, waiter: _Waiter) -> None:
        """Take out one who waits no longer; one who has just been served is out already."""
        self._heap = [entry for entry in self._heap if entry[2] is not waiter]
        heapq.heapify(self._heap)

    @property
    def _is_idle(self) -> bool:
        return not self._heap and not self._for_size

    def _notice_idle(self) -> None:
        if self._is_idle:
            self._idle.set()
            self._idle = trio.Event()

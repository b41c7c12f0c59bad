"""Connections to one archive: each is an httpx client of its own, which keeps it for the next request.

One client for all would do with less code, but its pool looks from each of its connections at every other whenever a
request begins or ends, and asks the socket of each idle one: with 16 connections that was a sixth of a mount's
processor time (docs/measured.md). A client that has only one connection has nothing to look at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import httpx
import trio


class Lanes:
    """Clients, lent to one request at a time. ``build`` makes one, for a single connection."""

    def __init__(self, number: int, idle_seconds: float, build: Callable[[], httpx.AsyncClient]) -> None:
        """
        :param number: of requests at once.
        :param idle_seconds: after which a client that nobody needs any more is closed, and its connection with it.
        """
        self._build = build
        self._idle_seconds = idle_seconds
        self._free = trio.Semaphore(number)
        self._idle: deque[tuple[float, httpx.AsyncClient]] = deque()  # since when; used last is last

    async def take(self) -> httpx.AsyncClient:
        """A client, the one whose connection was used last; waits while all are lent."""
        try:
            self._free.acquire_nowait()  # acquire() would cost a turn of the event loop
        except trio.WouldBlock:
            await self._free.acquire()
        try:
            await self._close_idle()
            return self._idle.pop()[1] if self._idle else self._build()
        except BaseException:
            self._free.release()
            raise

    def give_back(self, client: httpx.AsyncClient) -> None:
        """``client`` has no answer open any more."""
        self._idle.append((trio.current_time(), client))
        self._free.release()

    async def aclose(self) -> None:
        """Close the connections that are not lent."""
        while self._idle:
            await self._idle.popleft()[1].aclose()

    async def _close_idle(self) -> None:
        """Close one connection that has not been needed for long, if there is one."""
        if self._idle and trio.current_time() - self._idle[0][0] > self._idle_seconds:
            _, client = self._idle.popleft()
            await client.aclose()

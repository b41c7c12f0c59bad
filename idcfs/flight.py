"""Single-flight: however many ask for a thing at once, it is fetched once.

The work runs in the mount's nursery and not in the task of whoever asked first, so that nobody's going away (a
deadline, an interrupted call) takes the others' answer with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[V]):
    def __init__(self) -> None:
        self.landed = trio.Event()
        self.values: list[V] = []
        self.error: Exception | None = RuntimeError("the mount is going down")


class SingleFlight(Generic[K, V]):
    """Running fetches by key. Nothing is kept after the last waiter has its answer: caching is the caller's."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[K, _Flight[V]] = {}

    async def run(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The result of ``work``, or of the same work already under way for ``key``.

        :raises Exception: what ``work`` raised, for everyone who waited.
        """
        flight = self._running.get(key)
        if flight is None:
            flight = self._running[key] = _Flight()
            self._nursery.start_soon(self._fly, key, flight, work)
        await flight.landed.wait()
        if flight.error is not None:
            raise flight.error
        return flight.values[0]

    async def _fly(self, key: K, flight: _Flight[V], work: Callable[[], Awaitable[V]]) -> None:
        try:
            flight.values.append(await work())
            flight.error = None
        except Exception as error:  # handed to everyone who waits
            flight.error = error
        finally:
            del self._running[key]
            flight.landed.set()

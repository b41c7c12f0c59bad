"""The bodies of one download: each from a place that holds what is known, or compared with it on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ..deadline import Progress
from ..errors import Truncated
from ..settings import BLOCK_BYTES
from .arrival import Arrival
from .attempts import MAX_PLACES
from .instance import Body, Instance, Retrieval
from .places import Places
from .slots import Slot

_OPENING_GRACE_SECONDS = 0.5
"""A source that does not get a body gives up by itself after the same timeout, and knows better why: it goes first."""


class Bodies:
    """What a source has sent to one download."""

    def __init__(
        self,
        instance: Instance,
        places: Places,
        part: Callable[[Callable[[int, bytes], None], int, int | None], Arrival],
        store: Callable[[int, bytes], None],
        retrieval: Retrieval,
        progress: Progress,
        slot: Slot,
    ) -> None:
        """
        :param part: makes what bytes [start, stop) of the instance arrive in, to its end without stop; it is given what
            is called with each whole block.
        :param store: keeps a block.
        """
        self._instance = instance
        self._places = places
        self._part = part
        self._store = store
        self._retrieval = retrieval
        self._progress = progress
        self._slot = slot
        self._may_agree = self._is_first = False  # of the last one

    @asynccontextmanager
    async def next_of(self, arrival: Arrival) -> AsyncIterator[Body]:
        """The next body of ``arrival``.

        :raises Damaged: if its place holds other bytes than are known.
        """
        for _ in range(MAX_PLACES):
            is_compared = self._is_compared(arrival)
            if not is_compared and self._places.is_another_expected:
                await self._compare(arrival.size or 0)
            async with self._opened(arrival) as body:
                is_whole = body.start == 0 and body.stop is None
                if is_compared or is_whole or self._places.believes(self._retrieval.place):
                    self._may_agree, self._is_first = body.start == 0, self._places.is_first(arrival.size)
                    yield body
                    return
            self._places.expect_another()
        raise Truncated(f"{self._instance}: it comes from another place whenever it is compared")

    def note(self, arrival: Arrival) -> None:
        """More of ``arrival`` has come: its place agrees as soon as it is the first, else with all that is known."""
        if self._may_agree and arrival.has_shown_beginning and (self._is_first or arrival.is_whole):
            self._agree()

    def advance(self, amount: int, known: int, seconds: float) -> None:
        """So many bytes have come, in this time; ``known`` of them had come before, which is no progress."""
        self._progress.repeat(known, seconds)
        self._progress.advance(amount - known)
        self._slot.advance(amount)

    def _is_compared(self, arrival: Arrival) -> bool:
        """Whether what comes is compared with what is known, if there is anything, without more ado."""
        if arrival.start == 0 and (arrival.stop is None or self._places.is_first(arrival.size)):
            return True
        return arrival.touches_known

    @asynccontextmanager
    async def _opened(self, arrival: Arrival) -> AsyncIterator[Body]:
        self._progress.postpone(_OPENING_GRACE_SECONDS)
        async with self._retrieval.fetch(arrival.resume_at, arrival.asked_stop) as body:
            self._progress.postpone(-_OPENING_GRACE_SECONDS)
            arrival.begin(body.start, body.stop, body.size)
            yield body

    async def _compare(self, size: int) -> None:
        """See that the place where bytes come from now holds what is known: once for all who wait for that."""
        async with self._places.turn(self._progress):
            if not self._places.is_another_expected:
                return
            again = [(block, await self._fetch_again(block, size)) for block in self._places.to_compare(size)]
            for block, data in reversed(again):  # kept only once all has been compared
                for one in data:
                    self._store(block, one)
            self._agree()

    def _agree(self) -> None:
        self._places.agree(self._retrieval.place)
        self._may_agree = False

    async def _fetch_again(self, block: int, size: int) -> list[bytes]:
        """Fetch a block once more, of which the bytes are returned if it has to be kept.

        Of a body that goes on to the instance's end no more is fetched than that, and of one that begins at 0 nothing
        else is kept: so much would have no room in memory.
        """
        found: list[bytes] = []

        def store(number: int, data: bytes) -> None:
            if number == block:
                found.append(data)

        stop = (block + 1) * BLOCK_BYTES
        known = self._part(store, block * BLOCK_BYTES, stop if stop < size else None)
        async with self._opened(known) as body:
            async for chunk in body:
                self._places.advance(len(chunk))  # once for each place: progress, though it is known
                self._slot.advance(len(chunk))
                for _ in known.take(chunk):
                    if known.following is not None:
                        known.go_on_with(b"")
                    if known.stop is None and known.position >= stop:
                        return found
            known.end()
        return found

"""Connections are fewer than open files: who holds one, and who has to let go of it.

A download that has stood still for a moment has no reader in a hurry; it loses its slot to the next one that needs it.
One that stands still only between two reads keeps it, or many sequential readers would start each other's downloads
over and over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from ..deadline import Progress


class Slot:
    """One held slot. ``end`` is called when it has to be let go of."""

    def __init__(self, slots: Slots, end: Callable[[], None]) -> None:
        self._slots = slots
        self._end = end
        self.leaving = False
        """``end`` has been called."""

    @contextmanager
    def spare(self) -> Iterator[None]:
        """Within the block, the slot is there for others to take."""
        self._slots.add_spare(self)
        try:
            yield
        finally:
            self._slots.remove_spare(self)

    def advance(self, amount: int) -> None:
        """``amount`` bytes have arrived: whoever waits for a slot sees that it is worth waiting."""
        self._slots.advance(amount)

    def end(self) -> None:
        """Make the holder let go, soon."""
        self.leaving = True
        self._end()


class Slots:
    """A fixed number of slots, first come, first served."""

    def __init__(self, number: int) -> None:
        self._free = trio.Semaphore(number)
        self._spare: dict[Slot, None] = {}
        self._leaving = 0
        self._waiting: set[Progress] = set()

    @asynccontextmanager
    async def hold(self, end: Callable[[], None], progress: Progress) -> AsyncIterator[Slot]:
        """Wait for a slot and hold it; once it is spare, ``end`` may be called to ask for it back.

        While it waits, ``progress`` is that of those who hold one: a slow archive is no reason to give up.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            if self._spare:
                self._take_back(next(iter(self._spare)))
            self._waiting.add(progress)
            try:
                await self._free.acquire()
            finally:
                self._waiting.remove(progress)
        slot = Slot(self, end)
        try:
            yield slot
        finally:
            self._leaving -= slot.leaving
            self._free.release()

    def advance(self, amount: int) -> None:
        """``amount`` bytes have arrived for somebody."""
        for progress in self._waiting:
            progress.advance(amount)

    def add_spare(self, slot: Slot) -> None:
        """``slot`` can be taken back, at once if somebody waits for whom none is on its way."""
        if self._free.statistics().tasks_waiting > self._leaving:
            self._take_back(slot)
        else:
            self._spare[slot] = None

    def remove_spare(self, slot: Slot) -> None:
        """``slot`` is needed again by its holder, or gone."""
        self._spare.pop(slot, None)

    def _take_back(self, slot: Slot) -> None:
        self.remove_spare(slot)
        self._leaving += 1
        slot.end()

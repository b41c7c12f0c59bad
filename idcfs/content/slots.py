"""Connections are fewer than open files: who holds one, and who has to let go of it.

A download that has stood still for a moment has no reader in a hurry; it loses its slot to the next one that needs it.
One that stands still only between two reads keeps it, or many sequential readers would start each other's downloads
over and over. If none stands still, one that nobody reads lets go: fetched ahead, or on its last bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from ..deadline import Progress


class Slot:
    """One held slot. ``end`` is called when it has to be let go of."""

    def __init__(self, slots: Slots, end: Callable[[], None], is_urgent: Callable[[], bool]) -> None:
        self._slots = slots
        self._end = end
        self.is_urgent = is_urgent
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

    def keep(self) -> None:
        """It is needed after all: nobody may take it."""
        self._slots.remove_spare(self)

    def advance(self, amount: int) -> None:
        """``amount`` bytes have arrived: whoever waits for a slot sees that it is worth waiting."""
        self._slots.advance(amount)

    def end(self) -> None:
        """Make the holder let go, soon."""
        self.leaving = True
        self._end()


@dataclass(eq=False, slots=True)
class _Waiter:
    progress: Progress
    is_urgent: Callable[[], bool]
    granted: trio.Event = field(default_factory=trio.Event)


class Slots:
    """A fixed number of slots: first those that are urgent, of equals whoever came first."""

    def __init__(self, number: int) -> None:
        self._free = number  # only while nobody waits
        self._held: dict[Slot, None] = {}
        self._spare: dict[Slot, None] = {}
        self._leaving = 0
        self._waiting: dict[_Waiter, None] = {}

    @asynccontextmanager
    async def hold(
        self, end: Callable[[], None], progress: Progress, is_urgent: Callable[[], bool]
    ) -> AsyncIterator[Slot]:
        """Wait for a slot and hold it; once it is spare, ``end`` may be called to ask for it back.

        While it waits, ``progress`` is that of those who hold one: a slow archive is no reason to give up.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._free:
            self._free -= 1
        else:
            await self._wait(_Waiter(progress, is_urgent))
        slot = Slot(self, end, is_urgent)
        self._held[slot] = None
        try:
            yield slot
        finally:
            del self._held[slot]
            self._leaving -= slot.leaving
            self._pass_on()

    def advance(self, amount: int) -> None:
        """``amount`` bytes have arrived for somebody."""
        for waiter in self._waiting:
            waiter.progress.advance(amount)

    def serve_urgent(self) -> None:
        """Take back a slot if somebody urgent waits for whom none is on its way; who waits may have become so.

        A spare one if there is any, else that of a holder whom nobody waits for.
        """
        if not self._is_wanted:
            return
        idle = (slot for slot in self._held if not slot.leaving and not slot.is_urgent())
        slot = next(itertools.chain(self._spare, idle), None)
        if slot is not None:
            self._take_back(slot)

    def add_spare(self, slot: Slot) -> None:
        """``slot`` can be taken back, at once if it is wanted."""
        self._spare[slot] = None
        self.serve_urgent()

    def remove_spare(self, slot: Slot) -> None:
        """``slot`` is needed again by its holder, or gone."""
        self._spare.pop(slot, None)

    async def _wait(self, waiter: _Waiter) -> None:
        self._waiting[waiter] = None
        self.serve_urgent()
        try:
            await waiter.granted.wait()
        except trio.Cancelled:
            if waiter.granted.is_set():
                self._pass_on()
            else:
                del self._waiting[waiter]
            raise

    def _pass_on(self) -> None:
        """A slot has become free."""
        urgent_first = sorted(self._waiting, key=lambda waiter: not waiter.is_urgent())
        if not urgent_first:
            self._free += 1
            return
        del self._waiting[urgent_first[0]]
        urgent_first[0].granted.set()

    @property
    def _is_wanted(self) -> bool:
        return sum(waiter.is_urgent() for waiter in self._waiting) > self._leaving

    def _take_back(self, slot: Slot) -> None:
        self.remove_spare(slot)
        self._leaving += 1
        slot.end()

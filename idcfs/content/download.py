"""One running fetch of an instance, shared by all its readers.

Whoever waits for a range is handed it the moment its last byte is there, from the arriving block itself, so that no
eviction can come between. A download runs ahead of what was asked for by a fixed window and then stands still, which
costs no memory: see ``Pace``.

A connection that breaks is opened again where it broke off, as long as that leads further; of a source that starts at 0
only, the bytes already received are skipped. Before a failure is the readers', the source is asked whether it has
another place: what came from both has to agree where they meet.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from copy import copy
from functools import partial

import trio

from ..deadline import FLOOR_BYTES, Progress
from ..errors import Damaged, IdcfsError, Replaced, Truncated, WrongSize
from ..settings import BLOCK_BYTES, MIB, ContentSettings
from .arrival import Arrival
from .attempts import RESTART_SECONDS, Attempts
from .beside import Beside
from .blocks import Slice, block_count
from .bodies import Bodies
from .instance import Body, Instance, Retrieval, Source
from .pace import Pace
from .places import Places
from .seams import Seams
from .slots import Slot, Slots
from .waiters import Waiters

log = logging.getLogger(__name__)

_LONG_SEEK_BYTES = 64 * MIB
"""Passing over so much takes seconds: the log says why a reader waits."""


class Download:
    """One running fetch. Its owner runs ``run`` once; readers call ``size``, ``get`` and ``wait``."""

    def __init__(
        self,
        instance: Instance,
        size: int | None,
        settings: ContentSettings,
        store: Callable[[int, bytes], None],
        room: Callable[[], Awaitable[None] | None],
        seams: Seams,
        places: Places,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """
        :param size: the exact size in bytes, if known.
        :param store: called with each whole block, in order.
        :param room: None where more can be stored, else what waits until it can.
        :param seams: what other downloads of the instance have shown where they meet.
        :param places: those that need not be compared with what is known.
        :param start: where bytes are wanted from, and ``stop``, up to where: see ``Arrival``.
        """
        self.urgent = False
        """Somebody waits for it, or reads; else it is only fetched ahead."""
        self.retiring = False
        """Takes no new readers: they wait for ``retired`` and start another."""
        self.closed = False
        """Of no use to anybody any more: whole, failed or cancelled."""
        self.cancelled = False
        """Stopped before it was whole."""
        self._instance = instance
        self._settings = settings
        self._room = room
        self._store = store
        self._part = partial(Arrival, instance, size, seams)
        self._arrival = self._part(store, start, stop)
        self._places = places
        self.error: IdcfsError | None = None
        """Why it failed, if it did."""
        self._attempts = Attempts()
        self._retrieval: Retrieval | None = None
        self._slot: Slot | None = None
        self._finishing = False
        self._waiters = Waiters()
        self._over = trio.Event()
        self._progress = Progress(settings.timeout_seconds)
        self._pace = Pace(self._arrival, self._waiters, self._progress, settings.read_ahead_bytes)
        self._scope = trio.CancelScope()

    # --- readers -----------------------------------------------------------------------------------------------------

    @property
    def known_size(self) -> int | None:
        """The exact size in bytes, proven or not."""
        return self._arrival.size

    @property
    def proven_size(self) -> int | None:
        """The exact size in bytes, if the archive's answer has proven it."""
        return self._arrival.size if self._arrival.has_proven_size else None

    @property
    def start(self) -> int:
        """Offset of the first byte that it fetches."""
        return self._arrival.start

    @property
    def stop(self) -> int | None:
        """Offset after the last one; None for the end of the instance."""
        return self._arrival.stop

    @property
    def position(self) -> int:
        """Up to which byte it has come."""
        return self._arrival.position

    @property
    def has_shown_identity(self) -> bool:
        """Whether the beginning has shown that this is the right instance; in the middle it was shown before."""
        return self._arrival.has_shown_beginning

    def want_all(self) -> None:
        """Go on to the end, though not urgently."""
        self._pace.run_to_the_end()

    async def whole(self) -> int:
        """Fetch it to its end, not urgently; returns the instance's exact size in bytes.

        :raises IdcfsError: if the download fails, or is stopped.
        """
        self.want_all()
        if not self._over.is_set():  # else waiting would cost a turn
            await self._over.wait()
        size = self._arrival.size
        if size is None or not self._arrival.is_whole:
            raise self._failure()
        return size

    async def size(self) -> int:
        """The exact size in bytes, as soon as the archive's answer proves it.

        :raises IdcfsError: if the download fails before.
        """
        self.want(1)
        self._pace.go_on()  # where only the end can show it, standing still is over
        await self._waiters.wait_for_size()
        if self.proven_size is None:
            raise self._failure()
        return self.proven_size

    def hurry(self) -> None:
        """Somebody waits for it now: what it has waited for a slot does not count."""
        if not self.urgent:
            self.urgent = True
            if self._slot is None:
                self._progress.restart()

    def want(self, end: int) -> None:
        """Somebody reads up to byte ``end``: stay ahead of that."""
        self._finishing = False
        self._pace.run_to(end)

    def serves(self, block: int) -> bool:
        """Whether one may wait for bytes of a block: it is the arriving one or still to come."""
        return not self.retiring and self._arrival.is_to_come(block)

    def get(self, wanted: Slice) -> bytes | None:
        """The wanted bytes, if they are in the arriving block."""
        return self._arrival.get(wanted)

    async def wait(self, wanted: Slice) -> bytes:
        """The wanted bytes, whose block it ``serves`` and which it has not got yet.

        :raises IdcfsError: if the download fails before they are there.
        """
        self._tell_of_long_seek(wanted.end)
        self.want(wanted.end)
        data = await self._waiters.wait(wanted)
        if data is None:
            raise self._failure()
        return data

    def _tell_of_long_seek(self, end: int) -> None:
        distance = end - self._arrival.position
        if distance > _LONG_SEEK_BYTES:
            log.info("%s: %d MB have to pass before byte %d can be read", self._instance, distance // 1_000_000, end)

    async def retired(self) -> None:
        """Take no new readers, and return when the present ones are served."""
        self.retiring = True
        await self._waiters.wait_for_nobody()

    # --- its owner ---------------------------------------------------------------------------------------------------

    @property
    def has_slot(self) -> bool:
        """Whether it has a connection, or is about to."""
        return self._slot is not None

    @property
    def has_begun(self) -> bool:
        """Whether bytes have come that are the right ones."""
        return self._arrival.is_checked and self.has_slot

    @property
    def is_nearly_done(self) -> bool:
        """Whether stopping would cost more than the rest does."""
        left = self._arrival.left
        return self._slot is not None and left is not None and left <= self._settings.finish_bytes

    def cut(self, stop: int) -> None:
        """Go on to ``stop`` only, or to the end of the block up to which somebody reads: the rest comes otherwise."""
        if not self._pace.is_for_size:
            end = max(stop, self._pace.wanted_end, self._arrival.position + 1)
            self._arrival.cut(block_count(end) * BLOCK_BYTES)

    def rest(self) -> None:
        """Go on no further than the beginning, until somebody wants more."""
        self.urgent = False
        self._pace.rest()

    def abandon(self) -> None:
        """Nobody reads any more: stop, unless nearly done."""
        self.urgent = False
        if self.is_nearly_done:
            self._finishing = True
            self.want_all()
        else:
            self.cancel()

    def cancel(self, error: IdcfsError | None = None) -> None:
        """Stop the fetch; ``error`` is what its readers are told, without one nobody may be waiting."""
        if not self.closed:
            self.error = error
            self.closed = True
            self.cancelled = not self._arrival.is_whole
            if self.cancelled:
                self._scope.cancel()

    async def run(self, source: Source, slots: Slots, beside: Beside) -> None:
        """Fetch until whole, failed or cancelled; failures are the readers' to raise.

        :param slots: one is held as long as a connection is.
        :param beside: knows what is kept beside it.
        """
        try:
            with self._scope, self._progress.watch(str(self._instance)):
                self._arrival.lead_to(await beside.look(self.start, self.stop))
                if not self.urgent:
                    self._progress.pause()  # it waits for others to be done, and may wait long
                async with slots.hold(self.cancel, self._progress, lambda: self.urgent) as slot:
                    self._slot = slot
                    self._progress.resume()
                    self._retrieval = source.retrieval(self._instance)
                    await self._fetch(self._retrieval, beside, slot)
        except IdcfsError as error:
            told = error if self._retrieval is None else self._retrieval.last_word(error)
            self.error = told.with_traceback(None)  # whose frames would keep the arrived block in memory
        except Exception as error:
            log.exception("%s: the download failed", self._instance)
            self.error = Damaged(f"{self._instance}: {type(error).__name__} while downloading, see the log")
        finally:
            self.closed = True
            self._arrival.leave_off()
            self._slot = None  # it knows us: the last block would stay in memory until the garbage is collected
            self._over.set()
            self._waiters.send_away()

    # --- the fetch ---------------------------------------------------------------------------------------------------

    async def _fetch(self, retrieval: Retrieval, beside: Beside, slot: Slot) -> None:
        bodies = Bodies(self._instance, self._places, self._part, self._store, retrieval, self._progress, slot)
        while True:
            before = self._arrival.position
            try:
                async with bodies.next_of(self._arrival) as body:
                    return await self._receive(body, bodies, beside, slot)
            except IdcfsError as error:
                if self._comes_again(retrieval, error, self._arrival.position - before):
                    await trio.sleep(RESTART_SECONDS)
            self._arrival.lead_to(await beside.look(self.start, self.stop))  # it may have been cut

    def _comes_again(self, retrieval: Retrieval, error: IdcfsError, gained: int) -> bool:
        """Whether to go on from the same place; else it is another one.

        :raises IdcfsError: ``error``, if neither leads further.
        """
        may_break = isinstance(error, Truncated) and self._attempts.break_off(gained)
        if self._goes_elsewhere(retrieval, error, resumes=may_break and gained >= FLOOR_BYTES):
            return False
        if not may_break or self._finishing:
            raise error
        log.info("%s: %s; opening it again after byte %d", self._instance, error, self._arrival.position)
        return True

    def _goes_elsewhere(self, retrieval: Retrieval, error: IdcfsError, *, resumes: bool) -> bool:
        """Whether to go on from another place, without what is not proven; but not between two that differ."""
        may_go = self._attempts.may_go_elsewhere and not self._finishing and not isinstance(error, Replaced)
        if not may_go or not retrieval.goes_elsewhere(error, resumes=resumes):
            return False
        log.info("%s: %s; going on from another place after byte %d", self._instance, error, self._arrival.position)
        self._attempts.go_elsewhere()
        self._places.expect_another()
        self._arrival.forget_unproven()
        return True

    async def _receive(self, body: Body, bodies: Bodies, beside: Beside, slot: Slot) -> None:
        began = trio.current_time()
        async for chunk in body:
            known = min(len(chunk), self._arrival.known_ahead)
            bodies.advance(len(chunk), known, trio.current_time() - began)
            for _ in self._arrival.take(chunk):
                if (following := self._arrival.following) is not None:
                    self._arrival.go_on_with(await beside.begins(following))
                bodies.note(self._arrival)
                self._hand_out()
                await self._make_room()
                await self._pace.stand_still(slot)
            if self._arrival.is_cut_off:
                break
            began = trio.current_time()
        self._arrival.end()
        bodies.note(self._arrival)
        self._hand_out()

    def _hand_out(self) -> None:
        """Wake whoever has waited for what is there now."""
        if self._arrival.has_proven_size:
            self._waiters.settle_size()
        self._waiters.serve(self._arrival.readable_end, self._arrival.get)

    async def _make_room(self) -> None:
        """Wait for who stores, as long as it takes: a slow disk is no reason to fail."""
        if (room := self._room()) is not None:
            self._progress.pause()
            await room
            self._progress.restart()

    def _failure(self) -> IdcfsError:
        if self.error is None and self._arrival.is_whole:
            return WrongSize(
                f"{self._instance}: the archive has {self._arrival.size} bytes, fewer than are wanted of it"
            )
        return copy(self.error) or Truncated(f"{self._instance}: the download was stopped")

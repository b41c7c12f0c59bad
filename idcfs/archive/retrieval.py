"""One retrieval of an instance from two places: whose turn it is, when one is left, and whose error counts.

What one retrieval finds out of a place holds for it alone: each asks every place, in the order in which they come
then, before it fails. A place that breaks off may be asked again; one that has failed otherwise, or has brought nothing
for too long, has said its last word.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import trio

from ..deadline import FLOOR_BYTES
from ..errors import DeadlinePassed, IdcfsError, Replaced, Truncated, WrongSize
from .body import InstanceBody
from .bucket import BucketInstance
from .dicomweb import DicomwebInstance

log = logging.getLogger(__name__)


class InstanceKey(DicomwebInstance, BucketInstance, Protocol):
    """An instance, as either place wants to hear of it."""

    @property
    def key(self) -> tuple[str, str]: ...


class InstancePlace(Hashable, Protocol):
    """Where instances can be had."""

    def fetch(
        self, instance: InstanceKey, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[InstanceBody]: ...

    def starts_anywhere(self, instance: InstanceKey) -> bool: ...


class Places(Protocol):
    """What is known of the places, for all retrievals."""

    def in_order(self, instance: InstanceKey) -> list[InstancePlace]:
        """Where ``instance`` can be asked for, the best place first: at least one."""

    def is_archive(self, place: InstancePlace) -> bool:
        """Whether its word counts where none can serve."""

    def title(self, place: InstancePlace) -> str:
        """What people call it."""

    async def length_of(self, instance: InstanceKey) -> int | None:
        """The exact size in bytes of ``instance``, where an answer tells none and another place does."""

    def note_body(self, instance: InstanceKey, place: InstancePlace, instead: IdcfsError | None) -> None:
        """A body has begun; ``instead`` is what another place has just failed with."""

    def note_no_body(self, instance: InstanceKey, place: InstancePlace, error: IdcfsError) -> None:
        """None could be had there."""

    def note_bad_body(
        self, instance: InstanceKey, place: InstancePlace, other: InstancePlace | None, error: IdcfsError
    ) -> None:
        """A body has failed with ``error``; ``other`` is asked next, None: no other."""


class Retrieval:
    """One retrieval, in as many answers as it takes: one ``fetch`` after the other."""

    def __init__(self, instance: InstanceKey, places: Places, timeout_seconds: float) -> None:
        """
        :param timeout_seconds: how long a body may bring nothing while there is another place to ask.
        """
        self._instance = instance
        self._places = places
        self._timeout_seconds = timeout_seconds
        self._failed: dict[InstancePlace, IdcfsError] = {}  # what each has said last
        self._here: InstancePlace | None = None  # where the last body came from

    @property
    def place(self) -> InstancePlace | None:
        """Where the last body came from."""
        return self._here

    @asynccontextmanager
    async def fetch(self, start: int = 0, stop: int | None = None) -> AsyncIterator[InstanceBody]:
        """Bytes [start, stop) from the first place that gives a body.

        :raises IdcfsError: if none does: what the archive says, if it may be asked.
        """
        async with AsyncExitStack() as stack:
            yield await self._open(stack, start, stop)

    def goes_elsewhere(self, error: IdcfsError, *, resumes: bool) -> bool:
        """Whether the next ``fetch`` asks another place, now that the last body has failed with ``error``.

        :param resumes: it has broken off, and brought something: a place that can start anywhere is asked to go on.
        """
        here = self._here
        if here is None or (resumes and here.starts_anywhere(self._instance)):
            return False
        self._failed[here] = error
        other = next((place for place in self._left() if place not in self._failed), None)
        self._places.note_bad_body(self._instance, here, other, error)
        return other is not None

    def last_word(self, error: IdcfsError) -> IdcfsError:
        """What to say at the end, where ``error`` was the last that happened: what the archive said, if it was asked.

        Of two places that contradict each other none is right.
        """
        if isinstance(error, Replaced | WrongSize) or (self._here is not None and self._places.is_archive(self._here)):
            return error
        told = next((said for place, said in self._failed.items() if self._places.is_archive(place)), error)
        if told is not error:
            log.info("%s cannot be had from elsewhere either: %s", self._instance, error)
        return told

    async def _open(self, stack: AsyncExitStack, start: int, stop: int | None) -> InstanceBody:
        self._here, last = None, None
        for place in self._left():
            try:
                body = await stack.enter_async_context(place.fetch(self._instance, start, stop))
            except IdcfsError as error:
                self._failed[place] = last = error
                self._places.note_no_body(self._instance, place, error)
                continue
            self._here = place
            self._places.note_body(self._instance, place, last)
            if body.size is None:
                body.size = await self._places.length_of(self._instance)
            return self._in_time(body, place)
        raise self.last_word(last or next(iter(self._failed.values())))

    def _left(self) -> list[InstancePlace]:
        """Who may still be asked: first those that have not failed."""
        failed = self._failed
        places = self._places.in_order(self._instance)
        left = [place for place in places if place not in failed or isinstance(failed[place], Truncated)]
        return sorted(left, key=failed.__contains__)

    def _in_time(self, body: InstanceBody, place: InstancePlace) -> InstanceBody:
        """``body``, given up early if there is still another place to ask."""
        if all(other is place or other in self._failed for other in self._left()):
            return body
        return _ImpatientBody(body, f"{self._places.title(place)}, {self._instance}", self._timeout_seconds)


class _ImpatientBody:
    """A body that is given up early, since it can be had from elsewhere: raises DeadlinePassed where nothing comes."""

    def __init__(self, body: InstanceBody, what: str, timeout_seconds: float) -> None:
        self._body = body
        self._what = what
        self._timeout_seconds = self._left_seconds = timeout_seconds
        self._since_last = 0
        self.start, self.stop, self.size = body.start, body.stop, body.size

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Only waiting for the body counts, not what its reader does in between."""
        began = trio.current_time()
        try:
            with trio.fail_after(max(0.0, self._left_seconds)):
                chunk = await anext(self._body)
        except trio.TooSlowError:
            raise DeadlinePassed(f"{self._what}: no progress for {self._timeout_seconds:g} s") from None
        self._left_seconds -= trio.current_time() - began
        self._since_last += len(chunk)
        if self._since_last >= FLOOR_BYTES:
            self._since_last, self._left_seconds = 0, self._timeout_seconds
        return chunk

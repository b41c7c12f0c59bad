"""The rule of time: no call waits longer than the timeout without progress.

Fewer than 64 KiB within the timeout is no progress, so that a server which sends a byte a second is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import trio

from .errors import DeadlinePassed
from .settings import KIB, MIB

FLOOR_BYTES = 64 * KIB
_AGAIN_BYTES_PER_SECOND = MIB
"""How fast known bytes have to come once more to cost nobody's patience."""


class Progress:
    """A deadline that moves on as bytes arrive, and stands still while nobody waits for any."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._since_last = 0
        self._scope = trio.CancelScope()

    @contextmanager
    def watch(self, what: str) -> Iterator[None]:
        """Run the block under the deadline.

        :raises DeadlinePassed: when it passes; ``what`` is named in the message.
        """
        self._scope = trio.CancelScope(deadline=trio.current_time() + self._timeout)
        with self._scope:
            yield
        if self._scope.cancelled_caught:
            raise DeadlinePassed(f"{what}: no progress for {self._timeout:g} s")

    def advance(self, amount: int) -> None:
        """``amount`` bytes have arrived; means nothing while the clock is stopped."""
        self._since_last += amount
        if self._since_last >= FLOOR_BYTES and self._scope.deadline != inf:
            self.restart()

    def repeat(self, amount: int, seconds: float) -> None:
        """``amount`` known bytes have come once more, in so long: no progress, but it is not the time that is up."""
        self.postpone(min(seconds, amount / _AGAIN_BYTES_PER_SECOND))

    def restart(self) -> None:
        """Give a whole timeout from now on."""
        self._since_last = 0
        self._scope.deadline = trio.current_time() + self._timeout

    @property
    def remaining_seconds(self) -> float:
        """What is left until the deadline."""
        return self._scope.deadline - trio.current_time()

    def postpone(self, seconds: float) -> None:
        """Move the deadline; a negative number brings it nearer."""
        self._scope.deadline += seconds

    def pause(self) -> None:
        """Stop the clock, until ``restart`` or ``resume``."""
        self._scope.deadline = inf

    def resume(self) -> None:
        """Give a whole timeout if the clock was stopped."""
        if self._scope.deadline == inf:
            self.restart()

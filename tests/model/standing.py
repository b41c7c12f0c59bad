"""A trio loop that stands still between calls, so that what is not asynchronous can talk to what is, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar, cast
from unittest.mock import patch

import outcome
import trio
import trio.testing

T = TypeVar("T")

_MAX_TURNS = 2_000_000
"""So many turns without an end are a call that hangs: its time is the loop's own, so it cannot only be slow."""


class Standing:
    """Trio as a guest of whoever calls ``run``; its time passes within calls only, and costs nothing."""

    def __init__(self) -> None:
        self._turns: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._found: list[trio.Nursery] = []
        self._ended: list[outcome.Outcome[None]] = []
        self._stop = trio.Event()
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._turns.put,
            done_callback=self._ended.append,
            host_uses_signal_set_wakeup_fd=True,
            clock=trio.testing.MockClock(autojump_threshold=0),
        )
        while not self._found:
            self._turn()
        self.nursery = self._found[0]
        """What is started in it runs until the end."""

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._found.append(nursery)
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    def run(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """What ``work`` returns or raises; everything else that runs goes on meanwhile."""
        found: list[outcome.Outcome[T]] = []

        async def do() -> None:
            found.append(await outcome.acapture(work, *args))

        self._token.run_sync_soon(self.nursery.start_soon, do)
        for _ in range(_MAX_TURNS):
            if found or self._ended:
                break
            self._turn()
        for ended in self._ended:
            ended.unwrap()
        assert found, "the call hangs"
        return found[0].unwrap()

    def end(self) -> None:
        """Stop everything that runs."""
        self._token.run_sync_soon(self._stop.set)
        for _ in itertools.takewhile(lambda _: not self._ended, itertools.count()):
            self._turn()
        self._ended[0].unwrap()

    def _turn(self) -> None:
        self._turns.get(timeout=60)()


@contextmanager
def without_threads() -> Iterator[None]:
    """What would be done in a thread is done at once: a clock that jumps ahead does not see that a thread works."""

    async def run_sync(work: Callable[..., T], *args: Any, **_: Any) -> T:
        await trio.lowlevel.checkpoint()
        try:
            return work(*args)
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()

    with patch("trio.to_thread.run_sync", cast("Any", run_sync)):
        yield

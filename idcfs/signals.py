"""What signals tell a mount: to end, to ask its archive again, or to say how it stands.

trio's own receiver is not used: its handlers are Python code, in which the next signal may come, and in that handler
the next. A thousand signals in a row would exhaust the stack, which ends the mount.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

import trio

ASK_AGAIN, TELL = signal.SIGHUP, signal.SIGUSR1
_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
MILD = frozenset({ASK_AGAIN, TELL})
ALL = _ENDING | MILD

_PAUSE_SECONDS = 0.05
"""All of a kind that come within are one: whoever sends a thousand wants no thousand lines."""

log = logging.getLogger(__name__)
_asked_for = logging.getLogger(f"{__name__}.status")
_asked_for.setLevel(logging.INFO)  # whatever the log's level: somebody has asked for it


def ending(*, in_foreground: bool) -> frozenset[signal.Signals]:
    """Signals that unmount. To be called before any of them is ignored.

    SIGHUP is among them for who sits at the terminal that the mount runs in: it says that the terminal is gone. A
    service has no terminal, and what nohup(1) starts is not meant to end with it.
    """
    at_terminal = in_foreground and any(os.isatty(descriptor) for descriptor in (0, 2))
    if at_terminal and signal.getsignal(ASK_AGAIN) != signal.SIG_IGN:
        return _ENDING | {ASK_AGAIN}
    return _ENDING


def ignore(numbers: Iterable[signal.Signals]) -> None:
    """Let them do nothing: what no handler hears would end the process, mounted or not."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def received() -> Iterator[SimpleQueue[int]]:
    """Where signals come while it is open."""
    came: SimpleQueue[int] = SimpleQueue()
    # Written in C, and made to be called anywhere: no other handler runs within. It is called with a number and a
    # frame, which it takes for "wait if there is no room"; there always is.
    put: Any = came.put
    before = {number: signal.signal(number, put) for number in ALL}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        came.put(0)  # ends the thread that waits


async def obey(
    came: SimpleQueue[int],
    end: Callable[[], None],
    *,
    ends: Collection[int],
    ask_again: Callable[[], Awaitable[None]],
    tell: Callable[[], str],
) -> None:
    """Do what signals say, for ever.

    :param came: what ``received`` gives.
    :param ends: those for which ``end`` is called.
    :param ask_again: runs once at a time, and once more for all signals that come meanwhile; holds up no other signal.
    :param tell: what is written to the log.
    """
    wishes, granted = trio.open_memory_channel[None](1)

    async def grant() -> None:
        async for _ in granted:
            try:
                await ask_again()
            except Exception:
                log.exception("SIGHUP: asking again failed: this is a bug")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(grant)
        while True:
            first = await trio.to_thread.run_sync(came.get, abandon_on_cancel=True)
            for number in {first, *(came.get() for _ in range(came.qsize()))}:
                if number in ends:
                    log.info("%s: unmounting", signal.Signals(number).name)
                    end()
                elif number == ASK_AGAIN:
                    with suppress(trio.WouldBlock):  # it is wished for already
                        wishes.send_nowait(None)
                elif number == TELL:
                    _asked_for.info("%s", tell())
            await trio.sleep(_PAUSE_SECONDS)

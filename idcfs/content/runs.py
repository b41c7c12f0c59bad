"""How far to fetch ahead of a reader of an instance: not at all at first, further the longer it reads in order.

Whoever looks at a place reads a MB or two there and goes on elsewhere: what is fetched behind it is fetched in vain.
Whoever has read some MB in order goes on: as much again is fetched ahead of it, so that it doubles, in several
requests at once. A seek begins anew, with nothing ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..settings import BLOCK_BYTES, MIB
from .amounts import HEADER_BYTES, REQUEST_BLOCKS, affordable_ahead
from .blocks import block_count

_MOST_AHEAD_BYTES = 16 * MIB
"""Four requests: at 80 ms and 10 MB/s a connection, 40 MB/s."""
_NEAR_BYTES = 2 * MIB
"""The kernel's read-ahead asks for several pieces at once, and they come a little out of order."""
_MAX_RUNS = 64
"""Readers of one instance that are told apart."""


class Window(NamedTuple):
    """What to have fetched for a reader."""

    stop: int
    """The block up to which."""
    step: int
    """Blocks to ask for at once."""


@dataclass(slots=True)
class _Run:
    """What somebody has read in order."""

    start: int
    end: int


class Runs:
    """Who reads in order in one instance, and how far each has come."""

    def __init__(self, capacity_bytes: int, sharers: int) -> None:
        """
        :param capacity_bytes: what the cache can keep of all instances.
        :param sharers: how many may share it, each with a window of its own.
        """
        self._capacity = capacity_bytes
        self._sharers = sharers
        self._runs: list[_Run] = []  # used last: last

    def read(self, start: int, end: int) -> Window:
        """Somebody reads bytes [start, end)."""
        run = self._continued(start, end)
        length = run.end - run.start
        ahead = min(length, self._affordable_bytes) if length >= HEADER_BYTES else 0
        return _window(end, ahead)

    def clear(self) -> None:
        """Everybody begins anew."""
        self._runs.clear()

    def _continued(self, start: int, end: int) -> _Run:
        for number, run in enumerate(reversed(self._runs), 1):
            if abs(start - run.end) <= _NEAR_BYTES:
                del self._runs[-number]
                run.start, run.end = min(run.start, start), max(run.end, end)
                break
        else:
            run = _Run(start, end)
            del self._runs[: max(0, len(self._runs) + 1 - _MAX_RUNS)]
        self._runs.append(run)
        return run

    @property
    def _affordable_bytes(self) -> int:
        sharers = max(self._sharers, 2 * len(self._runs))
        return min(_MOST_AHEAD_BYTES, affordable_ahead(self._capacity, sharers))


def _window(end: int, ahead: int) -> Window:
    """Ends where a request does, so that the next one is asked for when it is worth one."""
    stop = block_count(end)
    halves = ahead // 2 // BLOCK_BYTES
    if not halves:
        return Window(stop, REQUEST_BLOCKS)
    step = min(REQUEST_BLOCKS, 1 << halves.bit_length() - 1)
    return Window(max(stop, (end + ahead) // BLOCK_BYTES // step * step), step)


def gaps(start: int, window: Window, is_there: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    """The blocks from ``start`` on that are not there, as pieces [first, last + 1) of the size to ask for at once."""
    first = start
    for block in range(start, window.stop):
        if is_there(block):
            if first < block:
                yield first, block
            first = block + 1
        elif block + 1 - first == window.step:
            yield first, block + 1
            first = block + 1
    if first < window.stop:
        yield first, window.stop

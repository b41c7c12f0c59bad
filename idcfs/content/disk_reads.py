"""Reads of the disk that are under way: whoever wants the same meanwhile waits for them instead of reading too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

Name = tuple[bytes, bytes]
"""Of a block's file, and the digest of what is to be in it."""


@dataclass(slots=True)
class _Reading:
    """One read of a file, shared by all who want it."""

    data: bytes | None = None
    is_done: bool = False
    ended: trio.Event = field(default_factory=trio.Event)


class Reads(dict[Name, _Reading]):
    """Those under way, each in the task of who came first.

    No ``SingleFlight``: there a read would go on when nobody wants it any more, and keep its turn from those who wait.
    """

    async def share(self, name: Name, read: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
        """What ``read`` gives, once for all who want it now. If the one who does is cancelled before, another does."""
        while (reading := self.get(name)) is not None:
            await reading.ended.wait()
            if reading.is_done:
                return reading.data
        reading = self[name] = _Reading()
        try:
            reading.data = await read()
            reading.is_done = True
        finally:
            del self[name]
            reading.ended.set()
        return reading.data

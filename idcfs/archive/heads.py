"""Which instance a bucket's file is: its first KiB says so, in the file meta (PS3.10 section 7.1).

That a file is none is believed only of bytes that are certainly its own: a page that says "busy", a refusal or a
connection that breaks tells nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..errors import Damaged, DeadlinePassed, NoInstance, Truncated
from ..filemeta import UID, FileMeta, parse_file_meta
from ..settings import KIB
from .body import open_body
from .objects import ListedObject
from .transport import Transport

HEADS_AT_ONCE = 24
"""Of all series together, as many as downloads: the other connections stay free for listings and contents."""
_HEAD_BYTES = (1 * KIB, 64 * KIB)
"""How much of a file is read for its file meta, of 200-1,000 bytes; the second where the first is not enough."""


class Heads:
    """Reads them, so many at once."""

    def __init__(self, seconds: float) -> None:
        """
        :param seconds: how long one may take from the beginning of its answer to its last byte, since those that drip
            would keep all others from being read.
        """
        self._seconds = seconds
        self._limiter = trio.CapacityLimiter(HEADS_AT_ONCE)

    async def identify(
        self, transport: Transport, folder: str, one: ListedObject, advance: Callable[[int], None]
    ) -> str:
        """The SOPInstanceUID of a file of the series whose content UUID is ``folder``.

        :param advance: called with the number of bytes that have come.
        :raises NoInstance: if it has none.
        :raises Damaged: if it is of another size than is listed, or nothing that could be its own.
        :raises DeadlinePassed: if it takes too long. And what the transport raises.
        """
        try:
            return await self._identify(transport, folder, one, advance)
        except Truncated:  # connections break, and hardly twice
            return await self._identify(transport, folder, one, advance)

    async def _identify(
        self, transport: Transport, folder: str, one: ListedObject, advance: Callable[[int], None]
    ) -> str:
        """Read further where its first KiB does not hold all of the file meta."""
        for most in _HEAD_BYTES:
            length = min(most, one.size)
            head, is_its_own = await self._head(transport, f"/{folder}/{one.name}", one.size, length, advance)
            fault: type[Damaged] = NoInstance if is_its_own else Damaged
            meta = _file_meta(head, fault, whole=length in (one.size, _HEAD_BYTES[-1]))
            if meta is not None and UID.fullmatch(meta.instance_uid):
                return meta.instance_uid
        raise fault("its file meta names no instance")

    async def _head(
        self, transport: Transport, path: str, size: int, length: int, advance: Callable[[int], None]
    ) -> tuple[bytes, bool]:
        """The first ``length`` bytes of a file, whatever else a server without ranges sends.

        And whether they are so many, of an answer that tells the size that is listed.
        """
        head = bytearray()
        async with self._limiter, transport.stream(path, "*/*", 0, length, kind="bucket_requests") as answer:
            with trio.move_on_after(self._seconds) as scope:
                body = await open_body(answer, 0, length, any_type=True)
                if body.size not in (None, size):
                    raise Damaged(f"{answer.where} has {body.size} bytes, and is listed with {size}")
                async for chunk in body:
                    head += chunk
                    advance(len(chunk))
                    if len(head) >= length:
                        break
            if scope.cancelled_caught:
                raise DeadlinePassed(
                    f"{answer.where}: its first {length} bytes did not come within {self._seconds:g} s"
                )
        return bytes(head[:length]), body.size == size and len(head) >= length


def _file_meta(head: bytes, fault: type[Damaged], *, whole: bool) -> FileMeta | None:
    try:
        return parse_file_meta(head, whole=whole)
    except Damaged as error:
        raise fault(str(error)) from None

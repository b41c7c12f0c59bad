"""Sends a reply the way the knobs want it: slowly, in pieces, or not to its end."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Protocol

from tests.twin.knobs import Knobs
from tests.twin.reply import Reply
from tests.twin.state import State

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_BODYLESS = frozenset({204, 304})


class Connection(Protocol):
    """What the delivery needs of the server's connection below ASGI."""

    transport: asyncio.Transport
    """Below all framing."""
    conn: Any
    """The h11 state machine."""


class Gone(Exception):
    """The connection is closed: by the client, or on purpose."""


async def hang_up(connection: Connection, receive: Receive, reset: bool = False) -> None:
    """Closes the connection under the response and waits until the server has noticed."""
    if reset:
        raw = connection.transport.get_extra_info("socket")
        # Linger of 0 seconds: close() sends RST instead of FIN.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.transport.abort()
    else:
        connection.transport.close()
    await client_gone(receive, 5.0)


async def client_gone(receive: Receive, seconds: float) -> bool:
    """Waits up to so many seconds for the client to go away."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
            return True
    return False


class Delivery:
    """One reply on its way."""

    def __init__(self, reply: Reply, knobs: Knobs, state: State, connection: Connection) -> None:
        self._reply = reply
        self._knobs = knobs
        self._state = state
        self._connection = connection
        self._sent = 0
        self._began = time.monotonic()

    async def run(self, receive: Receive, send: Send, head_only: bool) -> None:
        """Sends headers and body; a client that goes away ends it quietly."""
        reply = self._reply
        if reply.framing == "close":
            # h11 knows a body that ends with its connection only as an answer to an older client.
            self._connection.conn.their_http_version = b"1.0"
        await send({"type": "http.response.start", "status": reply.status, "headers": self._headers()})
        if head_only or reply.status in _BODYLESS:
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await self._body(receive, send)
        except Gone:
            return
        await send({"type": "http.response.body", "body": b""})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        reply = self._reply
        headers = dict(reply.headers)
        if reply.media_type:
            headers["Content-Type"] = reply.media_type
        if reply.framing == "length" and reply.status not in _BODYLESS:
            headers["Content-Length"] = str(reply.length if reply.told_length is None else reply.told_length)
        return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

    async def _body(self, receive: Receive, send: Send) -> None:
        for chunk in self._reply.chunks(self._chunk_bytes()):
            rest = memoryview(chunk)
            while rest:
                count = await self._room(receive)
                await self._write(rest[:count], send)
                rest = rest[count:]
        if self._sent == self._reply.close_after:
            await self._room(receive)
        for chunk in self._reply.excess(self._chunk_bytes()) if self._reply.excess else ():
            self._connection.transport.write(chunk)

    async def _write(self, data: memoryview, send: Send) -> None:
        if self._connection.transport.is_closing():
            self._state.aborted += 1
            raise Gone
        await send({"type": "http.response.body", "body": bytes(data), "more_body": True})
        self._sent += len(data)
        self._state.bytes_sent += len(data)
        self._state.quota_used += len(data)
        if self._knobs.bytes_per_second:
            due = self._began + self._sent / self._knobs.bytes_per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _room(self, receive: Receive) -> int:
        """How many bytes may be written now; does first what is due at this point of the body."""
        if self._reply.close_after is not None and self._sent >= self._reply.close_after:
            await hang_up(self._connection, receive, self._reply.reset)
            raise Gone
        if self._due(self._knobs.stall_after_bytes):
            await self._stall(receive)
        if self._due(self._knobs.drip_after_bytes):
            if await client_gone(receive, 1.0):
                self._state.aborted += 1
                raise Gone
            return 1
        marks = (self._reply.close_after, self._knobs.stall_after_bytes, self._knobs.drip_after_bytes)
        return min([mark - self._sent for mark in marks if mark is not None and mark > self._sent] or [2**62])

    def _due(self, mark: int | None) -> bool:
        return mark is not None and self._sent >= mark

    async def _stall(self, receive: Receive) -> None:
        """Silence until the client gives up, or until the knob is turned back."""
        while self._state.knobs.stall_after_bytes is not None:
            if await client_gone(receive, 0.2):
                self._state.aborted += 1
                raise Gone
        self._knobs = self._state.knobs

    def _chunk_bytes(self) -> int:
        """Small enough that a throttled body flows evenly: some 20 writes a second."""
        if not self._knobs.bytes_per_second:
            return self._knobs.chunk_bytes
        return max(1, min(self._knobs.chunk_bytes, int(self._knobs.bytes_per_second / 20)))

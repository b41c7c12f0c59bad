"""A server on the loopback interface that answers byte for byte what a test wrote down, sound or not."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from socket import SO_LINGER, SOL_SOCKET

import trio

from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats


@dataclass(frozen=True)
class Reply:
    """What goes over the wire for one request: ``chunks``, ``pause_seconds`` apart, and what happens to the socket."""

    chunks: Sequence[bytes] = ()
    then: str = "keep"  # or "close", "reset", "hang"
    pause_seconds: float = 0.0


@dataclass
class Server:
    """``requests`` are the heads received so far, ``connections`` the sockets accepted."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    closed_by_client: trio.Event = field(default_factory=trio.Event)


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
DROP = Reply(then="close")


def http(status: int, body: bytes = b"", headers: str = "", then: str = "keep") -> Reply:
    """A sound answer with a Content-Length; ``headers`` are lines that end in CRLF."""
    length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
    return Reply([f"HTTP/1.1 {status} Whatever\r\n{headers}{length}\r\n".encode() + body], then)


def raw(head: str, *chunks: bytes, then: str = "close", pause_seconds: float = 0.0) -> Reply:
    """A 200 with just these header lines, then ``chunks`` as they are."""
    return Reply([f"HTTP/1.1 200 OK\r\n{head}\r\n".encode(), *chunks], then, pause_seconds)


JSON_TYPE = "Content-Type: application/dicom+json\r\n"
OK = http(200, b'[{"a": 1}]', JSON_TYPE)


@asynccontextmanager
async def serving(*replies: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that gives ``replies`` in order, the last one for ever; over HTTPS with ``tls``."""
    server = Server()
    script = list(replies)
    async with trio.open_nursery() as nursery:
        serve = partial(_serve, server, lambda: script.pop(0) if len(script) > 1 else script[0])
        listen = partial(trio.serve_ssl_over_tcp, ssl_context=tls, https_compatible=True) if tls else trio.serve_tcp
        listeners = await nursery.start(partial(listen, serve, 0, host="127.0.0.1"))
        listener = listeners[0].transport_listener if tls else listeners[0]
        server.url = f"http{'s' if tls else ''}://127.0.0.1:{listener.socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def transport_to(url: str, stats: Stats | None = None, **settings: float) -> AsyncIterator[Transport]:
    """A transport with short waits. ``settings`` override those of ``TransportSettings``."""
    short: dict[str, float] = {"timeout_seconds": 10.0, "backoff_initial_seconds": 0.001, "backoff_max_seconds": 0.002}
    archive = ArchiveSettings(name="scripted", base_url=url, has_daily_quota=True)
    chosen = TransportSettings(**(short | settings))  # type: ignore[arg-type]
    async with Transport(archive, chosen, stats or Stats()) as transport:
        yield transport


async def body_of(transport: Transport, path: str = "/x") -> bytes:
    async with transport.stream(path, "application/dicom") as answer:
        return b"".join([chunk async for chunk in answer])


async def _serve(server: Server, next_reply: Callable[[], Reply], stream: Stream) -> None:
    server.connections += 1
    try:
        while (head := await _receive_head(stream)) is not None:
            server.requests.append(head)
            reply = next_reply()
            for chunk in reply.chunks:
                await stream.send_all(chunk)
                await trio.sleep(reply.pause_seconds)
            if reply.then != "keep":
                await _part(stream.transport_stream if isinstance(stream, trio.SSLStream) else stream, reply.then)
                break
    except trio.BrokenResourceError:
        server.closed_by_client.set()
    await stream.aclose()


async def _part(stream: trio.SocketStream, how: str) -> None:
    if how == "hang":
        await trio.sleep_forever()
    if how == "reset":
        stream.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


async def _receive_head(stream: trio.abc.ReceiveStream) -> str | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = await stream.receive_some()
        if not data:
            return None
        head += data
    return head.decode()

"""HTTP/1.1 connections to one origin, kept for the next request: an httpx transport made of trio's streams and h11.

httpx has one of its own, which is used where this one is not: through proxies, and where an archive redirects to. Its
locks let every other task have a turn four times between the end of an answer and the next request. While 16 transfers
keep the processor busy, a turn is milliseconds in which nothing is on the wire, a fifth of the time in all
(docs/measured.md). Here the next request is sent without a turn in between.

HTTP/1.1 only: with HTTP/2 a stream that is left unread uses up the window of all others, and stopping a download
half-way is what a filesystem does all day.
"""

from __future__ import annotations

import os
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache, partial
from math import inf
from typing import Self, cast
from urllib.request import getproxies, proxy_bypass

import h11
import httpx
import trio

from ..settings import KIB

_READ_BYTES = 256 * KIB
"""The cost is by the piece, not by the byte: with 64 KiB, large instances take half as long again, or longer."""
_MAX_HEAD_BYTES = 100 * KIB
"""Of an answer's status line and headers, which real servers fill with less than 1 KiB."""
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def origin_of(url: httpx.URL) -> Origin:
    """Scheme, host and port."""
    return url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS.get(url.scheme, 0)


def is_direct(url: httpx.URL) -> bool:
    """Whether ``url`` can be reached by HTTP without a proxy, as far as the environment tells.

    HTTPS_PROXY, NO_PROXY and their like, read as urllib and curl read them.
    """
    scheme, host, port = origin_of(url)
    proxies = getproxies()
    is_proxied = (scheme in proxies or "all" in proxies) and not proxy_bypass(f"{host}:{port}")
    return scheme in _PORTS and bool(host) and not is_proxied


def direct_origin(base_url: str) -> Origin | None:
    """The origin of ``base_url``; None where it is reached through a proxy, or not at all."""
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url)
        if is_direct(url):
            return origin_of(url)
    return None


def certificates() -> ssl.SSLContext:
    """Whom HTTPS trusts, as the environment has it now; the same for all, since to read it takes longer than a request.

    SSL_CERT_FILE and SSL_CERT_DIR, read as httpx reads them, else certifi's.
    """
    return _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _certificates(file: str | None, directory: str | None) -> ssl.SSLContext:
    """``file`` and ``directory`` only tell one environment from another."""
    made = httpx.create_ssl_context()
    made.set_alpn_protocols(["http/1.1"])
    return made


class Connections(httpx.AsyncBaseTransport):
    """Up to ``number`` connections. All requests are for one and the same origin, and have no body."""

    def __init__(self, number: int, idle_seconds: float) -> None:
        """
        :param idle_seconds: after which a connection is not used again, and closed.
        """
        self._certificates = certificates()
        self._idle_seconds = idle_seconds
        self._free = trio.Semaphore(number)
        self._idle: deque[tuple[float, _Connection]] = deque()  # since when; the one used last is last
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to ``request``, its body still to come; waits while as many others as there may be are open.

        :raises httpx.ConnectError: and the other errors of httpx, as its own transport does.
        """
        try:
            self._free.acquire_nowait()  # acquire() would cost a turn
        except trio.WouldBlock:
            await self._free.acquire()
        try:
            connection = await self._connection(request)
            head = await connection.ask(request)
        except BaseException:
            self._free.release()
            raise
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=_Body(connection, partial(self._give_back, connection)),
            extensions={"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason},
        )

    async def aclose(self) -> None:
        """Close the connections that are not in use, and each of the others when its answer is."""
        self._closed = True
        while self._idle:
            await self._idle.popleft()[1].aclose()

    async def _connection(self, request: httpx.Request) -> _Connection:
        """The connection used last that can be used again, else a new one."""
        if self._idle and self._is_old(self._idle[0][0]):
            await self._idle.popleft()[1].aclose()  # one that has not been needed for long, bit by bit
        while self._idle:
            since, connection = self._idle.pop()
            if not self._is_old(since) and connection.is_usable:
                return connection
            await connection.aclose()
        return _Connection(await self._connect(request))

    def _is_old(self, since: float) -> bool:
        return trio.current_time() - since > self._idle_seconds

    async def _connect(self, request: httpx.Request) -> _Stream:
        scheme, host, port = origin_of(request.url)
        seconds = _timeout(request, "connect")
        stream: _Stream | None = None
        try:
            with trio.fail_after(seconds):
                stream = await trio.open_tcp_stream(host, port)
                if scheme == "https":
                    stream = trio.SSLStream(stream, self._certificates, server_hostname=host, https_compatible=True)
                    await stream.do_handshake()
                return stream
        except BaseException as error:
            if stream is not None:
                await trio.aclose_forcefully(stream)
            if isinstance(error, trio.TooSlowError):
                raise httpx.ConnectTimeout(f"no connection within {seconds:g} s") from error
            if isinstance(error, OSError | UnicodeError | trio.BrokenResourceError):  # UnicodeError: of the name
                raise httpx.ConnectError(_reason(error)) from error
            raise

    async def _give_back(self, connection: _Connection) -> None:
        """Its answer is not read any more."""
        try:
            if connection.begin_anew() and not self._closed:
                self._idle.append((trio.current_time(), connection))
            else:
                await connection.aclose()
        finally:
            self._free.release()


_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class _Connection:
    """One connection: a request, its answer, and then the next."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._read_seconds = inf

    async def ask(self, request: httpx.Request) -> h11.Response:
        """Send ``request``, and return the head of its answer; closes the connection where that fails."""
        try:
            await self._send(request)
            while not isinstance(event := await self.receive(), h11.Response):
                pass  # 1xx: the answer is still to come
            return event
        except BaseException:
            await self.aclose()
            raise

    async def _send(self, request: httpx.Request) -> None:
        target, headers = request.url.raw_path, request.headers.raw
        try:
            head = self._protocol.send(h11.Request(method=request.method, target=target, headers=headers)) or b""
            head += self._protocol.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        self._read_seconds = _timeout(request, "read")
        try:
            with trio.fail_after(_timeout(request, "write")):
                await self._stream.send_all(head)
        except trio.TooSlowError as error:
            raise httpx.WriteTimeout("the request could not be sent") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.WriteError(_reason(error)) from error

    async def receive(self) -> h11.Event | type[h11.PAUSED]:
        """What comes next of the answer."""
        try:
            while True:
                event = self._protocol.next_event()
                if event is not h11.NEED_DATA:
                    return cast("h11.Event | type[h11.PAUSED]", event)
                data = await self._read()
                if not data and self._protocol.their_state is h11.SEND_RESPONSE:
                    raise httpx.RemoteProtocolError("the server disconnected without an answer")
                self._protocol.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error

    async def _read(self) -> bytes:
        try:
            with trio.fail_after(self._read_seconds):
                return bytes(await self._stream.receive_some(_READ_BYTES))
        except trio.TooSlowError as error:
            raise httpx.ReadTimeout(f"nothing came for {self._read_seconds:g} s") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.ReadError(_reason(error)) from error

    def begin_anew(self) -> bool:
        """Be ready for the next request; False where the connection cannot be used again.

        What a server sends beyond the answer's end would be taken for the next answer.
        """
        states = {self._protocol.our_state, self._protocol.their_state}
        if states != {h11.DONE} or self._protocol.trailing_data[0] or self._has_more_under_tls:
            return False
        self._protocol.start_next_cycle()
        return True

    @property
    def _has_more_under_tls(self) -> bool:
        """Whether bytes have come that are not decrypted, or not taken yet; trio does not tell of the former."""
        stream = self._stream
        return isinstance(stream, trio.SSLStream) and bool(stream.pending() or stream._incoming.pending)

    @property
    def is_usable(self) -> bool:
        """Whether an idle connection is still open: all it could have to say is that it is not."""
        stream = self._stream
        socket = stream.transport_stream.socket if isinstance(stream, trio.SSLStream) else stream.socket
        return not socket.is_readable()

    async def aclose(self) -> None:
        """Close it at once, whatever the other end makes of it."""
        await trio.aclose_forcefully(self._stream)


class _Body(httpx.AsyncByteStream):
    """The body of an answer. Not a generator: one that is left half-way has to be waited for."""

    def __init__(self, connection: _Connection, closed: Callable[[], Awaitable[None]]) -> None:
        self._connection = connection
        self._ended = False
        self._closed: Callable[[], Awaitable[None]] | None = closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._closed is None:
            raise httpx.StreamClosed
        if not self._ended:
            event = await self._connection.receive()
            if isinstance(event, h11.Data):
                return bytes(event.data)
        self._ended = True
        raise StopAsyncIteration

    async def aclose(self) -> None:
        closed, self._closed = self._closed, None
        if closed is not None:
            await closed()


def _timeout(request: httpx.Request, kind: str) -> float:
    """Seconds that httpx wants a request to wait at most, to ``connect``, ``read`` or ``write``."""
    seconds: float | None = request.extensions.get("timeout", {}).get(kind)
    return inf if seconds is None else seconds


def _reason(error: BaseException) -> str:
    """In the words of whoever knew it first: trio's own say only that something broke."""
    while error.__cause__ is not None and not isinstance(error.__cause__, BaseExceptionGroup):
        error = error.__cause__
    return str(error) or type(error).__name__

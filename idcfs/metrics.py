"""Counters and gauges for Prometheus: its text format 0.0.4, at ``http://127.0.0.1:PORT/metrics``.

https://prometheus.io/docs/instrumenting/exposition_formats/ says what a line looks like. Only this machine is answered,
one request per connection, so many at once and for so long: nobody who is slow, or many, holds anything up.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

import h11
import trio

from .errors import UsageError
from .settings import KIB, METRICS_HOST, METRICS_PATH
from .stats import COUNTERS, GAUGES, Stats

MAX_CLIENTS = 8
"""Served at once; who comes beyond that is hung up on. One Prometheus has one connection."""
CLIENT_SECONDS = 5.0
"""For a whole request and its answer."""
_MAX_HEAD_BYTES = 8 * KIB
_METHODS = (b"GET", b"HEAD")
_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

log = logging.getLogger(__name__)


async def listen(port: int) -> list[trio.SocketListener]:
    """Sockets that clients can connect to; ``port`` 0 is any that is free.

    :raises UsageError: if the port cannot be had.
    """
    try:
        return await trio.open_tcp_listeners(port, host=METRICS_HOST)
    except OSError as error:
        number = error.errno or getattr(error.__cause__, "errno", None)
        why = "is in use: give another one, or 0 for any" if number == errno.EADDRINUSE else f"cannot be had: {error}"
        raise UsageError(f"--metrics-port {port} {why}") from None


def port_of(listeners: list[trio.SocketListener]) -> int:
    """The port on which they listen."""
    return int(listeners[0].socket.getsockname()[1])


async def serve(listeners: list[trio.SocketListener], stats: Stats) -> None:
    """Answer for ever."""
    await trio.serve_listeners(_Server(lambda: text_of(stats)).answer, listeners)


def text_of(stats: Stats) -> bytes:
    """Every counter and gauge as it stands now, in Prometheus' text format."""
    return "".join(_lines(stats)).encode()


def _lines(stats: Stats) -> Iterator[str]:
    for name, value in stats.snapshot().items():
        is_counter = name in COUNTERS
        full = f"idcfs_{name}_total" if is_counter else f"idcfs_{name}"
        meaning = COUNTERS[name] if is_counter else GAUGES[name]
        yield f"# HELP {full} {meaning}\n# TYPE {full} {'counter' if is_counter else 'gauge'}\n{full} {value}\n"


class _Server:
    """Answers clients, a few at once."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._clients = 0

    async def answer(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end; whatever comes over it, nothing is raised."""
        self._clients += 1
        try:
            with trio.move_on_after(CLIENT_SECONDS):
                async with stream:
                    if self._clients <= MAX_CLIENTS:
                        await self._exchange(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has gone
        except Exception:
            log.exception("a request for metrics failed: this is a bug")
        finally:
            self._clients -= 1

    async def _exchange(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(_MAX_HEAD_BYTES))
            if not isinstance(event, h11.Request):
                return  # it hung up
            status, body = self._response(event)
        except h11.RemoteProtocolError as error:
            status, body = error.error_status_hint, b"this is no request\n"
        send = partial(_send, stream, connection)
        head = [(b"Content-Type", _TYPE), (b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
        if status == 405:
            head.append((b"Allow", b"GET, HEAD"))
        await send(h11.Response(status_code=status, headers=head))
        if not (isinstance(event, h11.Request) and event.method == b"HEAD"):
            await send(h11.Data(data=body))
        await send(h11.EndOfMessage())
        await stream.send_eof()

    def _response(self, request: h11.Request) -> tuple[int, bytes]:
        host, path = _host_and_path(request)
        if host is not None and not _is_this_machine(host):
            return 421, b"only for this machine, by its own name or address\n"
        if request.method not in _METHODS:
            return 405, b"only GET and HEAD\n"
        if path != METRICS_PATH:
            return 404, f"only {METRICS_PATH}\n".encode()
        return 200, self._make()


def _host_and_path(request: h11.Request) -> tuple[str | None, str]:
    """Who is asked, None if that is not said, and for what; the target counts for more than Host (RFC 9112, 3.2.2)."""
    target, said = request.target.decode("latin-1"), dict(request.headers).get(b"host")
    if target.startswith("/"):
        return None if said is None else said.decode("latin-1"), target.partition("?")[0]
    _scheme, is_absolute, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    return (authority, slash + path.partition("?")[0]) if is_absolute else (None, target)


def _is_this_machine(host: str) -> bool:
    """Whether ``host``, with or without a port, is a name or address that leads here alone.

    Any other may belong to a page that was made to lead here (DNS rebinding), and whose script would read the answer.
    """
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        return name.rstrip(".") == "localhost" or ip_address(name).is_loopback
    return False


async def _send(stream: trio.SocketStream, connection: h11.Connection, event: h11.Event) -> None:
    if data := connection.send(event):
        await stream.send_all(data)

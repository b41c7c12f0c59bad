"""The twin's HTTP server: uvicorn with h11, and a hand on every connection.

Uvicorn streams with back-pressure and survives clients that abort. Below ASGI the twin needs each connection itself:
to close it mid-body, to reset it, and to let its idle time follow the knobs.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.twin.app import TwinApp
from tests.twin.model import Holdings
from tests.twin.state import State

_BIND_ATTEMPTS = 3_000
"""A hundredth of a second apart."""


def serve(scan: Callable[[], Holdings], state: State, port: int, with_parent: bool) -> None:
    """Serves on 127.0.0.1 until a signal comes or, if ``with_parent``, until standard input ends."""
    live: dict[Any, H11Protocol] = {}

    class TwinProtocol(H11Protocol):
        """A connection that is found by its client's address."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            live[self.client] = self

        def connection_lost(self, exc: Exception | None) -> None:
            if live.get(self.client) is self:
                del live[self.client]
            state.connections.discard(self)
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self.timeout_keep_alive = state.knobs.keepalive_seconds  # type: ignore[assignment]
            super().on_response_complete()

    class TwinServer(uvicorn.Server):
        """Says when it listens."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            assert sockets
            print(f"READY http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)

    config = uvicorn.Config(
        TwinApp(scan, state, live.__getitem__),
        http=TwinProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = TwinServer(config)
    if with_parent:
        threading.Thread(target=_exit_with_stdin, args=(server,), daemon=True).start()
    with _listening(port) as listener:
        server.run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY; without it, each small answer would wait 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _bind(listener, port)
    listener.listen(512)
    return listener


def _bind(listener: socket.socket, port: int) -> None:
    """Waits for a twin that still has the port, and says so: see ``Twin.restart``."""
    for attempt in itertools.count():
        try:
            listener.bind(("127.0.0.1", port))
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == _BIND_ATTEMPTS:
                raise
            if not attempt:
                print("WAITING", flush=True)
        time.sleep(0.01)


def _exit_with_stdin(server: uvicorn.Server) -> None:
    """A parent that dies, however it dies, closes the pipe: no twin is left behind."""
    sys.stdin.buffer.read()
    server.should_exit = True

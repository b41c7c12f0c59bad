"""Requests of the library ``requests`` within bounds: so many bytes of an answer, and so many seconds in all.

Its own timeouts begin anew with each byte, and it reads an answer however long it is. So a server that drips would hold
a thread for ever, and one without an end would fill the memory. google-auth sends by it (``adc.py``).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from threading import Event, Thread
from time import monotonic
from typing import Any

from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException, Timeout
from requests.models import Response
from urllib3.exceptions import HTTPError

from ..settings import KIB

_READ_BYTES = 16 * KIB
"""At a time: what is packed a thousandfold stays small."""
_AGAIN_SECONDS = 0.5
"""A connection that is being made when the time is up can only be ended once it is there."""


class Bounded(HTTPAdapter):
    """Hands out answers that are read to their end, of at most ``most`` bytes, each within ``seconds`` in all."""

    def __init__(self, seconds: float, most: int) -> None:
        super().__init__()
        self._seconds = seconds
        self._most = most
        self._connections: list[Any] = []

    def get_connection_with_tls_context(self, *args: Any, **named: Any) -> Any:
        """Called by ``send`` for the connections to a server, or through a proxy; remembers those that are made."""
        pool: Any = super().get_connection_with_tls_context(*args, **named)
        kind = pool.ConnectionCls

        def make(*args: Any, **named: Any) -> Any:
            connection = kind(*args, **named)
            self._connections.append(connection)
            return connection

        pool.ConnectionCls = make
        return pool

    def send(self, request: Any, stream: bool = False, *args: Any, **named: Any) -> Response:
        """The answer to ``request``, its body read.

        :raises RequestException: as of the library; also if the answer is too long, or takes too long.
        """
        deadline = monotonic() + self._seconds
        fault: RequestException | None = None
        try:
            with self._watched(deadline):
                response = super().send(request, True, *args, **named)
                response.raw = BytesIO(self._body(response.raw))  # what the library reads the body from
        except RequestException as error:
            fault = error
        except HTTPError as error:
            fault = RequestException(f"its answer broke off: {error}")
        if monotonic() >= deadline:  # which is why it failed, whatever it says
            raise Timeout(f"it did not answer within {self._seconds:g} s")
        if fault is not None:
            raise fault
        return response

    def _body(self, raw: Any) -> bytes:
        body = bytearray()
        try:
            for chunk in raw.stream(_READ_BYTES, decode_content=True):
                body += chunk
                if len(body) > self._most:
                    raise RequestException(f"it sent more than {self._most:,} bytes")
        finally:
            raw.close()
        return bytes(body)

    @contextmanager
    def _watched(self, deadline: float) -> Iterator[None]:
        """Connections end at the deadline within, and whoever reads from them learns it."""
        over = Event()

        def end() -> None:
            while not over.wait(max(deadline - monotonic(), _AGAIN_SECONDS)):
                for connection in self._connections:
                    if (sock := connection.sock) is not None:
                        with suppress(OSError):
                            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # a TLS socket's own waits for its reader

        watcher = Thread(target=end, name="idcfs-token-deadline", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

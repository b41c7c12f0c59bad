"""The one way out of a fresh machine: an HTTP proxy on its loopback that lets through who its packages come from.

It runs outside, with a listening socket that was made inside, so the machine needs no route, no name service and no
program of ours. Who else is asked for is refused, and remembered.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 120.0
"""Without a byte from either side, a connection is given up."""
CHUNK_BYTES = 256 * 1024
_POLL_SECONDS = 0.02
"""How often it is looked whether the gate is to close."""
_OF_THIS_CONNECTION = frozenset({"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"})


class Gate:
    """Passes requests on to some hosts, and counts the bytes that come back.

    :param listening: its socket, bound and not more.
    :param hosts: names as URLs have them, in lower case.
    """

    def __init__(self, listening: socket.socket, hosts: Iterable[str]) -> None:
        self.hosts = frozenset(hosts)
        self.shut = False
        """Whether nobody is let through any more."""
        self.refused: set[str] = set()
        """Who was asked for in vain."""
        self._bytes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"gate": self}), bind_and_activate=False
        )
        self._server.socket.close()
        self._server.socket = listening
        self._server.daemon_threads = True
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), name="gate", daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""
        host, port = self._server.socket.getsockname()[:2]
        return host, port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def admits(self, host: str) -> bool:
        """Whether ``host`` may be asked; if not, that is remembered."""
        if host in self.hosts and not self.shut:
            return True
        with self._lock:
            self.refused.add(host)
        return False

    def count(self, host: str, size: int) -> None:
        with self._lock:
            self._bytes[host] += size

    def counted(self) -> Counter[str]:
        """Bytes that have come from each host: of HTTP the bodies, of HTTPS all that TLS carries."""
        with self._lock:
            return Counter(self._bytes)


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests that come to the gate of its subclass."""

    gate: ClassVar[Gate]
    protocol_version = "HTTP/1.1"  # apt sends several requests over one connection
    timeout = TIMEOUT_SECONDS

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        self.close_connection = True
        if not self._admitted(host.lower()):
            return
        try:
            server = socket.create_connection((host, int(port)), TIMEOUT_SECONDS)
        except (OSError, ValueError) as error:
            self.send_error(502, str(error))
            return
        self.send_response(200)
        self.end_headers()
        with server, contextlib.suppress(OSError):
            _splice(self.connection, server, lambda size: self.gate.count(host.lower(), size))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        host = url.hostname or ""
        if not self._admitted(host):
            return
        server = http.client.HTTPConnection(host, url.port or 80, timeout=TIMEOUT_SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THIS_CONNECTION}
        try:
            path = url._replace(scheme="", netloc="").geturl() or "/"
            server.request(self.command, path, headers=headers)
            self._pass_on(server.getresponse(), host)
        except (OSError, http.client.HTTPException) as error:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.send_error(502, str(error))
        finally:
            server.close()

    do_HEAD = do_GET

    def _admitted(self, host: str) -> bool:
        if self.gate.admits(host):
            return True
        self.send_error(403, f"{host} may not be asked from here")
        return False

    def _pass_on(self, answer: http.client.HTTPResponse, host: str) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_THIS_CONNECTION:
                self.send_header(name, value)
        if answer.length is None:  # only the end of the connection says where the body ends
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        while piece := answer.read(CHUNK_BYTES):
            self.wfile.write(piece)
            self.gate.count(host, len(piece))

    def log_message(self, *_: Any) -> None: ...


def _splice(client: socket.socket, server: socket.socket, count: Any) -> None:
    """Move bytes both ways until either side has ended, or nothing has come for too long.

    :raises OSError: if a connection breaks.
    """
    other = {client: server, server: client}
    while ready := select.select(list(other), [], [], TIMEOUT_SECONDS)[0]:
        for source in ready:
            piece = source.recv(CHUNK_BYTES)
            if not piece:
                return
            other[source].sendall(piece)
            if source is server:
                count(len(piece))

"""A server of http.server's, in threads of this process, for tests whose answers are a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_LOOK_SECONDS = 0.02


class QuietHandler(BaseHTTPRequestHandler):
    """Says nothing on stderr, which pytest would show, nor of who leaves without having heard all."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def threaded(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port of a server on 127.0.0.1 that answers as ``handler`` does. What is half answered does not keep it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(_LOOK_SECONDS,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()

"""An archive further away: a TCP proxy on loopback that delays and counts HTTP requests, and moves bytes as they are.

    python -m scripts.delay http://127.0.0.1:8042/dicom-web 0.04

prints ``READY URL``, the same address through the proxy, when it listens; for each line of standard input, how many
requests came, how many bytes went back, and how many requests wait for an answer; and ends when standard input ends.
Each connection to it is one to the server, so as many run in parallel as a client opens.

It knows only so much of HTTP: what a client says after the server has said something is the next request. That holds
for every client that waits for an answer before it asks again on the same connection, and all do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import SplitResult, urlsplit

import click
import trio

from scripts.harness import Failure

_CHECKOUT = Path(__file__).resolve().parents[1]
_READY = "READY "
_REQUEST_BYTES = 64 * 1024
_ANSWER_BYTES = 256 * 1024
"""Read at once: a slice of 0.5 MB in two or three pieces. More is no faster."""


class Traffic(NamedTuple):
    """What a proxy has passed on so far."""

    requests: int
    """Of HTTP."""
    bytes_moved: int
    """From the server, headers included."""
    waiting: int
    """How many of the requests nothing has been answered to yet."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs."""

    url: str
    _questions: IO[str]
    _answers: IO[str]

    def traffic(self) -> Traffic:
        """:raises Failure: if it has ended."""
        try:
            self._questions.write("\n")
            self._questions.flush()
            requests, bytes_moved, waiting = self._answers.readline().split()
        except (BrokenPipeError, ValueError):
            raise Failure("the delay proxy has ended") from None
        return Traffic(int(requests), int(bytes_moved), int(waiting))


@contextmanager
def delayed(url: str, seconds: float) -> Iterator[str]:
    """The address of ``url`` behind a proxy of its own process, which adds ``seconds`` to each request.

    The process ends with this one, however that ends.

    :raises Failure: if it does not start.
    """
    with counted(url, seconds) as proxy:
        yield proxy.url


@contextmanager
def counted(url: str, seconds: float) -> Iterator[Proxy]:
    """The same, for who wants to know what has passed too."""
    command = [sys.executable, "-m", "scripts.delay", url, str(seconds)]
    with subprocess.Popen(
        command, cwd=_CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith(_READY):
                raise Failure("the delay proxy did not start")
            yield Proxy(line.removeprefix(_READY).strip(), process.stdin, process.stdout)
        finally:
            process.terminate()


class _Counters:
    """What becomes a ``Traffic``."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes_moved = 0
        self.waiting = 0


async def serve(url: str, seconds: float, ready: Callable[[str], None], counters: _Counters) -> None:
    """Pass on to the server of ``url`` whatever comes, until cancelled; ``ready`` is told the address to use."""
    parts = urlsplit(url)

    async def handle(client: trio.SocketStream) -> None:
        # Either end may go away at any time; the other one learns of it by losing its connection too.
        try:
            async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 80) as server:
                await _Connection(client, server, seconds, counters).run()
        except* (OSError, trio.BrokenResourceError):
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=512)
    ready(_moved(parts, listeners[0].socket.getsockname()[1]))
    await trio.serve_listeners(handle, listeners)


def _moved(parts: SplitResult, port: int) -> str:
    """The URL with ``port`` of 127.0.0.1 as its server."""
    return parts._replace(netloc=f"127.0.0.1:{port}").geturl()


class _Connection:
    """A client's connection and the server's that belongs to it."""

    def __init__(
        self, client: trio.SocketStream, server: trio.SocketStream, seconds: float, counters: _Counters
    ) -> None:
        self._client = client
        self._server = server
        self._seconds = seconds
        self._counters = counters
        self._answered = True  # since the last request; before the first there is none to wait for

    async def run(self) -> None:
        """Until one of the two has nothing more to say."""
        try:
            async with trio.open_nursery() as nursery:

                async def run(direction: Callable[[], Awaitable[None]]) -> None:
                    await direction()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(run, self._requests)
                nursery.start_soon(run, self._answers)
        finally:
            self._answer_came()  # or never will

    async def _requests(self) -> None:
        while data := await self._client.receive_some(_REQUEST_BYTES):
            if self._answered:
                self._answered = False
                self._counters.requests += 1
                self._counters.waiting += 1
                await trio.sleep(self._seconds)
            await self._server.send_all(data)

    async def _answers(self) -> None:
        buffer = bytearray(_ANSWER_BYTES)  # one for all: fresh memory costs more than copying does
        view = memoryview(buffer)
        while count := await self._server.socket.recv_into(buffer):
            self._answer_came()
            self._counters.bytes_moved += count
            await self._client.send_all(view[:count])

    def _answer_came(self) -> None:
        if not self._answered:
            self._answered = True
            self._counters.waiting -= 1


async def _serve_with_stdin(url: str, seconds: float) -> None:
    """A parent that dies, however it dies, closes the pipe: no proxy is left behind."""
    counters = _Counters()
    listening = trio.Event()

    def ready(address: str) -> None:
        print(f"{_READY}{address}", flush=True)
        listening.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, url, seconds, ready, counters)
        await listening.wait()
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(counters.requests, counters.bytes_moved, counters.waiting, flush=True)
        nursery.cancel_scope.cancel()


@click.command()
@click.argument("url")
@click.argument("seconds", type=click.FloatRange(min=0))
def main(url: str, seconds: float) -> None:
    """Add SECONDS to each HTTP request for the server of URL."""
    trio.run(_serve_with_stdin, url, seconds)


if __name__ == "__main__":
    main()

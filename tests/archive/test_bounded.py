"""A login server that misbehaves on the wire: it gets no more time and memory than others, and no login goes astray."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from idcfs.archive.adc import find_login
from idcfs.archive.faults import Transient
from idcfs.settings import KIB, MIB
from tests.tokens import TokenEndpoint

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")

Say = Callable[[Callable[[bytes], None]], None]
"""Called with what sends bytes."""


class Server:
    """Says the same to everybody."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[bytes] = []
        self.sent = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        def send(data: bytes) -> None:
            if self._over.is_set():
                raise OSError("the test is over")
            connection.sendall(data)
            self.sent += len(data)

        with connection, suppress(OSError):
            self.asked.append(connection.recv(64 * KIB))
            self._say(send)

    def pause(self, seconds: float) -> None:
        self._over.wait(seconds)

    def stop(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def saying(say: Say) -> Iterator[Server]:
    server = Server(say)
    try:
        yield server
    finally:
        server.stop()


def said_of(server: Server, endpoint: TokenEndpoint, key: Path, seconds: float = 5.0) -> str:
    """What a refresh at ``server`` ends with."""
    account = json.loads(key.read_text()) | {"token_uri": f"http://127.0.0.1:{server.port}/token"}
    key.write_text(json.dumps(account))
    with pytest.raises(Transient, match=r"^Google's login server cannot be used: ") as caught:
        find_login(None).refresh(seconds)
    return str(caught.value).partition("used: ")[2]


def drip(send: Callable[[bytes], None]) -> None:
    pause = threading.Event()
    while True:
        send(b" ")
        pause.wait(0.02)


def drip_headers(send: Callable[[bytes], None]) -> None:
    send(b"HTTP/1.1 200 OK\r\nX-Slow:")
    drip(send)


def drip_a_body(send: Callable[[bytes], None]) -> None:
    send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n")
    drip(send)


@pytest.mark.parametrize("say", [drip_headers, drip_a_body])
def test_one_that_drips_is_given_up_and_its_thread_ends(
    say: Say, endpoint: TokenEndpoint, service_account: Path
) -> None:
    with saying(say) as server:
        assert said_of(server, endpoint, service_account, 0.3) == "it did not answer within 0.3 s"
    assert [thread.name for thread in threading.enumerate() if thread.name == "idcfs-token-deadline"] == []


def test_an_answer_without_an_end_is_not_read_to_it(endpoint: TokenEndpoint, service_account: Path) -> None:
    def say(send: Callable[[bytes], None]) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            send(bytes(64 * KIB))

    with saying(say) as server:
        assert said_of(server, endpoint, service_account) == "it sent more than 1,048,576 bytes"
        assert server.sent < 32 * MIB  # what the kernel's buffers hold is on its way already


def test_zeros_packed_a_thousandfold_are_not_unpacked(endpoint: TokenEndpoint, service_account: Path) -> None:
    packed = gzip.compress(bytes(64 * MIB))

    def say(send: Callable[[bytes], None]) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)

    with saying(say) as server:
        assert said_of(server, endpoint, service_account) == "it sent more than 1,048,576 bytes"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_login_follows_a_redirect(status: int, endpoint: TokenEndpoint, service_account: Path) -> None:
    with saying(drip) as thief:
        to = b"Location: http://127.0.0.1:%d/secret\r\nContent-Length: 0\r\n\r\n" % thief.port

        with saying(lambda send: send(b"HTTP/1.1 %d Away\r\n" % status + to)) as server:
            said = said_of(server, endpoint, service_account)
        assert said == f"it answered {status}, and to where that leads no login is sent"
        assert (len(server.asked), thief.asked) == (1, [])


def test_a_body_that_breaks_off_is_one_clear_line(endpoint: TokenEndpoint, service_account: Path) -> None:
    with saying(lambda send: send(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n{")) as server:
        assert said_of(server, endpoint, service_account).startswith("its answer broke off: ")

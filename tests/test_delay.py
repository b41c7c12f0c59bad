"""The delay proxy of the benchmark: it adds its delay to each request, to all at once, and changes nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from scripts.delay import Traffic, counted, delayed
from tests.threaded import QuietHandler, threaded
from tests.waiting import eventually

SECONDS = 0.3
BODY = os.urandom(3_000_001)
CHECKOUT = Path(__file__).parents[1]


class Handler(QuietHandler):
    """Answers at once: every path with the body."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(BODY)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with threaded(Handler) as port:
        yield f"http://127.0.0.1:{port}/root"


@pytest.fixture(scope="module")
def url(server: str) -> Iterator[str]:
    """The server behind the proxy."""
    with delayed(server, SECONDS) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        yield client


def seconds_to_first_byte(client: httpx.Client) -> float:
    started = time.perf_counter()
    with client.stream("GET", "/") as response:
        chunks = response.iter_raw()
        body = next(chunks)
        seconds = time.perf_counter() - started
        body += b"".join(chunks)
    assert body == BODY
    return seconds


def test_the_path_stays(url: str) -> None:
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/root")


def test_every_request_of_a_connection_is_delayed_once(client: httpx.Client) -> None:
    for _ in range(3):
        assert SECONDS <= seconds_to_first_byte(client) < 2 * SECONDS


def test_requests_of_several_connections_are_delayed_together(client: httpx.Client) -> None:
    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        assert min(pool.map(seconds_to_first_byte, [client] * 8)) >= SECONDS
    assert time.perf_counter() - started < 8 * SECONDS


def test_a_request_in_pieces_is_delayed_once(url: str) -> None:
    parts = httpx.URL(url)
    assert parts.port
    with socket.create_connection((parts.host, parts.port), timeout=10) as connection:
        started = time.perf_counter()
        for piece in (b"GET / HTTP/1.1\r\n", b"Host: here\r\n", b"\r\n"):
            connection.sendall(piece)
            time.sleep(0.02)
        assert connection.recv(1) == b"H"
        assert SECONDS <= time.perf_counter() - started < 2 * SECONDS


def test_clients_that_leave_half_way_do_no_harm(client: httpx.Client) -> None:
    for _ in range(3):
        with client.stream("GET", "/") as response:
            next(response.iter_raw())
    seconds_to_first_byte(client)


def test_it_ends_with_its_standard_input() -> None:
    command = [sys.executable, "-m", "scripts.delay", "http://127.0.0.1:9/", "0"]
    done = subprocess.run(command, cwd=CHECKOUT, input="", capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith("READY http://127.0.0.1:")
    assert not done.stderr


def test_it_counts_requests_and_bytes(server: str) -> None:
    with counted(server, 0) as proxy, httpx.Client(base_url=proxy.url, timeout=10, trust_env=False) as client:
        assert proxy.traffic() == Traffic(0, 0, 0)
        for _ in range(2):
            seconds_to_first_byte(client)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(seconds_to_first_byte, [client] * 3))
        requests, bytes_moved, waiting = proxy.traffic()
    assert (requests, waiting) == (5, 0)
    assert 0 <= bytes_moved - 5 * len(BODY) < 5 * 1_000


def test_it_tells_what_waits_for_an_answer(server: str) -> None:
    with counted(server, 60) as proxy:
        parts = httpx.URL(proxy.url)
        assert parts.port
        with socket.create_connection((parts.host, parts.port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert eventually(lambda: proxy.traffic() == Traffic(1, 0, 1))


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with delayed("http://127.0.0.1:9", 0) as url, pytest.raises(httpx.TransportError):
        httpx.get(url, trust_env=False)

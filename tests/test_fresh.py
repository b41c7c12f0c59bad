"""The fresh machine's way out, and what it takes over of apt's and pip's configuration; the machine takes minutes."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.fresh.gate import Gate
from scripts.fresh.packages import acquire_options, local_directories, pip_options, pip_places
from tests.threaded import QuietHandler, threaded
from tests.waiting import eventually

BODY = b"package" * 100_000
HERE, ELSEWHERE = "127.0.0.1", "localhost"  # one server under two names, of which one is let through


class Mirror(QuietHandler):
    """Answers with the body, of which it tells the length, or not, and says what it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Asked-For", f"{self.path} of {self.headers['Host']}")
        if "unknown" in self.path:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)


@pytest.fixture
def mirror() -> Iterator[int]:
    """Its port."""
    with threaded(Mirror) as port:
        yield port


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(socket.create_server((HERE, 0)), {HERE})
    yield made
    made.close()


@pytest.fixture
def way(gate: Gate) -> Iterator[http.client.HTTPConnection]:
    """A connection to the gate."""
    connection = http.client.HTTPConnection(*gate.address, timeout=20)
    yield connection
    connection.close()


def test_files_of_one_connection_come_through_whole(gate: Gate, way: http.client.HTTPConnection, mirror: int) -> None:
    for path in ("/a?b", "/c", "/unknown"):
        way.request("GET", f"http://{HERE}:{mirror}{path}", headers={"Host": f"{HERE}:{mirror}"})
        answer = way.getresponse()
        assert (answer.status, answer.read()) == (200, BODY)
        assert answer.headers["Asked-For"] == f"{path} of {HERE}:{mirror}"
    assert eventually(lambda: gate.counted() == {HERE: 3 * len(BODY)})
    assert gate.refused == set()


def test_a_tunnel_comes_through(gate: Gate, way: http.client.HTTPConnection, mirror: int) -> None:
    way.set_tunnel(HERE, mirror)
    way.request("GET", "/a")
    assert way.getresponse().read() == BODY
    assert eventually(lambda: gate.counted()[HERE] > len(BODY))  # it counts what it has passed on


@pytest.mark.parametrize("shut", [False, True])
def test_nobody_else_is_reached(gate: Gate, way: http.client.HTTPConnection, mirror: int, shut: bool) -> None:
    host = HERE if shut else ELSEWHERE
    gate.shut = shut
    way.request("GET", f"http://{host}:{mirror}/a")
    assert way.getresponse().status == 403
    way.close()
    way.set_tunnel(host, mirror)
    with pytest.raises(OSError, match="403"):
        way.request("GET", "/a")
    assert gate.refused == {host}
    assert gate.counted() == {}


def test_a_mirror_that_is_away_is_said_to_be(gate: Gate, way: http.client.HTTPConnection) -> None:
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
    way.request("GET", f"http://{HERE}:{port}/a")
    assert way.getresponse().status == 502


def test_pip_s_options_are_those_that_it_goes_by(tmp_path: Path) -> None:
    listed = (
        ":env:.find-links='/opt/more'\n"
        "global.find-links='/opt/fewer'\n"
        f"global.extra-index-url='file://{tmp_path}/simple https://index.example/simple'\n"
        "freeze.timeout='10'\n"
        "install.no-index='true'\n"
    )
    options = pip_options(listed)
    assert options == {
        "find-links": "/opt/more",
        "extra-index-url": f"file://{tmp_path}/simple https://index.example/simple",
        "no-index": "true",
    }
    (tmp_path / "simple").mkdir()
    assert local_directories(pip_places(options)) == (tmp_path / "simple",)


def test_apt_s_options_about_fetching_are_kept_and_its_proxy_is_not() -> None:
    dump = (
        'APT::Architecture "amd64";\n'
        'Acquire "";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::IndexTargets::deb::Packages::Optional "0";\n'
        'Acquire::Languages:: "none";\n'
    )
    assert acquire_options(dump) == ('Acquire::Check-Valid-Until "false";', 'Acquire::Languages:: "none";')

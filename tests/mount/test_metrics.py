"""``--metrics-port``: what Prometheus reads of a mount."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from idcfs.metrics import MAX_CLIENTS
from idcfs.stats import COUNTERS
from scripts.harness import Mount, status
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, counters
from tests.twin.client import Twin


def test_prometheus_reads_what_status_says(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0", "--metrics-port", "0")
    for path in sorted(a_series(made).iterdir())[:3]:
        path.read_bytes()
    answer = httpx.get(url_of(made))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(answer.text):
        (sample,) = family.samples
        assert family.documentation
        assert family.type == ("counter" if sample.name.endswith("_total") else "gauge")
        found[sample.name] = sample.value
    told = counters(made)
    assert set(found) == {f"idcfs_{name}_total" if name in COUNTERS else f"idcfs_{name}" for name in told}
    assert {name: found[f"idcfs_{name}_total"] for name in COUNTERS} == {name: told[name] for name in COUNTERS}
    assert found["idcfs_wado_requests_total"] == 3
    assert f"  metrics   {url_of(made)}\n" in idcfs("status", made.path).stdout


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"\x16\x03\x01 what?\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000, b"431"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200"),
        (b"GET http://localhost:80/metrics?x=1 HTTP/1.1\r\nHost: elsewhere.org\r\n\r\n", b"200"),
        (b"GET http://elsewhere.org/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.1\r\nHost: elsewhere.org\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost.elsewhere.org\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.1\r\nHost: 10.0.0.1:9464\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1\r\n\r\n", b"421"),
        (b"OPTIONS * HTTP/1.1\r\nHost: LocalHost:9464\r\n\r\n", b"405"),
    ],
    ids=[
        "place",
        "method",
        "nonsense",
        "endless",
        "old",
        "absolute",
        "there",
        "named",
        "below",
        "lan",
        "v6",
        "bracket",
        "asterisk",
    ],
)
def test_whatever_is_asked_the_mount_goes_on(
    request_: bytes, code: bytes, mount: MountMaker, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--metrics-port", "0")
    with connected(made) as client:
        client.sendall(request_)
        assert client.recv(12) == b"HTTP/1.1 " + code
    assert httpx.get(url_of(made)).status_code == 200


def test_whoever_asks_for_the_head_gets_no_body_and_the_log_no_line(
    mount: MountMaker, sample_index: Path, log_of: Callable[[], str]
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--metrics-port", "0")
    before = log_of()
    whole, head, elsewhere = httpx.get(url_of(made)), httpx.head(url_of(made)), httpx.head(url_of(made) + "/x")
    assert (head.status_code, head.content, elsewhere.status_code, elsewhere.content) == (200, b"", 404, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0
    assert httpx.delete(url_of(made)).headers["allow"] == "GET, HEAD"
    assert log_of() == before


def test_clients_that_say_nothing_are_few_and_do_not_stay(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--metrics-port", "0")
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(made)) for _ in range(MAX_CLIENTS)]
        with connected(made) as one_more:
            assert one_more.recv(1) == b""
        assert [client.recv(1) for client in silent] == [b""] * MAX_CLIENTS
    assert httpx.get(url_of(made)).status_code == 200


def test_a_port_in_use_is_one_line_and_nothing_is_mounted(
    mount: MountMaker, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--metrics-port", "0")
    port = str(status(made.path)["metrics_port"])
    other = tmp_path / "other"
    done = idcfs("mount", other, "--index", sample_index, "--cache-dir", tmp_path / "cache", "--metrics-port", port)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"idcfs: --metrics-port {port} is in use: give another one, or 0 for any\n"
    assert not other.exists()
    assert idcfs("mount", other, "--metrics-port", "65536").returncode == 2


def url_of(mount: Mount) -> str:
    return f"http://127.0.0.1:{status(mount.path)['metrics_port']}/metrics"


def connected(mount: Mount) -> socket.socket:
    return socket.create_connection(("127.0.0.1", status(mount.path)["metrics_port"]), timeout=60)

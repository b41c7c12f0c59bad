"""Connections are reused, last one first, none is kept that nobody needs, and no answer is taken for another."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme

from idcfs.archive.connections import Connections, certificates, is_direct
from idcfs.archive.transport import Transport
from idcfs.errors import DeadlinePassed, IdcfsError, Truncated, Unreachable
from idcfs.stats import Stats
from tests.turns import Turns

from .scripted import Reply, http, raw, serving, transport_to

OK = http(200, b"[]")
ENDLESS = raw("Content-Length: 100\r\n", b"x", then="hang")


async def _body(transport: Transport) -> bytes:
    async with transport.stream("/x", "*/*") as answer:
        return b"".join([chunk async for chunk in answer])


async def _get_at_once(transport: Transport, number: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(transport.get_json, "/studies")


async def test_requests_at_once_have_a_connection_each_and_later_ones_none_of_their_own() -> None:
    async with serving(OK) as server, transport_to(server.url, max_connections=3) as transport:
        for _ in range(4):
            await _get_at_once(transport, 9)
        assert (len(server.requests), server.connections) == (36, 3)


async def test_the_connection_used_last_is_used_first_and_the_others_are_closed_bit_by_bit() -> None:
    async with serving(OK) as server:
        url = httpx.URL(server.url)
        connections = Connections(4, 0.2)
        async with httpx.AsyncClient(transport=connections) as client:
            answers = [await client.send(client.build_request("GET", url), stream=True) for _ in range(4)]
            for answer in answers:
                await answer.aread()
                await answer.aclose()
            assert server.connections == 4
            used_last = connections._idle[-1][1]
            for left in (4, 4, 3, 2, 1, 1):
                assert len(connections._idle) == left
                assert connections._idle[-1][1] is used_last
                await trio.sleep(0.12)
                await client.get(url)
            assert server.connections == 4
        assert not connections._idle


async def test_the_next_request_is_sent_before_anybody_has_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    trio.lowlevel.add_instrument(turns := Turns())
    sent: list[int] = []
    send_all = trio.SocketStream.send_all

    async def watched(stream: trio.SocketStream, data: bytes) -> None:
        if data.startswith(b"GET"):
            sent.append(turns.number)
        await send_all(stream, data)

    monkeypatch.setattr(trio.SocketStream, "send_all", watched)
    async with serving(OK) as server, transport_to(server.url) as transport:
        ended = 0
        for _ in range(3):
            async with transport.stream("/x", "*/*") as answer:
                assert sent[-1] == ended or not ended
                async for _ in answer:
                    pass
                ended = turns.number
    assert server.connections == 1
    assert len(sent) == 3


async def test_an_idle_connection_is_not_kept_longer_than_the_server_does() -> None:
    async with serving(OK) as server:
        async with httpx.AsyncClient(transport=Connections(4, 0.05)) as client:
            for _ in range(3):
                await client.get(server.url)
                await trio.sleep(0.1)
        assert server.connections == 3


async def test_who_gives_up_waiting_for_a_connection_has_not_used_one_up() -> None:
    async with serving(ENDLESS) as server, transport_to(server.url, max_connections=1) as transport:
        async with transport.stream("/a", "*/*"):
            for _ in range(3):
                with trio.move_on_after(0.02) as waiting:
                    await transport.get_json("/b")
                assert waiting.cancelled_caught
        with trio.fail_after(5):
            async with transport.stream("/c", "*/*"):
                pass


async def test_connections_that_cannot_be_made_use_up_none() -> None:
    async with serving(OK) as server:
        pass
    async with transport_to(server.url, max_connections=2, max_attempts=1) as transport:
        for _ in range(5):
            with trio.fail_after(5), pytest.raises(Unreachable, match="cannot be reached"):
                await transport.get_json("/studies")


async def test_answers_dropped_half_way_leave_their_places_to_others() -> None:
    async with serving(ENDLESS) as server, transport_to(server.url, max_connections=2) as transport:
        for _ in range(5):
            with trio.move_on_after(0.05):
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(_hold, transport)
        with trio.fail_after(5):
            async with transport.stream("/a", "*/*"), transport.stream("/b", "*/*"):
                pass


async def _hold(transport: Transport) -> None:
    async with transport.stream("/studies", "*/*"):
        await trio.sleep_forever()


@pytest.mark.parametrize(
    "surplus",
    [http(200, b'["of another"]').chunks[0], b"more than announced", b"\r\n"],
    ids=["an answer nobody asked for", "bytes", "a line"],
)
async def test_what_comes_beyond_an_answer_is_not_taken_for_the_next(surplus: bytes) -> None:
    longer = Reply([http(200, b'["mine"]').chunks[0] + surplus])
    late = Reply([http(200, b'["mine"]').chunks[0], surplus], pause_seconds=0.02)
    for reply in (longer, late):
        async with serving(reply) as server, transport_to(server.url, max_connections=1) as transport:
            for _ in range(5):
                assert await transport.get_json("/x") == ["mine"]
                await trio.sleep(0.2)  # ten times the pause: it has come, however busy the machine is
            assert server.connections == 5


async def test_informational_answers_are_passed_over() -> None:
    early = Reply([b"HTTP/1.1 103 Early Hints\r\nLink: </y>\r\n\r\n", *OK.chunks])
    async with serving(early) as server, transport_to(server.url) as transport:
        assert await transport.get_json("/x") == []


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabcd",
    ],
    ids=["an endless header", "no HTTP", "two lengths", "a negative length"],
)
async def test_what_is_no_answer_is_an_error_and_leaves_nothing_behind(head: bytes) -> None:
    async with (
        serving(Reply([head], "close"), OK) as server,
        transport_to(server.url, max_connections=1, max_attempts=1) as transport,
    ):
        with trio.fail_after(5), pytest.raises(IdcfsError):
            await transport.get_json("/x")
        assert await transport.get_json("/x") == []


async def test_a_chunked_body_is_whole_or_truncated() -> None:
    whole = raw("Transfer-Encoding: chunked\r\n", b"4\r\n[1,2", b"\r\n3\r\n,3]\r\n0\r\n\r\n", then="keep")
    cut = raw("Transfer-Encoding: chunked\r\n", b"4\r\n[1,2\r\n")
    async with serving(whole, whole, cut) as server, transport_to(server.url) as transport:
        for _ in range(2):
            assert await transport.get_json("/x") == [1, 2, 3]
        assert server.connections == 1
        with pytest.raises(Truncated):
            await _body(transport)


async def test_a_server_that_takes_no_request_passes_the_deadline() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1)
    port = listeners[0].socket.getsockname()[1]
    async with transport_to(f"http://127.0.0.1:{port}", timeout_seconds=0.2) as transport:
        with trio.fail_after(5), pytest.raises(DeadlinePassed):
            await transport.get_json("/x")
    await listeners[0].aclose()


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """For a server whose certificate is accepted for 127.0.0.1."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_whom_to_trust_is_read_once_for_all_transports(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[ssl.SSLContext] = []
    create = httpx.create_ssl_context

    def created() -> ssl.SSLContext:
        read.append(create())
        return read[-1]

    monkeypatch.setattr(httpx, "create_ssl_context", created)
    for _ in range(3):
        async with serving(OK, tls=tls) as server, transport_to(server.url) as transport:
            assert await transport.get_json("/x") == []
    assert len(read) == 1
    monkeypatch.delenv("SSL_CERT_FILE")
    assert certificates() is certificates() is not read[0]


async def test_bodies_come_whole_over_tls_and_its_connections_are_reused(tls: ssl.SSLContext) -> None:
    content = bytes(range(256)) * 8192
    async with serving(http(200, content), tls=tls) as server, transport_to(server.url) as transport:
        for _ in range(3):
            assert await _body(transport) == content
        assert server.connections == 1


async def test_what_comes_beyond_an_answer_under_tls_is_not_taken_for_the_next(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, surplus = http(200, b'["mine"]').chunks[0], http(200, b'["of another"]').chunks[0]
    encrypt_and_send = trio.SSLStream.send_all

    async def send_all(stream: trio.SSLStream[trio.SocketStream], data: bytes) -> None:
        """Of the server: two TLS records in one segment."""
        if data != mine:
            await encrypt_and_send(stream, data)
            return
        records = bytearray()

        async def hold(encrypted: bytes) -> None:
            records.extend(encrypted)

        with monkeypatch.context() as patch:
            patch.setattr(stream.transport_stream, "send_all", hold)
            await encrypt_and_send(stream, mine)
            await encrypt_and_send(stream, surplus)
        await stream.transport_stream.send_all(bytes(records))

    monkeypatch.setattr(trio.SSLStream, "send_all", send_all)
    async with serving(Reply([mine]), tls=tls) as server, transport_to(server.url) as transport:
        for _ in range(3):
            with trio.fail_after(5):
                assert await transport.get_json("/x") == ["mine"]
        assert server.connections == 3


@pytest.mark.parametrize("then", ["close", "reset", "hang"])
async def test_a_body_that_breaks_off_under_tls_is_an_error(tls: ssl.SSLContext, then: str) -> None:
    cut = raw("Content-Length: 99\r\n", b"abc", then=then)
    async with serving(cut, tls=tls) as server, transport_to(server.url, timeout_seconds=0.5) as transport:
        with pytest.raises((Truncated, DeadlinePassed)):
            await _body(transport)


async def test_leaving_a_body_under_tls_waits_for_nothing(tls: ssl.SSLContext) -> None:
    large = raw("Content-Length: 99999999\r\n", bytes(2_000_000), then="hang")
    async with serving(large, tls=tls) as server, transport_to(server.url, max_connections=1) as transport:
        for _ in range(3):
            with trio.fail_after(5):
                async with transport.stream("/x", "*/*") as answer:
                    await anext(answer)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with serving(OK, tls=tls) as server, transport_to(server.url, max_attempts=1) as transport:
        with trio.fail_after(5), pytest.raises(Unreachable, match=r"(?i)certificate"):
            await transport.get_json("/x")


@pytest.mark.parametrize("then", ["keep", "close"])
async def test_a_server_that_speaks_no_tls_cannot_be_reached(then: str) -> None:
    async with serving(Reply([b"HTTP/1.1 400 Bad\r\n\r\n"], then)) as server:
        url = server.url.replace("http:", "https:")
        async with transport_to(url, max_connections=1, max_attempts=2, timeout_seconds=0.5) as transport:
            for _ in range(2):
                with trio.fail_after(5), pytest.raises((Unreachable, DeadlinePassed)):
                    await transport.get_json("/x")


async def test_another_port_of_the_same_host_is_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    open_tcp_stream = trio.open_tcp_stream
    async with serving(http(200, b'["of the other"]')) as other:
        away = http(302, b"", f"Location: {other.url}/y\r\n")
        async with serving(away, http(200, b'["wrong"]')) as server:
            theirs = int(server.url.rpartition(":")[2])

            async def mapped(host: str, port: int, **how: Any) -> trio.SocketStream:
                return await open_tcp_stream(host, theirs if port == 80 else port, **how)

            monkeypatch.setattr(trio, "open_tcp_stream", mapped)
            async with transport_to("http://127.0.0.1") as transport:
                assert await transport.get_json("/x") == ["of the other"]
            assert (len(server.requests), len(other.requests)) == (1, 1)


async def test_cookies_are_not_kept() -> None:
    replies = [http(200, b"[]", f"Set-Cookie: {cookie}\r\n") for cookie in ("a=b", "a=\N{PILE OF POO}; Path=/")]
    async with serving(*replies) as server, transport_to(server.url) as transport:
        for _ in range(3):
            assert await transport.get_json("/x") == []
    assert not any("Cookie" in head for head in server.requests)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".org"])
async def test_a_host_that_cannot_be_one_is_unreachable(host: str) -> None:
    async with transport_to(f"http://{host}", max_attempts=1) as transport:
        with trio.fail_after(5), pytest.raises(IdcfsError):
            await transport.get_json("/x")


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".org"])
async def test_nor_is_one_that_a_redirect_or_the_proxy_names(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leading = http(302, headers=f"Location: http://{host}/\r\n")
    async with serving(leading, OK) as server, transport_to(server.url, max_attempts=1) as transport:
        with trio.fail_after(5), pytest.raises(IdcfsError, match="cannot be reached"):
            await transport.get_json("/x")
        assert await transport.get_json("/y") == []  # the server itself is there
    monkeypatch.setenv("HTTP_PROXY", f"http://{host}:3128")
    async with transport_to("http://archive.example", max_attempts=1) as transport:
        with trio.fail_after(5), pytest.raises(IdcfsError, match="cannot be reached"):
            await transport.get_json("/x")


async def test_a_body_that_was_closed_is_not_whole() -> None:
    async with serving(OK) as server:
        connections = Connections(1, 1.0)
        answer = await connections.handle_async_request(httpx.Request("GET", server.url))
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        await answer.aclose()
        with pytest.raises(httpx.StreamClosed):
            await anext(aiter(answer.stream))


@pytest.mark.parametrize(
    ("url", "exempt", "direct"),
    [
        ("https://archive.org", "", False),
        ("https://archive.org", "archive.org", True),
        ("https://archive.org", ".org", True),
        ("https://archive.org:8443", "archive.org:8443", True),
        ("https://archive.org:8443", "archive.org:443", False),
        ("https://archive.org", "*", True),
        ("http://archive.org", "", True),
    ],
)
def test_who_is_exempt_from_the_proxy(url: str, exempt: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    monkeypatch.setenv("no_proxy", exempt)
    assert is_direct(httpx.URL(url)) is direct


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with serving(OK) as proxy, serving(OK) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with transport_to("http://archive.invalid/dicomWeb", stats := Stats()) as transport:
            assert await transport.get_json("/studies") == []
            assert await _body(transport) == b"[]"
        assert proxy.requests[0].startswith("GET http://archive.invalid/dicomWeb/studies HTTP/1.1\r\n")
        assert stats["requests"] == 2
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with transport_to(server.url) as transport:
            assert await transport.get_json("/studies") == []
        assert (len(proxy.requests), len(server.requests)) == (2, 1)
        assert is_direct(httpx.URL(server.url))

"""The transport against a server that misbehaves on purpose."""

from __future__ import annotations

import gzip
import logging
import ssl

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from idcfs import errors
from idcfs.archive.answer import MAX_ERROR_BYTES
from idcfs.archive.circuit import FAILURES_IN_A_ROW
from idcfs.settings import MIB
from idcfs.stats import Stats
from tests.archive.scripted import DROP, OK, Reply, body_of, http, raw, serving, transport_to


async def test_a_stream_asks_for_identity_and_reuses_its_connection() -> None:
    async with serving(http(200, b"abc")) as server, transport_to(server.url, stats := Stats()) as transport:
        for _ in range(3):
            assert await body_of(transport) == b"abc"
    assert "\r\nAccept-Encoding: identity\r\n" in server.requests[0]
    assert server.connections == 1
    assert (stats["wado_requests"], stats["bytes_from_archive"]) == (3, 9)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, errors.Gone),
        (404, errors.Gone),
        (410, errors.Gone),
        (401, errors.AccessDenied),
        (403, errors.AccessDenied),
        (206, errors.Refused),
        (304, errors.Refused),
        (400, errors.Refused),
        (406, errors.Refused),
        (415, errors.Refused),
        (501, errors.Refused),
        (507, errors.Unreachable),
    ],
)
async def test_final_statuses_are_not_repeated(status: int, kind: type[errors.IdcfsError]) -> None:
    reply = http(status, b"" if status in (204, 304) else b"{}")
    async with serving(reply) as server, transport_to(server.url) as transport:
        with pytest.raises(kind) as caught:
            await body_of(transport)
    assert len(server.requests) == 1
    assert f"scripted/x answered {status}" in str(caught.value)
    if isinstance(caught.value, errors.Refused):
        assert caught.value.status == status


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_transient_statuses_are_repeated(status: int) -> None:
    async with (
        serving(http(status), http(status), OK) as server,
        transport_to(server.url, stats := Stats()) as transport,
    ):
        assert await transport.get_json("/studies") == [{"a": 1}]
    assert (stats["requests"], stats["retries"], stats["qido_requests"]) == (3, 2, 3)


async def test_of_an_archive_that_may_be_away_one_try_is_enough_until_it_answers() -> None:
    replies = [http(503)] * 4 + [OK, http(503), OK]
    async with serving(*replies) as server, transport_to(server.url, max_attempts=3) as transport:
        for requests in (3, 4):
            with pytest.raises(errors.Unreachable):
                await transport.get_json("/studies")
            assert len(server.requests) == requests
        for _ in range(2):  # the first says that it is back, so the second may try again
            assert await transport.get_json("/studies") == [{"a": 1}]


async def test_an_archive_that_answers_nobody_is_not_asked_any_more() -> None:
    async with serving(http(503)) as server, transport_to(server.url, stats := Stats(), max_attempts=3) as transport:
        for number in range(100):
            with pytest.raises(errors.Unreachable, match="answered 503"):
                await body_of(transport, f"/{number}")
    assert isinstance(transport.away, errors.Unreachable)
    assert len(server.requests) == 2 + FAILURES_IN_A_ROW
    assert (stats["circuits_open"], stats["fast_failures"]) == (1, 100 - FAILURES_IN_A_ROW)


async def test_retries_end_when_others_have_found_that_nobody_is_there() -> None:
    replies = [http(503), http(429, b"", "Content-Type: text/html\r\n")]
    async with (
        serving(*replies) as server,
        transport_to(server.url, backoff_initial_seconds=0.05, backoff_max_seconds=0.05) as transport,
        trio.open_nursery() as nursery,
    ):

        async def fail() -> None:
            with pytest.raises(errors.Unreachable, match="answered 503"):
                await transport.get_json("/first")

        nursery.start_soon(fail)
        await wait_all_tasks_blocked(0.01)
        with pytest.raises(errors.QuotaSpent):
            await transport.get_json("/second")
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [408, 429, 503])
async def test_transient_statuses_end_as_unreachable(status: int) -> None:
    async with serving(http(status)) as server, transport_to(server.url, max_attempts=3) as transport:
        with pytest.raises(errors.Unreachable, match=str(status)):
            await body_of(transport)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Type: text/html; charset=utf-8\r\n", b"quota exceeded"),
        ("", b"\n<!doctype html>"),
        ("Retry-After: 86400\r\n", b""),
    ],
)
async def test_a_spent_quota_is_not_repeated(headers: str, body: bytes) -> None:
    async with serving(http(429, body, headers)) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.QuotaSpent, match="00:00 UTC"):
            await body_of(transport)
    assert len(server.requests) == 1


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_connection_that_died_idle_is_replaced_at_once(then: str) -> None:
    replies = [OK, Reply(then=then), OK]
    async with (
        serving(*replies) as server,
        transport_to(server.url, stats := Stats(), backoff_initial_seconds=30.0) as transport,
    ):
        with trio.fail_after(5):
            assert await transport.get_json("/a") == await transport.get_json("/b") == [{"a": 1}]
    assert (server.connections, stats["retries"]) == (2, 1)


async def test_a_server_that_always_hangs_up_is_unreachable() -> None:
    async with serving(DROP) as server, transport_to(server.url, max_attempts=3) as transport:
        with pytest.raises(errors.Unreachable, match="closed the connection"):
            await body_of(transport)
    assert len(server.requests) == 3


async def test_a_port_where_nobody_listens_is_unreachable_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(OK) as server:
        pass
    caplog.set_level(logging.INFO, "idcfs")
    async with transport_to(server.url, max_attempts=2) as transport:
        for _ in range(3):
            with pytest.raises(errors.Unreachable, match="cannot be reached"):
                await body_of(transport)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "chunks",
    [("Content-Length: 9\r\n", b"abc"), ("Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n")],
)
async def test_a_body_that_breaks_off_is_truncated_and_not_repeated(chunks: tuple[str, bytes], then: str) -> None:
    async with serving(raw(*chunks, then=then)) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Truncated):
            await body_of(transport)
    assert len(server.requests) == 1


async def test_a_silent_body_passes_the_deadline() -> None:
    hanging = raw("Content-Length: 9\r\n", b"abc", then="hang")
    async with serving(hanging) as server, transport_to(server.url, timeout_seconds=0.1) as transport:
        with pytest.raises(errors.DeadlinePassed):
            await body_of(transport)


async def test_a_silent_server_passes_the_deadline() -> None:
    async with serving(Reply(then="hang")) as server, transport_to(server.url, timeout_seconds=0.1) as transport:
        for call in (body_of(transport), transport.get_json("/x")):
            with pytest.raises(errors.DeadlinePassed):
                await call
    assert len(server.requests) == 2


async def test_leaving_a_stream_early_closes_its_connection_without_draining() -> None:
    large = raw(f"Content-Length: {65536 * 1600}\r\n", *[bytes(65536)] * 1600)
    async with serving(large) as server, transport_to(server.url, stats := Stats()) as transport:
        async with transport.stream("/x", "*/*") as answer:
            await anext(answer)
        with trio.fail_after(5):
            await server.closed_by_client.wait()
    assert stats["bytes_from_archive"] < 65536 * 100


async def test_cancelling_a_stream_closes_its_connection_and_leaves_the_others() -> None:
    hanging = raw("Content-Length: 9\r\n", b"abc", then="hang")
    async with (
        serving(hanging, OK) as server,
        transport_to(server.url, max_connections=1, timeout_seconds=2) as transport,
    ):
        with trio.move_on_after(0.05) as scope:
            await body_of(transport)
        assert scope.cancelled_caught
        assert await transport.get_json("/x") == [{"a": 1}]


async def test_a_short_body_that_nobody_read_gives_its_connection_back() -> None:
    async with serving(http(200, b"abc")) as server, transport_to(server.url) as transport:
        for _ in range(3):
            async with transport.stream("/x", "*/*"):
                pass
    assert server.connections == 1


async def test_redirects_are_followed_but_not_for_ever() -> None:
    away = http(302, b"", "Location: /elsewhere\r\n")
    async with serving(away, OK) as server, transport_to(server.url, stats := Stats()) as transport:
        assert await transport.get_json("/x") == [{"a": 1}]
        assert stats["requests"] == 2
    async with serving(away) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Refused, match="circles"):
            await transport.get_json("/x")


@pytest.mark.parametrize("location", ["Location: http://host:port/\r\n", "Location: ftp://x/y\r\n", ""])
async def test_a_redirect_that_cannot_be_followed_is_refused(location: str) -> None:
    async with serving(http(302, b"", location)) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Refused, match=r"redirects to|names no other place"):
            await transport.get_json("/x")
    assert len(server.requests) == 1


async def test_a_certificate_that_nobody_vouches_for_is_not_tried_again() -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    async with serving(OK, tls=tls) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.NoConnection, match=r"cannot be reached safely: .*certificate"):
            await transport.get_json("/x")
    assert (server.connections, server.requests) == (1, [])


async def test_the_body_of_a_redirect_is_neither_read_nor_unpacked() -> None:
    bomb = gzip.compress(bytes(9 * MIB))
    head = b"HTTP/1.1 302 F\r\nLocation: /y\r\nContent-Encoding: gzip\r\nContent-Length: 999999999\r\n\r\n"
    async with (
        serving(Reply([head, *[bomb] * 2], then="hang"), OK) as server,
        transport_to(server.url, stats := Stats(), timeout_seconds=2) as transport,
    ):
        assert await transport.get_json("/x") == [{"a": 1}]
    assert stats["requests"] == 2
    assert stats["bytes_from_archive"] == 10


async def test_a_redirect_with_a_short_body_keeps_its_connection() -> None:
    away = http(307, b"over there", "Location: /elsewhere\r\n")
    async with serving(away, OK) as server, transport_to(server.url) as transport:
        assert await transport.get_json("/x") == [{"a": 1}]
    assert server.connections == 1


async def test_an_error_that_explains_itself_without_end_is_cut() -> None:
    endless = Reply([b"HTTP/1.1 403 No\r\nContent-Length: 99999999\r\n\r\n", *[bytes(8192)] * 999], "close")
    async with serving(endless) as server, transport_to(server.url, stats := Stats()) as transport:
        with pytest.raises(errors.AccessDenied):
            await body_of(transport)
    assert stats["bytes_from_archive"] < 99 * MAX_ERROR_BYTES


@pytest.mark.parametrize("url", ["ftp://host/x", "http://host:port", "no-scheme"])
async def test_an_address_that_cannot_be_used(url: str) -> None:
    async with transport_to(url) as transport:
        with pytest.raises(errors.UsageError):
            await transport.get_json("/x")

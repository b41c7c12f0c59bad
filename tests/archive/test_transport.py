"""The transport against a server that misbehaves on purpose, and against a clock that jumps."""

from __future__ import annotations

import gzip
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs import errors
from idcfs.archive.answer import _Inflater
from idcfs.archive.circuit import FAILURES_IN_A_ROW, RENEWAL_SECONDS
from idcfs.archive.transport import MAX_ERROR_BYTES, Transport
from idcfs.settings import MIB, ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.archive.scripted import DROP, Reply, http, raw, serving, transport_to

JSON_TYPE = "Content-Type: application/dicom+json\r\n"
OK = http(200, b'[{"a": 1}]', JSON_TYPE)


async def body_of(transport: Transport, path: str = "/x") -> bytes:
    async with transport.stream(path, "application/dicom") as answer:
        return b"".join([chunk async for chunk in answer])


async def test_json_and_its_request() -> None:
    async with serving(OK) as server, transport_to(server.url + "/root", stats := Stats()) as transport:
        assert await transport.get_json("/studies", {"limit": 3}) == [{"a": 1}]
    [head] = server.requests
    assert head.startswith("GET /root/studies?limit=3 HTTP/1.1\r\n")
    for line in ("Accept: application/dicom+json", "Accept-Encoding: gzip", "User-Agent: idcfs/"):
        assert f"\r\n{line}" in head
    assert (stats["requests"], stats["qido_requests"], stats["wado_requests"], stats["retries"]) == (1, 1, 0, 0)
    assert stats["bytes_from_archive"] == 10


@pytest.mark.parametrize("reply", [http(204), http(200, b""), http(200, b" \n")])
async def test_nothing_is_none(reply: Reply) -> None:
    async with serving(reply) as server, transport_to(server.url) as transport:
        assert await transport.get_json("/studies") is None


async def test_compressed_json_is_unpacked_and_counted_as_sent() -> None:
    packed = gzip.compress(json.dumps(["x" * 3_000_000]).encode())
    reply = http(200, packed, JSON_TYPE + "Content-Encoding: gzip\r\n")
    async with serving(reply) as server, transport_to(server.url, stats := Stats()) as transport:
        assert await transport.get_json("/studies") == ["x" * 3_000_000]
    assert stats["bytes_from_archive"] == len(packed)


async def test_json_compressed_in_several_members_is_whole() -> None:
    packed = b"".join(map(gzip.compress, [b"[1", b"", b", 2", b", 3]"]))
    async with (
        serving(http(200, packed, "Content-Encoding: gzip\r\n")) as server,
        transport_to(server.url) as transport,
    ):
        assert await transport.get_json("/studies") == [1, 2, 3]


def test_what_follows_a_member_is_not_kept_twice() -> None:
    inflater = _Inflater("gzip", "x")
    inflater.give(gzip.compress(bytes(MIB)) + gzip.compress(bytes(3 * MIB)))
    assert [len(inflater.take()) for _ in range(5)] == [MIB] * 4 + [0]
    inflater.finish()
    for _ in range(100):
        inflater.give(gzip.compress(b""))
        assert inflater.take() == b""
    assert not inflater._stream.unused_data


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_json_without_end_is_refused(encoding: str) -> None:
    zeros = gzip.compress(bytes(9 * MIB)) if encoding == "gzip" else bytes(MIB)
    endless = raw(f"Content-Encoding: {encoding}\r\nConnection: close\r\n", *[zeros] * 999)
    async with serving(endless) as server, transport_to(server.url, stats := Stats(), max_json_bytes=MIB) as transport:
        with trio.fail_after(10), pytest.raises(errors.Refused, match="more than 1,048,576 bytes"):
            await transport.get_json("/studies")
    assert len(server.requests) == 1
    assert stats["bytes_from_archive"] < 9 * MIB


async def test_large_json_does_not_stop_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"a": {"b": number}} for number in range(150_000)]
    body = json.dumps(items).encode()
    ticks = parsing = 0
    parse = json.loads

    def loads(*args: Any, **kwargs: Any) -> Any:
        nonlocal parsing
        before = ticks
        found = parse(*args, **kwargs)
        parsing += ticks - before
        return found

    monkeypatch.setattr("idcfs.archive.transport.json.loads", loads)
    async with (
        serving(http(200, body)) as server,
        transport_to(server.url) as transport,
        trio.open_nursery() as nursery,
    ):

        async def tick() -> None:
            nonlocal ticks
            while True:
                await trio.sleep(0.001)
                ticks += 1

        nursery.start_soon(tick)
        assert await transport.get_json("/studies") == items
        nursery.cancel_scope.cancel()
    assert parsing > 2


async def test_compressed_json_that_ends_early_is_truncated() -> None:
    reply = http(200, gzip.compress(b"[1, 2, 3]" * 99)[:-9], "Content-Encoding: gzip\r\n")
    async with serving(reply) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Truncated):
            await transport.get_json("/studies")


@pytest.mark.parametrize("body", [b"<html>", b"[1, 2", b"\xff\xfe", b"[" * 100_000])
async def test_what_is_not_json_is_refused(body: bytes) -> None:
    async with serving(http(200, body)) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Refused):
            await transport.get_json("/studies")


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


async def test_json_that_breaks_off_is_asked_for_again() -> None:
    async with serving(raw("Content-Length: 9\r\n", b"[1"), OK) as server, transport_to(server.url) as transport:
        assert await transport.get_json("/studies") == [{"a": 1}]


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


async def test_json_that_drips_is_cut_off() -> None:
    drip = raw("Content-Length: 1000\r\n", *[b"x"] * 1000, pause_seconds=0.02)
    async with serving(drip) as server, transport_to(server.url, timeout_seconds=0.2) as transport:
        with trio.fail_after(5), pytest.raises(errors.DeadlinePassed, match="no progress"):
            await transport.get_json("/x")


async def test_slow_json_that_makes_progress_may_take_longer_than_the_timeout() -> None:
    text = json.dumps("x" * 800_000).encode()
    chunks = [text[start : start + 80_000] for start in range(0, len(text), 80_000)]
    slow = raw(f"Content-Length: {len(text)}\r\n", *chunks, pause_seconds=0.1)
    async with serving(slow) as server, transport_to(server.url, timeout_seconds=0.5) as transport:
        started = trio.current_time()
        assert await transport.get_json("/x") == "x" * 800_000
        assert trio.current_time() - started > 0.5


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


# From here on the network is a function and time is free.

Handler = Callable[[httpx.Request], Any]


def mocked(handler: Handler, **settings: Any) -> Transport:
    archive = ArchiveSettings(name="mock", base_url="http://mock")
    return Transport(archive, TransportSettings(**settings), Stats(), wire=httpx.MockTransport(handler))


def by_date(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(lambda: "7", 7, 7), (lambda: by_date(600), 500, 600), (lambda: by_date(-600), 0, 1)],
    ids=["seconds", "a date to come", "a date gone by"],
)
async def test_retry_after_is_honoured(
    autojump_clock: MockClock, value: Callable[[], str], low: float, high: float
) -> None:
    answers = [httpx.Response(503, headers={"Retry-After": value()}), httpx.Response(200, json=[])]
    async with mocked(lambda _: answers.pop(0), timeout_seconds=1000.0) as transport:
        started = trio.current_time()
        await transport.get_json("/x")
        assert low <= trio.current_time() - started <= high


async def test_waits_grow_and_stay_below_their_cap(autojump_clock: MockClock) -> None:
    moments: list[float] = []

    def handler(_: httpx.Request) -> httpx.Response:
        moments.append(trio.current_time())
        return httpx.Response(500)

    settings = {"backoff_initial_seconds": 1.0, "backoff_max_seconds": 8.0, "max_attempts": 7}
    async with mocked(handler, **settings, timeout_seconds=1000.0) as transport:
        with pytest.raises(errors.Unreachable):
            await transport.get_json("/x")
    waits = [after - before for before, after in pairwise(moments)]
    for wait, least in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert least <= wait <= least + 1


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "61"}])
async def test_retries_end_before_the_timeout(autojump_clock: MockClock, headers: dict[str, str]) -> None:
    async with mocked(lambda _: httpx.Response(503, headers=headers), max_attempts=999) as transport:
        started = trio.current_time()
        with pytest.raises(errors.Unreachable):
            await transport.get_json("/x")
        assert trio.current_time() - started <= 60


async def test_all_attempts_share_one_timeout(autojump_clock: MockClock) -> None:
    async def handler(_: httpx.Request) -> httpx.Response:
        await trio.sleep(25)
        return httpx.Response(503)

    async with mocked(handler, max_attempts=999) as transport:
        started = trio.current_time()
        with pytest.raises(errors.Unreachable, match="answered 503"):  # which says more than that the time was up
            await transport.get_json("/x")
        assert trio.current_time() - started == 60


class Dripping(httpx.AsyncByteStream):
    """A byte a second."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(10_000):
            await trio.sleep(1)
            yield b" "


async def test_a_byte_a_second_is_no_progress(autojump_clock: MockClock) -> None:
    async with mocked(lambda _: httpx.Response(200, stream=Dripping())) as transport:
        started = trio.current_time()
        with pytest.raises(errors.DeadlinePassed):
            await transport.get_json("/x")
        assert trio.current_time() - started == 60


async def test_an_error_page_that_drips_does_not_hide_its_status(autojump_clock: MockClock) -> None:
    async with mocked(lambda _: httpx.Response(403, stream=Dripping())) as transport:
        with pytest.raises(errors.AccessDenied):
            await body_of(transport)


class Renewing(httpx.Auth):
    """Comes with a second login when the first is not accepted."""

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = "old"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = "new"
            yield request


async def test_a_renewed_login_is_one_more_request() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[1]) if request.headers["Authorization"] == "new" else httpx.Response(401)

    archive = ArchiveSettings(name="mock", base_url="http://mock")
    wire = httpx.MockTransport(handler)
    async with Transport(archive, TransportSettings(), stats := Stats(), auth=Renewing(), wire=wire) as transport:
        assert await transport.get_json("/x") == [1]
    assert (stats["requests"], stats["retries"]) == (2, 0)


@pytest.mark.parametrize(("to", "login"), [("http://mock/y", "old"), ("http://other/y", None)])
async def test_a_login_does_not_follow_to_another_origin(to: str, login: str | None) -> None:
    logins: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        logins.append(request.headers.get("Authorization"))
        if request.url.path == "/x":
            return httpx.Response(307, headers={"Location": to})
        return httpx.Response(200, json=[1])

    archive = ArchiveSettings(name="mock", base_url="http://mock")
    wire = httpx.MockTransport(handler)
    async with Transport(archive, TransportSettings(), Stats(), auth=Renewing(), wire=wire) as transport:
        assert await transport.get_json("/x") == [1]
    assert logins == ["old", login]


def clock() -> Callable[[], datetime]:
    """The time of day, which begins five minutes before midnight UTC and goes on as trio's does."""
    start = trio.current_time()
    return lambda: datetime(2026, 3, 1, 23, 55, tzinfo=UTC) + timedelta(seconds=trio.current_time() - start)


async def test_a_quota_is_renewed_and_the_log_says_both(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "idcfs")
    spent, asked = 299.0, list[float]()
    start, now = trio.current_time(), clock()

    def handler(_: httpx.Request) -> httpx.Response:
        asked.append(trio.current_time() - start)
        return httpx.Response(429, html="<p>Quota") if asked[-1] <= spent else httpx.Response(200, json=[1])

    archive = ArchiveSettings("proxy", "http://proxy", title="the public proxy", has_daily_quota=True)
    wire = httpx.MockTransport(handler)
    async with Transport(archive, TransportSettings(), Stats(), wire=wire, now=now) as transport:
        for _ in range(300):
            with pytest.raises(errors.QuotaSpent):
                await transport.get_json("/x")
            await trio.sleep(1)
        assert isinstance(transport.away, errors.QuotaSpent)
        await trio.sleep(RENEWAL_SECONDS)
        assert await transport.get_json("/x") == [1]
    assert len(asked) == 10  # after 0, 1, 3, 7, … 255 s, and once it is renewed
    said = "the public proxy's daily quota is spent until 00:00 UTC (proxy/x answered 429); "
    warning, info = caplog.records
    assert warning.getMessage().startswith(said)
    assert info.getMessage() == "the public proxy answers again"


async def test_a_429_of_an_archive_without_a_daily_quota_is_waited_out(autojump_clock: MockClock) -> None:
    answers = [httpx.Response(429, html="<p>slow", headers={"Retry-After": "7"}), httpx.Response(200, json=[1])]
    archive = ArchiveSettings(name="aws", base_url="http://aws", has_daily_quota=False)
    wire = httpx.MockTransport(lambda _: answers.pop(0))
    async with Transport(archive, TransportSettings(), Stats(), wire=wire) as transport:
        assert await transport.get_json("/x") == [1]


@pytest.mark.parametrize("pause", ["61", "86400"])
async def test_a_429_that_asks_for_more_than_there_is_time_ends_at_once(pause: str, autojump_clock: MockClock) -> None:
    archive = ArchiveSettings(name="aws", base_url="http://aws", has_daily_quota=False)
    wire = httpx.MockTransport(lambda _: httpx.Response(429, headers={"Retry-After": pause}))
    async with Transport(archive, TransportSettings(), Stats(), wire=wire) as transport:
        started = trio.current_time()
        with pytest.raises(errors.Unreachable, match="fewer requests"):
            await transport.get_json("/x")
        assert trio.current_time() == started

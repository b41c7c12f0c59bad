"""The transport against a clock that jumps, where the network is a function: waits, logins and quotas."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from idcfs import errors
from idcfs.archive.circuit import RENEWAL_SECONDS
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.archive.scripted import body_of

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

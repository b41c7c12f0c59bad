"""Tokens of Google on requests: one for all, renewed in time, and a clock that jumps."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from pathlib import Path
from threading import Event

import httpx
import pytest
import trio
from trio.testing import MockClock

from idcfs.archive.adc import Login, Token, find_login
from idcfs.archive.faults import Transient
from idcfs.archive.google import AHEAD_SECONDS, MAX_SECONDS, PAUSE_SECONDS, QUOTA_PROJECT_HEADER, GoogleAuth, Tokens
from idcfs.archive.transport import Transport
from idcfs.errors import AccessDenied, IdcfsError, Unreachable
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.archive.scripted import http, serving
from tests.tokens import TokenEndpoint

# --- one token for all --------------------------------------------------------------------------------------------


class Scripted:
    """Gives ``token-1``, ``token-2``, …, each good for ``lifetime`` seconds of ``clock``; or fails."""

    quota_project: str | None = None

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.clock = 1_000_000.0
        self.lifetime = lifetime
        self.asked = 0
        self.error: IdcfsError | Transient | None = None
        self.go = Event()
        self.go.set()

    def refresh(self, seconds: float) -> Token:
        self.asked += 1
        number = self.asked
        self.go.wait()
        if self.error is not None:
            raise self.error
        return Token(f"token-{number}", self.clock + self.lifetime)


@asynccontextmanager
async def tokens(login: Scripted, timeout_seconds: float = 60.0) -> AsyncIterator[Tokens]:
    async with trio.open_nursery() as nursery:
        yield Tokens(login, nursery, timeout_seconds, lambda: login.clock)
        login.go.set()
        nursery.cancel_scope.cancel()


async def value(source: Tokens) -> str:
    return (await source.current()).value


async def until(condition: Callable[[], bool]) -> None:
    """A thread is waited for, which trio cannot see."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.001)


async def test_many_requests_share_one_refresh_and_one_that_leaves_takes_nothing_with_it() -> None:
    login = Scripted()
    login.go.clear()
    got: list[str] = []
    async with tokens(login) as source, trio.open_nursery() as nursery:

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                got.append(await value(source))

        scopes = [trio.CancelScope() for _ in range(20)]
        for scope in scopes:
            nursery.start_soon(ask, scope)
        await until(lambda: login.asked == 1)
        scopes[0].cancel()  # the first, who began it
        await trio.sleep(0.001)
        login.go.set()
    assert got == ["token-1"] * 19
    assert login.asked == 1


async def test_a_token_is_used_until_it_is_renewed_ahead_of_its_expiry() -> None:
    login = Scripted()
    async with tokens(login) as source:
        assert await value(source) == "token-1"
        login.clock += 3600 - AHEAD_SECONDS - 1
        assert (await value(source), login.asked) == ("token-1", 1)
        login.clock += 1
        login.go.clear()
        assert [await value(source) for _ in range(5)] == ["token-1"] * 5  # nobody waits
        await until(lambda: login.asked == 2)
        login.go.set()
        await until(lambda: source._token is not None and source._token.value == "token-2")
        assert (await value(source), login.asked) == ("token-2", 2)


async def test_a_renewal_that_fails_is_tried_again_a_little_later(caplog: pytest.LogCaptureFixture) -> None:
    login = Scripted()
    async with tokens(login) as source:
        await value(source)
        login.clock += 3600 - AHEAD_SECONDS
        errors: list[IdcfsError | Transient] = [Transient(Unreachable("away")), AccessDenied("no")]
        for attempt, login.error in enumerate(errors, 2):
            assert [await value(source) for _ in range(5)] == ["token-1"] * 5
            await until(lambda attempt=attempt: len(caplog.messages) == attempt - 1)  # type: ignore[misc]
            login.clock += PAUSE_SECONDS
            assert login.asked == attempt
        assert caplog.messages == [f"{reason}; going on with the token in use" for reason in ("away", "no")]
        login.error = None
        await value(source)
        await until(lambda: source._token is not None and source._token.value != "token-1")


async def test_of_a_token_that_lives_shortly_half_its_life_is_used() -> None:
    login = Scripted(lifetime=10)
    async with tokens(login) as source:
        await value(source)
        login.clock += 4
        assert (await value(source), login.asked) == ("token-1", 1)
        login.clock += 1
        await value(source)
        await until(lambda: source._token is not None and source._token.value == "token-2")


async def test_an_expired_token_is_not_used_but_a_new_one_is_however_soon_it_expires() -> None:
    login = Scripted(lifetime=0)
    async with tokens(login) as source:
        assert [await value(source) for _ in range(3)] == ["token-1", "token-2", "token-3"]


async def test_a_refusal_is_not_asked_for_again_at_once() -> None:
    login = Scripted()
    async with tokens(login) as source:
        login.error = AccessDenied("revoked")
        for _ in range(10):
            with pytest.raises(AccessDenied, match=r"^revoked$"):
                await value(source)
        assert login.asked == 1
        login.clock += PAUSE_SECONDS
        login.error = None
        assert await value(source) == "token-2"


async def test_what_may_pass_is_not_remembered() -> None:
    login = Scripted()
    async with tokens(login) as source:
        login.error = Transient(Unreachable("away"))
        with pytest.raises(Transient, match="away"):
            await value(source)
        login.error = None
        assert await value(source) == "token-2"


async def test_a_server_that_hangs_holds_nobody_and_a_later_request_asks_it_anew(autojump_clock: MockClock) -> None:
    login = Scripted()
    login.go.clear()
    async with tokens(login) as source:
        began = trio.current_time()
        with pytest.raises(Transient, match="did not answer within 20 s"):
            await value(source)
        assert trio.current_time() - began == MAX_SECONDS
        autojump_clock.autojump_threshold = inf
        login.go.set()
        assert await value(source) in ("token-1", "token-2")  # both threads go on, and either may be the first
        assert login.asked == 2


# --- on requests --------------------------------------------------------------------------------------------------


class Archive:
    """Accepts some tokens; remembers what came."""

    def __init__(self, *accepted: str) -> None:
        self.accepted = accepted
        self.tokens: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        return httpx.Response(200 if self.tokens[-1] in self.accepted else 401, json=[1])


@asynccontextmanager
async def logged_in(
    login: Scripted | Login, wire: httpx.AsyncBaseTransport | None = None, url: str = "http://mock", **settings: float
) -> AsyncIterator[Transport]:
    """A transport to ``url``, with short waits."""
    archive = ArchiveSettings(name="google", base_url=url)
    short = TransportSettings(**({"backoff_initial_seconds": 0.001} | settings))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        auth = GoogleAuth(login, nursery, short.timeout_seconds)
        if isinstance(login, Scripted):
            auth._tokens._now = lambda: login.clock
        async with Transport(archive, short, Stats(), auth, wire) as transport:
            yield transport
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [None, AccessDenied("revoked"), Transient(Unreachable("away"))], ids=str)
async def test_who_waits_for_a_token_of_credentials_that_were_replaced_gets_one_of_the_new(
    error: IdcfsError | Transient | None,
) -> None:
    old, new = Scripted(), Scripted()
    new.asked, old.error = 100, error
    old.go.clear()
    got: list[str] = []
    async with tokens(old) as source, trio.open_nursery() as nursery:

        async def ask() -> None:
            got.append(await value(source))

        nursery.start_soon(ask)
        await until(lambda: old.asked == 1)
        source.use(new)
        assert await value(source) == "token-101"
        old.go.set()
        await until(lambda: bool(got))
        assert await value(source) == "token-101"
    assert got == ["token-101"]
    assert new.asked == 101


async def test_what_was_refused_with_the_old_credentials_is_asked_for_at_once_with_the_new() -> None:
    old, new = Scripted(), Scripted()
    old.error = AccessDenied("revoked")
    async with tokens(old) as source:
        with pytest.raises(AccessDenied, match="revoked"):
            await source.current()
        source.use(new)
        assert await value(source) == "token-1"


async def test_a_token_that_is_not_accepted_is_replaced_once() -> None:
    login, archive = Scripted(), Archive("token-2")
    async with logged_in(login, httpx.MockTransport(archive)) as transport:
        assert await transport.get_json("/x") == [1]
        assert await transport.get_json("/x") == [1]
    assert archive.tokens == ["token-1", "token-2", "token-2"]


async def test_the_page_that_comes_with_a_refusal_is_not_read() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1024)

    def handler(request: httpx.Request) -> httpx.Response:
        if request.headers["authorization"] == "Bearer token-1":
            return httpx.Response(401, content=endless())
        return httpx.Response(200, json=["there"])

    async with logged_in(Scripted(), httpx.MockTransport(handler)) as transport:
        assert await transport.get_json("/x") == ["there"]
    assert sent <= 1


async def test_requests_whose_token_is_refused_at_once_share_the_new_one() -> None:
    login, archive = Scripted(), Archive("token-2")
    async with logged_in(login, httpx.MockTransport(archive)) as transport, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(transport.get_json, "/x")
    assert login.asked == 2


async def test_where_no_token_is_accepted_access_is_denied_and_not_asked_for_each_time() -> None:
    login, archive = Scripted(), Archive()
    async with logged_in(login, httpx.MockTransport(archive)) as transport:
        for _ in range(5):
            with pytest.raises(AccessDenied):
                await transport.get_json("/x")
        assert archive.tokens == ["token-1", *["token-2"] * 5]
        login.clock += PAUSE_SECONDS
        archive.accepted = ("token-3",)
        assert await transport.get_json("/x") == [1]


async def test_a_login_server_that_is_away_for_a_moment_is_tried_again() -> None:
    login, archive = Scripted(), Archive("token-3")

    def recover(seconds: float) -> Token:
        login.asked += 1
        if login.asked < 3:
            raise Transient(Unreachable("away"))
        return Token("token-3", inf)

    login.refresh = recover  # type: ignore[method-assign]
    async with logged_in(login, httpx.MockTransport(archive)) as transport:
        assert await transport.get_json("/x") == [1]
    assert (login.asked, archive.tokens) == (3, ["token-3"])


async def test_a_login_server_that_hangs_is_told_as_such_within_the_timeout(autojump_clock: MockClock) -> None:
    login = Scripted()
    login.go.clear()
    async with logged_in(login, httpx.MockTransport(Archive()), timeout_seconds=6.0) as transport:
        began = trio.current_time()
        with pytest.raises(Unreachable, match="Google's login server did not answer within 2 s"):
            await transport.get_json("/x")
        assert trio.current_time() - began <= 6.0
        login.go.set()


@pytest.mark.parametrize(
    ("to", "same"), [("http://mock/y", True), ("http://mock:81/y", False), ("http://other/y", False)]
)
async def test_neither_token_nor_project_follow_to_another_origin(to: str, same: bool) -> None:
    login = Scripted()
    login.quota_project = "mine"
    seen: list[tuple[str | None, str | None]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers.get("Authorization"), request.headers.get(QUOTA_PROJECT_HEADER)))
        if request.url.path == "/x":
            return httpx.Response(307, headers={"Location": to})
        return httpx.Response(200, json=[1])

    async with logged_in(login, httpx.MockTransport(handler)) as transport:
        assert await transport.get_json("/x") == [1]
    mine = ("Bearer token-1", "mine")
    assert seen == [mine, mine if same else (None, None)]


async def test_a_real_redirect_to_another_port_carries_nothing() -> None:
    login = Scripted()
    login.quota_project = "mine"
    async with (
        serving(http(200, b"[1]")) as other,
        serving(http(307, headers=f"Location: {other.url}/y\r\n")) as server,
        logged_in(login, url=server.url) as transport,
    ):
        assert await transport.get_json("/x") == [1]
    assert "authorization: bearer token-1" in server.requests[0].lower()
    assert "x-goog-user-project: mine" in server.requests[0].lower()
    assert "token" not in other.requests[0]
    assert "x-goog" not in other.requests[0].lower()


async def test_no_log_has_a_token(
    endpoint: TokenEndpoint, service_account: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        login = await trio.to_thread.run_sync(partial(find_login, None))
        async with serving(http(401)) as server, logged_in(login, url=server.url) as transport:
            with pytest.raises(AccessDenied):
                await transport.get_json("/x")
    assert len(endpoint.given) == 2
    assert not [line for line in caplog.text.splitlines() if "ya29" in line or "assertion" in line]

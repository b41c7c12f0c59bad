"""The login of ``--archive google``: a bearer token on every request, renewed without anybody noticing.

One token for the whole mount. It is renewed when a request wants it 3 min 45 s before it expires, as google-auth does,
while requests go on with the one in use; only who finds none that is valid waits. An archive that does not accept it
gets a new one, once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Protocol, cast

import httpx
import trio

from ..errors import AccessDenied, Unreachable
from ..flight import SingleFlight
from .adc import Token
from .faults import Transient

QUOTA_PROJECT_HEADER = "x-goog-user-project"
AHEAD_SECONDS = 225.0
"""How long before a token expires it is renewed: Google's servers may hand out the same one until then."""
PAUSE_SECONDS = 5.0
"""For how long a failure is not tried again that another try would only repeat: a walk over many files asks often."""
MAX_SECONDS = 20.0
"""Longest wait for a token, at most a third of the timeout: so somebody learns what was waited for."""
MAX_THREADS = 4
"""Refreshes that may hang before others wait for them."""

log = logging.getLogger(__name__)


class TokenSource(Protocol):
    """Credentials: ``refresh`` blocks, and raises AccessDenied or Transient."""

    @property
    def quota_project(self) -> str | None: ...
    def refresh(self, seconds: float) -> Token: ...
    def __hash__(self) -> int: ...


class GoogleAuth(httpx.Auth):
    """Adds the token, and the quota project if there is one, to what httpx sends."""

    def __init__(self, login: TokenSource, nursery: trio.Nursery, timeout_seconds: float) -> None:
        self._login = login
        self._tokens = Tokens(login, nursery, timeout_seconds)

    def use(self, login: TokenSource) -> None:
        """Log in with ``login`` from now on; the token in use is dropped."""
        self._login = login
        self._tokens.use(login)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Called by httpx for each request.

        :raises AccessDenied: if there is no token to be had.
        :raises Transient: if another try may help.
        """
        token = await self._tokens.current()
        response = yield self._signed(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            another = await self._tokens.instead_of(token)
            if another is not None:
                await _leave_unread(response)
                response = yield self._signed(request, another)
                if response.status_code == httpx.codes.UNAUTHORIZED:
                    self._tokens.note_in_vain()
        following = response.next_request
        if following is not None and "authorization" not in following.headers:
            # httpx takes the token off where a redirect leads to another origin, of the rest it does not know.
            following.headers.pop(QUOTA_PROJECT_HEADER, None)

    def _signed(self, request: httpx.Request, token: Token) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {token.value}"
        if project := self._login.quota_project:
            request.headers[QUOTA_PROJECT_HEADER] = project
        return request


async def _leave_unread(response: httpx.Response) -> None:
    """Between two requests of a login httpx reads the whole body of the first answer, however long that is."""
    body, response.stream = response.stream, httpx.ByteStream(b"")
    await cast("httpx.AsyncByteStream", body).aclose()


class Tokens:
    """The token of the moment. Refreshes run in ``nursery``, so that nobody's going away ends them."""

    def __init__(
        self, login: TokenSource, nursery: trio.Nursery, timeout_seconds: float, now: Callable[[], float] = time.time
    ) -> None:
        """
        :param now: the time in seconds since the epoch. Not trio's, which stands still while a machine sleeps.
        """
        self._login = login
        self._nursery = nursery
        self._flights: SingleFlight[TokenSource, Token] = SingleFlight(nursery)
        self._seconds = min(MAX_SECONDS, timeout_seconds / 3)
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._now = now
        self._token: Token | None = None
        self._renew_at = 0.0
        self._refusal = ""
        self._pause_until = 0.0

    def use(self, login: TokenSource) -> None:
        """Have tokens from ``login`` from now on, also for those who wait for one."""
        self._login = login
        self._token = None
        self._refusal, self._pause_until = "", 0.0

    async def current(self) -> Token:
        """A token that has not expired. One that was fetched for this call is handed out however soon it expires."""
        token, now = self._token, self._now()
        if token is None or now >= token.expires:
            return await self._fetched()
        if now >= self._renew_at:
            self._renew_at = now + PAUSE_SECONDS
            self._nursery.start_soon(self._renew)
        return token

    async def instead_of(self, refused: Token) -> Token | None:
        """Another token than ``refused``, which the archive does not accept; None where that was in vain just now."""
        if self._token is not None and self._token.value != refused.value:
            return self._token
        return None if self._now() < self._pause_until else await self._fetched()

    def note_in_vain(self) -> None:
        """The archive refuses new tokens as well."""
        self._pause_until = self._now() + PAUSE_SECONDS

    async def _renew(self) -> None:
        try:
            await self._fetched()
        except Exception as error:  # in the mount's nursery, whatever is not caught would end the mount
            is_bug = not isinstance(error, AccessDenied | Transient)
            log.warning("%s; going on with the token in use", error, exc_info=is_bug)

    async def _fetched(self) -> Token:
        """A new token, one for all who want one at the same time."""
        if self._refusal and self._now() < self._pause_until:
            raise AccessDenied(self._refusal)
        login = self._login
        try:
            token = await self._flights.run(login, partial(self._fetch, login))
        except (AccessDenied, Transient):
            if login is self._login:
                raise
        else:
            if login is self._login:
                return token
        return await self.current()  # these credentials were replaced meanwhile

    async def _fetch(self, login: TokenSource) -> Token:
        refresh = partial(login.refresh, self._seconds)
        try:
            with trio.fail_after(self._seconds):
                token = await trio.to_thread.run_sync(refresh, abandon_on_cancel=True, limiter=self._threads)
        except trio.TooSlowError:
            silent = Unreachable(f"Google's login server did not answer within {self._seconds:g} s")
            raise Transient(silent) from None
        except AccessDenied as refusal:
            if login is self._login:
                self._refusal = str(refusal)
                self._pause_until = self._now() + PAUSE_SECONDS
            raise
        if login is not self._login:
            return token
        self._token, self._refusal, self._pause_until = token, "", 0.0
        left = token.expires - self._now()
        self._renew_at = token.expires - min(AHEAD_SECONDS, left / 2)
        return token

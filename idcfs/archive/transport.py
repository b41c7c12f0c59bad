"""HTTP towards one archive: its limits and retries; nothing of httpx leaves except a response's headers.

A request is repeated only while nothing of its body was handed out: a search until it is whole, a retrieval until its
first byte. Every wait counts against one patience: ``timeout_seconds`` from the start, and anew with every 64 KiB that
come in, so a server that drips a byte a second is cut off like one that is silent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
import trio
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from .. import network
from ..deadline import Progress
from ..errors import DeadlinePassed, IdcfsError, Refused, UsageError
from ..printable import quoted
from ..settings import DICOM_JSON, ArchiveSettings, TransportSettings
from ..stats import Stats
from . import dicomjson, faults, redirects
from .answer import Answer, Document, drop, raw_body, read_some, read_whole
from .circuit import Circuit
from .connections import Connections, certificates, direct_origin, origin_of
from .faults import Told, Transient

T = TypeVar("T")
Kind = Literal["qido_requests", "wado_requests", "bucket_requests"]
"""The counter, besides ``requests``, under which a request is sent."""


class Transport:
    """The way to one archive; an async context manager. Paths begin with a slash, under the archive's base URL.

    ``auth`` adds the login to requests (and refreshes it on a 401); ``wire`` replaces the network in tests, ``now`` the
    time of day. ``has_stand_in`` says that another place is asked while the archive is away.
    """

    def __init__(
        self,
        archive: ArchiveSettings,
        settings: TransportSettings,
        stats: Stats,
        auth: httpx.Auth | None = None,
        wire: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        has_stand_in: bool = False,
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._stats = stats
        self._now = now
        build_client = partial(self._build_client, auth)
        # Connections are for the archive itself; hosts it redirects to, or behind a proxy, are httpx's own business.
        self._origin = direct_origin(archive.base_url) if wire is None else None
        network.check()
        try:
            self._direct = build_client(Connections(settings.max_connections, archive.keepalive_seconds))
            self._indirect = build_client(wire)
        except (ValueError, ImportError, OSError, httpx.InvalidURL):  # its words may have a password in them
            variables = ", ".join(network.VARIABLES)
            raise UsageError(f"what the environment says in {variables} cannot all be used") from None
        # The random share keeps readers that failed together from coming back together.
        initial, longest = settings.backoff_initial_seconds, settings.backoff_max_seconds
        self._backoff = wait_exponential(multiplier=initial, max=longest) + wait_random(0, initial)
        self._large = trio.Lock()
        self._circuit = Circuit(archive.spoken_name, stats, now, has_stand_in=has_stand_in)

    def _build_client(self, auth: httpx.Auth | None, wire: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
        settings = self._settings
        return httpx.AsyncClient(
            auth=auth,
            transport=wire,
            verify=certificates(),
            headers={"User-Agent": f"idcfs/{_version()}"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # they would be sent again, whatever is in them
            timeout=httpx.Timeout(settings.timeout_seconds, connect=settings.connect_timeout_seconds),
            limits=httpx.Limits(
                max_connections=settings.max_connections, keepalive_expiry=self._archive.keepalive_seconds
            ),
            follow_redirects=False,  # _follow does it: httpx would read, and unpack, the whole body of each
            event_hooks={"request": [self._count_request]},
        )

    def _client(self, url: httpx.URL) -> httpx.AsyncClient:
        """Who brings requests to ``url``."""
        return self._direct if origin_of(url) == self._origin else self._indirect

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._direct.aclose()
        await self._indirect.aclose()

    @property
    def away(self) -> IdcfsError | None:
        """Why the archive is not worth asking now; None: ask, if only to find out whether it is back."""
        return self._circuit.away

    def ask_again(self) -> None:
        """Ask the archive again at once, even if it was away."""
        self._circuit.reset()

    async def get_json(self, path: str, params: Mapping[str, str | int] | None = None, *, about: str = "") -> Any:
        """The JSON at ``path``; an empty list for 204 and for an empty 200, which both mean "nothing found".

        :raises Gone: for a 404.
        :raises Refused: for another status, what is not JSON, or too much of it.
        :raises IdcfsError: what else ``faults`` makes of an answer.
        """
        most = self._settings.max_json_bytes
        parse = partial(dicomjson.parse, where=self._where(path))

        async def value(document: Document) -> Any:
            body = document.body
            return await dicomjson.in_turns(len(body), partial(parse, body)) if body.strip() else []

        headers = {"Accept": DICOM_JSON, "Accept-Encoding": "gzip"}
        return await self._get(value, path, params, headers, "qido_requests", most, about, self._large)

    async def get_document(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        accept: str,
        kind: Kind,
        most: int,
        encoding: str = "gzip",
        about: str = "",
        is_alone_if_large: bool = False,
    ) -> Document:
        """The whole document at ``path``, of at most ``most`` bytes; empty for a 204 too.

        :param encoding: to be accepted, besides none.
        :param about: says what of, where the path does not: what is asked about different things fails for each of
            them.
        :param is_alone_if_large: of those that are, no other is in memory at the same time.
        :raises Gone: for a 404.
        :raises Refused: for another status, or too much of it.
        :raises IdcfsError: what else ``faults`` makes of an answer.
        """

        async def itself(document: Document) -> Document:
            return document

        headers = {"Accept": accept, "Accept-Encoding": encoding}
        large = self._large if is_alone_if_large else None
        return await self._get(itself, path, params, headers, kind, most, about, large)

    async def _get(
        self,
        use: Callable[[Document], Awaitable[T]],
        path: str,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
        kind: Kind,
        most: int,
        about: str,
        large: trio.Lock | None,
    ) -> T:
        """What ``use`` makes of the whole document at ``path``.

        :param large: held, until it is used, by the one that is large.
        """
        progress = Progress(self._settings.timeout_seconds)

        async def attempt() -> T:
            async with AsyncExitStack() as alone:
                async with aclosing(await self._open(path, params, headers, kind, (200, 204))) as answer:
                    body = await read_whole(answer, progress, most, large, alone)
                return await use(Document(answer.headers.get("content-type", ""), body))

        return await self._ask(attempt, progress, path + about)

    @property
    def name(self) -> str:
        """What the archive is called."""
        return self._archive.name

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        accept: str,
        start: int = 0,
        stop: int | None = None,
        *,
        as_range: bool = False,
        is_telling: bool = True,
        kind: Kind = "wado_requests",
    ) -> AsyncIterator[Answer]:
        """The answer to a GET of bytes [start, stop) of what is at ``path``; leaving early stops the transfer.

        A 200, or a 206 if not all is wanted, or all of it ``as_range``. Only with its first byte is it an answer:
        headers before a body that never comes are sent by an archive that is away. Once the body runs, it is the caller
        who watches its progress.

        :param is_telling: see ``Circuit``.
        :raises Gone: before the first byte, as all others: for a 204, 404 or 410.
        :raises IdcfsError: what else ``faults`` makes of an answer, or of none: Refused, AccessDenied, QuotaSpent,
            Unreachable or DeadlinePassed.
        """
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        welcome: tuple[int, ...] = (200,)
        if as_range or start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            welcome = (200, 206)
        progress = Progress(self._settings.timeout_seconds)

        async def attempt() -> Answer:
            answer = await self._open(path, None, headers, kind, welcome)
            try:
                await answer.begin()
            except BaseException:
                await answer.aclose()
                raise
            return answer

        async with aclosing(await self._ask(attempt, progress, path, is_telling=is_telling)) as answer:
            yield answer

    def in_time(self, what: str) -> AbstractContextManager[None]:
        """Wait within for what is little: a whole timeout, whatever comes meanwhile.

        :raises DeadlinePassed: when that is over; ``what`` is named in the message.
        """
        return Progress(self._settings.timeout_seconds).watch(what)

    async def _open(
        self,
        path: str,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
        kind: Kind,
        welcome: tuple[int, ...],
    ) -> Answer:
        """Send once.

        :raises Transient: where another try may help.
        :raises IdcfsError: what is wrong with the answer, else.
        """
        answer = await self._send(path, params, headers, kind)
        if answer.status in welcome:
            return answer
        async with aclosing(answer):
            body = await read_some(answer)
        timeout_seconds, now = self._settings.timeout_seconds, self._now()
        told = Told(
            answer.status, answer.headers, body, answer.where, self._archive, timeout_seconds, now, answer.login
        )
        raise faults.of_answer(told)

    async def _send(
        self, path: str, params: Mapping[str, str | int] | None, headers: Mapping[str, str], kind: Kind
    ) -> Answer:
        where = self._where(path)
        try:
            url = httpx.URL(self._archive.base_url + path)
            client = self._client(url)
            request = client.build_request("GET", url, params=params, headers=headers, extensions={"idcfs_kind": kind})
            response = await self._follow(await client.send(request, stream=True), where)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise faults.of_request(error, where) from error
        counter = "bytes_from_buckets" if kind == "bucket_requests" else "bytes_from_archive"
        return Answer(response, where, self._stats, counter)

    async def _follow(self, response: httpx.Response, where: str) -> httpx.Response:
        """The answer at the end of the redirects that begin with ``response``, their bodies left unread."""
        followed, first = 0, origin_of(response.request.url)
        while response.next_request is not None:
            await drop(response, raw_body(response))
            if followed == redirects.MOST_IN_A_ROW:
                raise Refused(f"{where} redirects in circles")
            request = response.next_request
            # httpx drops the login where the redirect leads to another origin; nor may it be added again there.
            auth = httpx.USE_CLIENT_DEFAULT if "authorization" in request.headers else None
            try:
                redirects.check(response.request.url, request.url, where)
                response = await self._client(request.url).send(request, stream=True, auth=auth)
            except (httpx.HTTPError, UnicodeError) as error:
                there = origin_of(request.url)
                led = f"{where} (redirected to {quoted(there[1])})"
                raise faults.of_request(error, led, is_elsewhere=there != first) from error
            followed += 1
        return response

    async def _ask(
        self, attempt: Callable[[], Awaitable[T]], progress: Progress, path: str, *, is_telling: bool = True
    ) -> T:
        """``attempt`` until it works, or attempts or time are used up; not at all while the archive is away."""
        with self._circuit.asking(path, is_telling=is_telling):
            most = self._settings.max_attempts if is_telling else 1
            return await self._ask_in_time(attempt, progress, path, most)

    async def _ask_in_time(
        self, attempt: Callable[[], Awaitable[T]], progress: Progress, path: str, most_attempts: int
    ) -> T:
        failed: list[Transient] = []
        try:
            with progress.watch(self._where(path)):
                try:
                    return await attempt()
                except Transient as fault:
                    return await self._retry(attempt, fault, failed, progress, most_attempts)
        except Transient as fault:
            raise fault.error from fault.__cause__
        except DeadlinePassed as late:
            # What was wrong before says more than that the time was up in the middle of the next try.
            error = failed[-1].error if failed else late
            raise error from late.__cause__

    async def _retry(
        self,
        attempt: Callable[[], Awaitable[T]],
        fault: Transient,
        failed: list[Transient],
        progress: Progress,
        most_attempts: int,
    ) -> T:
        """``attempt`` again, which has failed with ``fault``; ``failed`` gets what each repetition was for.

        tenacity comes in only here: it costs 0.2 ms even where nothing fails.
        """
        # Of an archive that may be away, one try tells enough; else a walk over many series takes hours to fail.
        exhausted = stop_after_attempt(most_attempts if self._circuit.is_sound else 1)

        def count(state: RetryCallState) -> None:
            self._stats.count("retries")
            if state.outcome and isinstance(again := state.outcome.exception(), Transient):
                failed.append(again)

        async def go_on() -> T:
            if not failed:
                raise fault  # the first try, which has been made
            if self.away is not None:  # others have found out meanwhile
                raise failed[-1]
            return await attempt()

        retrying = AsyncRetrying(
            sleep=trio.sleep,
            retry=retry_if_exception_type(Transient),
            wait=self._pause,
            stop=lambda state: (
                exhausted(state) or state.upcoming_sleep >= progress.remaining_seconds or self.away is not None
            ),
            before_sleep=count,
            reraise=True,
        )
        result: T = await retrying(go_on)
        return result

    def _pause(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        fault = state.outcome.exception() if state.outcome else None
        if not isinstance(fault, Transient):
            return 0.0
        if fault.at_once and state.attempt_number == 1:
            return 0.0
        return max(self._backoff(state), fault.retry_after_seconds)

    async def _count_request(self, request: httpx.Request) -> None:
        """Called by httpx for everything it sends: retries, redirects, repetitions with a fresh login."""
        self._stats.count("requests")
        self._stats.count(request.extensions["idcfs_kind"])

    def _where(self, path: str) -> str:
        """Names archive and path."""
        return f"{self._archive.name}{path}"


def _version() -> str:
    try:
        return version("idcfs")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"

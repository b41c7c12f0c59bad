"""Checks of ``idcfs doctor`` that ask somebody, once and briefly: the archive, its quota and login, the bucket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from ..errors import AccessDenied, DeadlinePassed, Gone, IdcfsError, NoConnection, QuotaSpent, Refused, UsageError
from ..settings import GOOGLE_LOGIN_COMMAND, ArchiveSettings, BucketSettings, TransportSettings
from ..stats import Stats
from .finding import Finding

if TYPE_CHECKING:
    from ..archive.adc import Login

SECONDS = 5.0
"""How long an answer may take."""
_LOGIN_SECONDS = 20.0
"""How long finding credentials may take: off Google's machines that asks their metadata server, in vain."""
_A_BUCKET = "idc-open-data"
"""The largest of IDC's, by its name at AWS."""
_MAX_LIST_BYTES = 1024 * 1024


def archive(settings: ArchiveSettings) -> list[Finding]:
    """Whether the archive can be asked, is one, lets this user in, and has quota left.

    A search for one series is sent, which the archives answer with less than a kilobyte.
    """
    return trio.run(_archive, settings)


async def _archive(settings: ArchiveSettings) -> list[Finding]:
    if not settings.google_login:
        return await _search(settings, None)
    try:
        with trio.fail_after(_LOGIN_SECONDS):
            login = await trio.to_thread.run_sync(_find_login, settings.quota_project, abandon_on_cancel=True)
    except UsageError as error:
        return [Finding.fail("google login", str(error), GOOGLE_LOGIN_COMMAND)]
    except trio.TooSlowError:
        said = f"no credentials were found within {_LOGIN_SECONDS:g} s"
        return [Finding.fail("google login", said, GOOGLE_LOGIN_COMMAND)]
    project = login.quota_project
    counted = f"requests are counted for {project}" if project else "they name no project to count requests for"
    return [Finding.ok("google login", f"credentials are there; {counted}"), *await _search(settings, login)]


def _find_login(quota_project: str | None) -> Login:
    from ..archive.adc import find_login  # here, not above: it takes long to load

    return find_login(quota_project)


async def _search(settings: ArchiveSettings, login: Login | None) -> list[Finding]:
    async def ask(stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        from ..archive.google import GoogleAuth
        from ..archive.transport import Transport

        auth = None if login is None else GoogleAuth(login, nursery, SECONDS)
        transport = await stack.enter_async_context(Transport(settings, _BRIEFLY, Stats(), auth))
        await transport.get_json("/series", {"limit": 1})

    quota = [Finding.ok("quota", "it is not spent")] if settings.has_daily_quota else []
    try:
        await _once(ask)
    except QuotaSpent as error:
        until = f" until {error.until:%H:%M} UTC" if error.until else ""
        remedy = "wait, or mount with --content bucket: IDC's buckets have no quota"
        return [
            Finding.ok("archive", f"{settings.spoken_name} answers"),
            Finding.fail("quota", f"it is spent{until}", remedy),
        ]
    except IdcfsError as error:
        return [Finding.fail("archive", str(error), _archive_remedy(settings, error))]
    return [Finding.ok("archive", f"{settings.spoken_name} answers"), *quota]


def _archive_remedy(settings: ArchiveSettings, error: IdcfsError) -> str:
    match error:
        case NoConnection() | DeadlinePassed():
            return "check the network, the address and HTTPS_PROXY; what is cached works with --offline"
        case AccessDenied() if settings.google_login:
            return f"{GOOGLE_LOGIN_COMMAND}; may that account use the store, and --quota-project?"
        case AccessDenied():
            return "let the server admit this machine, or give the URL of a proxy that logs in"
        case Refused() | Gone():
            return "is the URL the server's DICOMweb root? Orthanc's ends in /dicom-web"
    return "ask again later; the server's own log may say more"


def bucket(settings: BucketSettings) -> Finding:
    """Whether the bucket lists what it holds: one name of it is asked for."""
    return trio.run(_bucket, settings.of(_A_BUCKET))


async def _bucket(settings: ArchiveSettings) -> Finding:
    async def ask(stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        from ..archive.transport import Transport

        transport = await stack.enter_async_context(Transport(settings, _BRIEFLY, Stats()))
        params = {"list-type": 2, "max-keys": 1}
        await transport.get_document("/", params, accept="*/*", kind="bucket_requests", most=_MAX_LIST_BYTES)

    try:
        await _once(ask)
    except IdcfsError as error:
        remedy = "check the network and --bucket; --content wado does without, for files up to 32 MiB"
        return Finding.warn("bucket", str(error), remedy)
    return Finding.ok("bucket", f"{settings.spoken_name} answers")


_BRIEFLY = TransportSettings(timeout_seconds=SECONDS, connect_timeout_seconds=SECONDS, max_attempts=1)


async def _once(ask: Callable[[AsyncExitStack, trio.Nursery], Awaitable[None]]) -> None:
    """``ask``, and what it has opened closed again.

    :raises IdcfsError: what went wrong.
    """
    failed: list[IdcfsError] = []
    async with trio.open_nursery() as nursery:
        async with AsyncExitStack() as stack:
            try:
                await ask(stack, nursery)
            except IdcfsError as error:  # not through the nursery, which would wrap it
                failed.append(error)
        nursery.cancel_scope.cancel()
    if failed:
        raise failed[0]

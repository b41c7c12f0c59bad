"""Checks of ``idcfs doctor`` that ask somebody, once and briefly: the archive, its quota and login, the bucket."""

from __future__ import annotations

import trio

from ..archive.adc import Login, find_login
from ..archive.probing import probe_archive, probe_bucket
from ..errors import AccessDenied, DeadlinePassed, Gone, IdcfsError, NoConnection, QuotaSpent, Refused, UsageError
from ..settings import GOOGLE_LOGIN_COMMAND, ArchiveSettings, BucketSettings
from .finding import Finding

SECONDS = 5.0
"""How long an answer may take."""
_A_BUCKET = "idc-open-data"
"""The largest of IDC's, by its name at AWS."""


def archive(settings: ArchiveSettings) -> list[Finding]:
    """Whether the archive can be asked, is one, lets this user in, and has quota left."""
    return trio.run(_archive, settings)


async def _archive(settings: ArchiveSettings) -> list[Finding]:
    if not settings.google_login:
        return await _search(settings, None)
    try:
        login = await trio.to_thread.run_sync(find_login, settings.quota_project, abandon_on_cancel=True)
    except UsageError as error:
        return [Finding.fail("google login", str(error), GOOGLE_LOGIN_COMMAND)]
    project = login.quota_project
    counted = f"requests are counted for {project}" if project else "they name no project to count requests for"
    return [Finding.ok("google login", f"credentials are there; {counted}"), *await _search(settings, login)]


async def _search(settings: ArchiveSettings, login: Login | None) -> list[Finding]:
    quota = [Finding.ok("quota", "it is not spent")] if settings.has_daily_quota else []
    try:
        await probe_archive(settings, login, SECONDS)
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
            where = settings.base_url
            return f"check the network, HTTPS_PROXY and the address, {where}; what is cached works with --offline"
        case UsageError():
            return "mend or unset it"
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
    try:
        await probe_bucket(settings, SECONDS)
    except IdcfsError as error:
        remedy = "check the network and --bucket; --content wado does without, for files up to 32 MiB"
        return Finding.warn("bucket", str(error), remedy)
    return Finding.ok("bucket", f"{settings.spoken_name} answers")

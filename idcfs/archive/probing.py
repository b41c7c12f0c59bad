"""Whether archive and bucket answer: one small request, sent once, for who wants to know and mounts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..errors import IdcfsError, first_of
from ..settings import ArchiveSettings, TransportSettings
from ..stats import Stats
from .dicomjson import checked_items
from .google import GoogleAuth
from .objects import parse_page
from .transport import Transport

if TYPE_CHECKING:
    from .adc import Login

_MAX_LIST_BYTES = 1024 * 1024


async def probe_archive(archive: ArchiveSettings, login: Login | None, seconds: float) -> None:
    """Search for one series, which the archives answer with less than a kilobyte.

    :param seconds: how long the answer, and a token of ``login``, may take.
    :raises IdcfsError: as a mount would.
    """
    try:
        async with trio.open_nursery() as nursery:
            auth = None if login is None else GoogleAuth(login, nursery, seconds)
            async with Transport(archive, _once(seconds), Stats(), auth) as transport:
                checked_items(await transport.get_json("/series", {"limit": 1}), archive.spoken_name)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # what a nursery raises: the one failure that matters is ours
        ours, others = group.split(IdcfsError)
        if ours is None or others is not None:
            raise
        raise first_of(ours) from None


async def probe_bucket(bucket: ArchiveSettings, seconds: float) -> None:
    """Ask for one name of what the bucket holds.

    :param seconds: how long the answer may take.
    :raises IdcfsError: as a mount would.
    """
    async with Transport(bucket, _once(seconds), Stats()) as transport:
        params = {"list-type": 2, "max-keys": 1}
        document = await transport.get_document("/", params, accept="*/*", kind="bucket_requests", most=_MAX_LIST_BYTES)
        parse_page(document.body, "", bucket.spoken_name)


def _once(seconds: float) -> TransportSettings:
    return TransportSettings(timeout_seconds=seconds, connect_timeout_seconds=seconds, max_attempts=1)

"""A mount that another process serves: where it is, and what it says of itself in its hidden ``/.status.json``."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from . import mounts
from .errors import AccessDenied, IdcfsError, UsageError
from .settings import STATUS_NAME

ATTRIBUTE_PREFIX = "user.idc."
"""Before the names of a mount's extended attributes."""

_GLANCE_SECONDS = 2.0
"""How long is waited for mounts that nobody has asked about; those that live answer within milliseconds."""


def idcfs_at(mountpoint: Path) -> Path:
    """The mountpoint as the kernel knows it.

    :raises UsageError: if no idcfs is mounted there.
    """
    path = mounts.absolute(mountpoint)
    mount = mounts.mount_at(path)
    if mount is None or mount.filesystem_type != mounts.FILESYSTEM_TYPE:
        raise UsageError(f"no idcfs is mounted at {path}")
    return path


def read_status(mountpoint: Path) -> dict[str, Any]:
    """What the idcfs at ``mountpoint`` says of itself.

    :raises AccessDenied: if it is another user's.
    :raises IdcfsError: if it does not answer.
    """
    try:
        return mounts.ask(mountpoint, partial(_status_of, mountpoint))
    except PermissionError:
        raise AccessDenied(f"the idcfs at {mountpoint} belongs to another user") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise IdcfsError(
            f"the idcfs at {mountpoint} does not answer ({reason}): 'idcfs umount --lazy {mountpoint}' detaches it"
        ) from None


def reports(mountpoint: Path | None) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """What the idcfs at ``mountpoint``, or every idcfs, says of itself, and a line for each that does not answer.

    :raises IdcfsError: if the one that is asked for does not answer, or there is none at all.
    """
    if mountpoint is not None:
        place = idcfs_at(mountpoint)
        return {place: read_status(place)}, []
    places = mounts.idcfs_mounts()
    if not places:
        raise UsageError("no idcfs is mounted: 'idcfs mount MOUNTPOINT' first")
    found: dict[Path, dict[str, Any]] = {}
    unanswered = []
    for place in places:
        try:
            found[place] = read_status(place)
        except IdcfsError as error:
            unanswered.append(str(error))
    return found, unanswered


def content_of(report: dict[str, Any]) -> str:
    """In words, by what a mount says of itself, where contents come from, and sizes where that is another place."""
    policy, name = report["content"], report["buckets"]
    buckets = f"the buckets ({name}, {report['bucket_url']})" if report.get("bucket_url") else f"the buckets ({name})"
    if policy == "bucket":
        return f"bucket: from {buckets} alone"
    if policy == "wado":
        return "wado: by WADO-RS alone" + (f"; sizes from {buckets}" if name else "")
    return f"auto: by WADO-RS, else from {buckets}" if name else "auto: by WADO-RS; no bucket may be asked"


def sync(mountpoint: Path) -> None:
    """Return when all that the idcfs at ``mountpoint`` has fetched is on disk, or has not found room there.

    :raises OSError: if it does not answer, or cannot keep lists and sizes.
    """
    descriptor = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mounts_using(cache_dir: Path) -> list[Path]:
    """Mountpoints of every idcfs that keeps what it knows in ``cache_dir`` and soon says so."""
    found: list[Path] = []
    directory = os.path.realpath(cache_dir)

    def look(mountpoint: Path) -> None:
        with suppress(Exception):  # dead, another user's, or of a version that says other things
            if os.path.realpath(_status_of(mountpoint)["cache_dir"]) == directory:
                found.append(mountpoint)

    # All at once, in threads: one that stands still holds up neither the others nor, for long, whoever asks.
    threads = [Thread(target=look, args=(mountpoint,), daemon=True) for mountpoint in mounts.idcfs_mounts()]
    end = time.monotonic() + _GLANCE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return sorted(found)


def _status_of(mountpoint: Path) -> dict[str, Any]:
    report = json.loads((mountpoint / STATUS_NAME).read_bytes())
    assert isinstance(report, dict)
    return report

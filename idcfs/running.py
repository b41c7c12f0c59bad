"""A mount that another process serves: where it is, and what it says of itself in its hidden ``/.status.json``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from threading import Thread
from typing import Any, cast

from . import mounts
from .errors import AccessDenied, IdcfsError, UsageError
from .settings import MIB, STATUS_NAME

ATTRIBUTE_PREFIX = "user.idc."
"""Before the names of a mount's extended attributes."""

_MOST_BYTES = 16 * MIB
"""More than any mount says of itself; that of somebody else's filesystem that calls itself idcfs may have no end."""
_COUNTS = range(-(2**63), 2**63)
"""What can be counted; with more, not even a rate can be worked out."""
_SHAPE: dict[str, Any] = {
    "pid": range(1, 2**22 + 1),  # what Linux has at most
    "started": range(2**35),  # of which years can be told
    **dict.fromkeys(("idcfs", "mountpoint", "archive", "url", "content", "index", "cache_dir"), str),
    **dict.fromkeys(("buckets", "bucket_url?", "log_file?"), str | None),
    "offline": bool,
    "layout?": str,
    "metrics_port?": int | None,
    "cohort?": (None, {"collections?": (None, [str]), "where?": str | None, "manifest?": str | None}),
    "counters": {
        **dict.fromkeys(("hits", "misses", "bytes_from_archive", "bytes_from_buckets", "errors"), _COUNTS),
        **dict.fromkeys(("open_files", "running_downloads", "disk_cache_capacity", "disk_unkept"), _COUNTS),
    },
    "circuits?": [
        {"archive": str, "open": bool, "quota": bool, "why": str | None, "until": (None, range(2**35))},
    ],
    "downloads?": [{"uid": str, "got": _COUNTS, "size": (None, _COUNTS)}],
}
"""What this version's commands understand of what a mount says: types, by name; with ``?`` what may be missing.

Who has mounted it, another version or somebody else, may have it say anything.
"""
_GLANCE_SECONDS = 2.0
"""How long is waited for mounts that nobody has asked about; those that live answer within milliseconds."""


def idcfs_at(mountpoint: Path) -> Path:
    """The mountpoint as the kernel knows it.

    :raises UsageError: if no idcfs is mounted there.
    """
    path = mounts.absolute(mountpoint)
    mount = mounts.mount_at(path)
    if mount is None or mount.filesystem_type != mounts.FILESYSTEM_TYPE:
        above = mounts.idcfs_above(path)
        raise UsageError(f"no idcfs is mounted at {path}" + (f", which lies in that at {above}" if above else ""))
    return path


def read_status(mountpoint: Path) -> dict[str, Any]:
    """What the idcfs at ``mountpoint`` says of itself.

    :raises AccessDenied: if it is another user's.
    :raises UsageError: if it does not say what this version understands.
    :raises IdcfsError: if it does not answer.
    """
    try:
        return mounts.ask(mountpoint, partial(_status_of, mountpoint))
    except PermissionError:
        raise AccessDenied(f"the idcfs at {mountpoint} belongs to another user") from None
    except OSError as error:
        raise IdcfsError(
            f"the idcfs at {mountpoint} does not answer ({error.strerror}): "
            f"'idcfs umount --lazy {mountpoint}' detaches it"
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
    """:raises UsageError: if it is not what this version understands."""
    with (mountpoint / STATUS_NAME).open("rb", buffering=0) as file:
        text = b"".join(_pieces(file))
    with suppress(ValueError, RecursionError):  # no JSON, or too deep
        report = json.loads(text)
        if _fits(report, _SHAPE) and all(_fits(value, _COUNTS) for value in report["counters"].values()):
            return cast("dict[str, Any]", report)
    raise UsageError(f"the idcfs at {mountpoint} is of another version: mount it anew")


def _pieces(file: FileIO) -> Iterator[bytes]:
    """Up to somewhat more than is read at most: what has been cut off is no JSON."""
    size = 0
    while size < _MOST_BYTES and (piece := file.read(MIB)):
        size += len(piece)
        yield piece


def _fits(value: Any, shape: Any) -> bool:
    """Whether ``value``, of JSON, is of ``shape``.

    That is a type; a range of whole numbers; a list of one shape; a dictionary of shapes; or several in a tuple.
    """
    match shape:
        case dict():
            return isinstance(value, dict) and all(_has(value, name, inner) for name, inner in shape.items())
        case list():
            return isinstance(value, list) and all(_fits(one, shape[0]) for one in value)
        case tuple():
            return any(_fits(value, one) for one in shape)
        case range():
            return type(value) is int and value in shape
        case None:
            return value is None
    return isinstance(value, shape)


def _has(value: dict[str, Any], name: str, shape: Any) -> bool:
    plain = name.removesuffix("?")
    return _fits(value[plain], shape) if plain in value else plain != name

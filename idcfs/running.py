"""A mount that another process serves: where it is, and what it says of itself in its hidden ``/.status.json``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from . import mounts
from .errors import IdcfsError, UsageError

_STATUS_NAME = ".status.json"


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

    :raises IdcfsError: if it does not answer.
    """
    try:
        return mounts.ask(mountpoint, partial(_status_of, mountpoint))
    except PermissionError:
        raise IdcfsError(f"the idcfs at {mountpoint} belongs to another user") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise IdcfsError(
            f"the idcfs at {mountpoint} does not answer ({reason}): 'idcfs umount --lazy {mountpoint}' detaches it"
        ) from None


def _status_of(mountpoint: Path) -> dict[str, Any]:
    report = json.loads((mountpoint / _STATUS_NAME).read_bytes())
    assert isinstance(report, dict)
    return report

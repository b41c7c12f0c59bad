"""The command ``idcfs umount``: off, and ended."""

from __future__ import annotations

import os
import select
from pathlib import Path

import click

from .. import mounts
from ..console import say
from ..errors import IdcfsError, UsageError
from ..running import idcfs_at, read_status
from .completing import Mountpoint

_EXIT_SECONDS = 60.0
"""How long the mount's process may take to end: it has up to 144 MiB to write first."""


@click.command(short_help="Unmount, and wait until it has ended.")
@click.argument("mountpoint", type=Mountpoint(path_type=Path))
@click.option("-z", "--lazy", is_flag=True, help="Detach now, even while files are in use or nobody answers.")
def umount(mountpoint: Path, lazy: bool) -> None:
    """Unmount the idcfs at MOUNTPOINT and wait until its process has ended."""
    mountpoint = idcfs_at(mountpoint)
    if lazy or mounts.is_stale(mountpoint):  # asks nothing of a process that may not answer
        mounts.unmount(mountpoint, lazy=True)
        return
    try:
        process = os.pidfd_open(read_status(mountpoint)["pid"])
    except (UsageError, ProcessLookupError):  # what it says of itself cannot be used
        mounts.unmount(mountpoint)
        say(f"{mountpoint} is unmounted; which process served it is not known, so that it may still be ending")
        return
    try:
        _take_off(mountpoint, process)
    finally:
        os.close(process)


def _take_off(mountpoint: Path, process: int) -> None:
    """:param process: a descriptor of the one that serves the mount, until whose end this waits."""
    taken_off = mounts.mount_at(mountpoint)
    mounts.unmount(mountpoint)
    elsewhere = [one.path for one in mounts.mounts() if taken_off is not None and one.device == taken_off.device]
    if elsewhere:  # its process goes on
        say(f"{mountpoint} is unmounted; the same mount is still at {elsewhere[0]}")
        return
    ended, _, _ = select.select([process], [], [], _EXIT_SECONDS)
    if not ended:
        raise IdcfsError(
            f"{mountpoint} is unmounted, but its process has not ended within {_EXIT_SECONDS:g} s: "
            "it may still be writing to a slow disk, or the mount is held by another mount namespace, as a container's"
        )

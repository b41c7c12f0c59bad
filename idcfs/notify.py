"""What a service manager is told: that the mount answers, asks every server again, or ends (sd_notify(3)).

The protocol is a datagram of lines to the socket that ``NOTIFY_SOCKET`` names, which systemd promises to keep as it is.
That is less code than a library for it would need to be called: ``sdnotify`` has had no release since 2017, and
``systemd-python`` needs systemd's C headers. Without that variable nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .printable import printable

VARIABLE = "NOTIFY_SOCKET"

log = logging.getLogger(__name__)


def ready(mountpoint: Path, pid: int | None = None) -> None:
    """The mount answers; ``pid`` is its process, where that is another than this one, which ends now."""
    main = [] if pid is None else [f"MAINPID={pid}"]
    _tell("READY=1", f"STATUS=mounted at {printable(str(mountpoint))}", *main)


@contextmanager
def reloading(mountpoint: Path) -> Iterator[None]:
    """Within, servers are asked again, and credentials looked for."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000  # by which systemd tells one reload from the next
    _tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=asking every server again")
    try:
        yield
    finally:
        ready(mountpoint)


def stopping() -> None:
    """It is unmounted; what came last is still being written to disk."""
    _tell("STOPPING=1", "STATUS=unmounted, writing what came last to disk")


def _tell(*lines: str) -> None:
    address = os.environ.get(VARIABLE)
    if not address:
        return
    if address.startswith("@"):  # of Linux' abstract names
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # a manager that does not read its socket holds up no mount
            sender.sendto("\n".join(lines).encode(errors="replace"), address)
    except (OSError, ValueError) as error:  # nobody there; or a name that is none, or too long
        log.warning("the service manager cannot be told: %s", error)

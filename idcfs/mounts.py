"""The machine's mounts: what is mounted, what is left of a dead daemon, and the knobs a mount gets afterwards.

Facts about Linux, without pyfuse3: the commands use this too, to find a mount that another process serves.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import BinaryIO, TypeVar

from . import trust
from .errors import IdcfsError, UsageError
from .settings import BLOCK_BYTES, KIB

T = TypeVar("T")

FILESYSTEM_TYPE = "fuse.idcfs"
FUSE_DEVICE = Path("/dev/fuse")
NO_FUSERMOUNT = "fusermount3 is missing: install the package fuse3"
ANSWER_SECONDS = 5.0
"""How long a mount may take to answer what it knows without its archive."""

_CONTROLS = Path("/sys/fs/fuse/connections")
_MAX_BACKGROUND = 256
_CONGESTION_THRESHOLD = 192
"""At the kernel's default of 12, a fast file behind 32 slow ones waits 9.5 s; at 256, 0.02 s (docs/measured.md)."""
_READ_AHEAD_KIB = BLOCK_BYTES // KIB
"""One cache block. A ``dd`` of 32 MB at 20 ms a read takes 2.8 s at 128, the default, and 0.4 s at 1024 (measured)."""

_BUSY_SECONDS = 1.0
"""Who only looks at what a mount says of itself, as ``idcfs status --watch`` does, is gone again before that."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    path: Path
    device: str
    """major:minor"""
    filesystem_type: str
    owner: int | None = None
    """Who has mounted it; of filesystems of FUSE it is known."""


def mounts() -> list[Mount]:
    """Every mount of this process' namespace, oldest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):  # a path may hold any other line separator
        fields, dash, rest = line.partition(b" - ")
        if dash:
            device, path = fields.split(b" ")[2], fields.split(b" ")[4]
            kind, _, options = rest.split(b" ")[:3]
            owner = re.search(rb"(?:^|,)user_id=(\d+)", options)
            found.append(
                Mount(
                    Path(os.fsdecode(_plain(path))),
                    device.decode(),
                    os.fsdecode(kind),
                    int(owner[1]) if owner else None,
                )
            )
    return found


def mount_at(path: Path) -> Mount | None:
    """The topmost mount at exactly ``path``."""
    at_path = [mount for mount in mounts() if mount.path == path]
    return at_path[-1] if at_path else None


def idcfs_mounts() -> list[Path]:
    """Mountpoints of every idcfs."""
    return [mount.path for mount in mounts() if mount.filesystem_type == FILESYSTEM_TYPE]


def own_idcfs_mounts() -> list[Path]:
    """Mountpoints of every idcfs that this user has mounted."""
    return [one.path for one in mounts() if one.filesystem_type == FILESYSTEM_TYPE and one.owner == os.geteuid()]


def topmost() -> dict[Path, Mount]:
    """Every mount that can be seen, by its mountpoint."""
    return {mount.path: mount for mount in mounts()}  # of those at one place the last, which is on top


def idcfs_around(path: Path, mounted: dict[Path, Mount]) -> Mount:
    """Which of ``mounted``, an idcfs, ``path`` lies in, which has no links.

    :raises ValueError: if it lies in no idcfs.
    """
    mount = next((mounted[place] for place in (path, *path.parents) if place in mounted), None)
    if mount is None or mount.filesystem_type != FILESYSTEM_TYPE:
        raise ValueError("not in an idcfs mount")
    return mount


def idcfs_above(path: Path) -> Path | None:
    """Mountpoint of the idcfs that ``path``, which has no links, lies in, if in any."""
    try:
        return idcfs_around(path, topmost()).path
    except ValueError:
        return None


def expanded(path: Path) -> Path:
    """``path`` from the root on, without ``~``.

    :raises UsageError: for the home of an unknown user, and where the current directory has been removed.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise UsageError(f"{path}: the current directory does not exist any more") from None


def nearest(path: Path) -> Path:
    """``path``, from the root on, or the first directory above it that exists."""
    return next(place for place in (path, *path.parents) if os.path.exists(place))


def absolute(path: Path) -> Path:
    """``path`` as the kernel lists it in its mount table: without links, dots or ``~``.

    :raises UsageError: as ``expanded`` does.
    """
    path = expanded(path)
    listed = Path(os.path.realpath(path.parent), path.name)
    if path.name != ".." and mount_at(listed) is not None:
        return listed  # not asked whether it is a link: what is mounted there may not answer
    return Path(os.path.realpath(path))


def in_thread(work: Callable[[], T]) -> Future[T]:
    """What ``work`` comes to, in a thread, which the kernel may hold: who waits hears signals, and may stop waiting."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return result


def ask(path: Path, question: Callable[[], T]) -> T:
    """What ``question`` finds out from the idcfs at ``path``.

    Who is asked may stand still, which would hold up for ever whoever asks.

    :raises IdcfsError: if there is no answer.
    """
    answer = in_thread(question)
    wait([answer], ANSWER_SECONDS)
    if not answer.done():
        raise IdcfsError(f"the idcfs at {path} does not answer: 'idcfs umount --lazy {path}' detaches it")
    return answer.result()


def is_stale(path: Path) -> bool:
    """Whether a mount at ``path`` has lost its daemon; by statvfs, since stat may be answered from a cache.

    :raises IdcfsError: if there is no answer.
    """
    try:
        ask(path, lambda: os.statvfs(path))
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def refusal_of_fuse(device: Path = FUSE_DEVICE) -> tuple[str, str] | None:
    """Why this user cannot speak FUSE to the kernel, and what to do; None if that is possible."""
    container = f"start the container with --device {FUSE_DEVICE}"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{device} is missing", f"load the kernel's module with 'modprobe fuse', or {container}"
    except PermissionError:
        if os.geteuid() == 0:  # a container's device rules, whatever the mode
            return f"{device} may not be opened", container
        return f"{device} may not be opened by you", f"as root: chmod 666 {device}"
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}", "load the module with 'modprobe fuse'"
    return None


@contextmanager
def reserved(file: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock ``file``, so that mounts at one place are made one after the other; yields what lets go early.

    A forked process holds it as well: it is free once both have let go. What fails within leaves no file behind.

    :raises UsageError: if others may have put something in its place.
    """
    with ExitStack() as held:
        lock: BinaryIO | None = None
        try:
            trust.make_directory(file.parent)
            trust.check_directory(file.parent, "state directory")
            lock = held.enter_context(_locked(file))
        except OSError as error:  # a mount in the foreground needs no state directory
            log.info("mounting without the lock %s: %s", file, error.strerror)
        try:
            yield held.close
        except Exception:  # not Ctrl-C: the forked process may still be about to end
            if lock is not None and not lock.closed:
                with suppress(OSError):
                    file.unlink()
            raise


def _locked(file: Path) -> BinaryIO:
    """``file``, open and locked; not one that whoever held it before has removed."""
    while True:
        lock = file.open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            lock.close()
            raise
        lock.close()


def prepare(path: Path, *, may_hide_files: bool) -> bool:
    """See that ``path`` can be mounted on: made if missing, cleaned of a dead idcfs, and an empty directory.

    :returns: whether it was made.
    :raises UsageError: if it cannot be mounted on.
    """
    mount = mount_at(path)
    if mount is not None and is_stale(path):
        if mount.filesystem_type != FILESYSTEM_TYPE:
            raise UsageError(f"{path} is a dead mount of type {mount.filesystem_type}: unmount it first")
        log.info("cleaning up a dead idcfs at %s", path)
        unmount(path, lazy=True)
    elif mount is not None and mount.filesystem_type == FILESYSTEM_TYPE:
        raise UsageError(f"idcfs is mounted at {path} already: 'idcfs umount {path}' first, or choose another place")
    if (refusal := refusal_of_fuse()) is not None:
        raise UsageError("; ".join(refusal))
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise UsageError(NO_FUSERMOUNT)
    try:
        missing = not path.exists()
        if missing:
            path.mkdir()
        empty = not any(path.iterdir())
    except OSError as error:
        raise UsageError(f"cannot mount at {path}: {error.strerror}") from None
    if not empty and not may_hide_files:
        raise UsageError(f"{path} is not empty: choose another place, or hide its files with -o nonempty")
    return missing


def unmount(path: Path, *, lazy: bool = False) -> None:
    """Unmount the FUSE mount at ``path``; ``lazy`` detaches it even while in use.

    :raises IdcfsError: if that fails, with what fusermount3 says.
    """
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), str(path)]
    end = time.monotonic() + _BUSY_SECONDS
    while said := _refusal_of(command, path):
        if "busy" not in said:
            raise IdcfsError(f"cannot unmount {path}: {said}")
        if time.monotonic() > end:
            said = "it is busy: leave it and close its files, or detach it now with 'idcfs umount --lazy'"
            raise IdcfsError(f"cannot unmount {path}: {said}")
        time.sleep(_BUSY_SECONDS / 20)


def _refusal_of(command: list[str], path: Path) -> str:
    """Why fusermount3 does not unmount; empty if it does."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        raise UsageError(NO_FUSERMOUNT) from None
    except subprocess.TimeoutExpired:
        raise IdcfsError(f"cannot unmount {path}: fusermount3 does not come back; try 'idcfs umount --lazy'") from None
    said = done.stderr.strip().removeprefix("fusermount3: ")
    return "" if done.returncode == 0 else said or f"fusermount3 ended with {done.returncode}"


def tune(path: Path) -> None:
    """Raise the kernel's limits for the mount at ``path``; where that is not allowed, say so once and go on."""
    mount = mount_at(path)
    if mount is None:
        return
    _mount_controls()
    connection = _CONTROLS / mount.device.partition(":")[2]
    wanted = {
        connection / "max_background": _MAX_BACKGROUND,
        connection / "congestion_threshold": _CONGESTION_THRESHOLD,
        Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb"): _READ_AHEAD_KIB,
    }
    refused = []
    for file, value in wanted.items():
        try:
            file.write_text(str(value))
        except OSError as error:
            refused.append(f"{file.name} ({error.strerror})")
    if refused:
        log.info("the kernel's defaults stay, reading in parallel may be slower: %s", ", ".join(refused))


def _mount_controls() -> None:
    """Mount the kernel's fuse control filesystem where it belongs, as systemd does; containers often lack it."""
    if os.geteuid() == 0 and _CONTROLS.is_dir() and not any(_CONTROLS.iterdir()):
        subprocess.run(["mount", "-t", "fusectl", "fusectl", str(_CONTROLS)], capture_output=True, check=False)


def _plain(field: bytes) -> bytes:
    """A path of mountinfo without its octal escapes."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)

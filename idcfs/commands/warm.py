"""The command ``idcfs warm``: what is asked for, a bar while it comes, a summary."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import click

from .. import options
from ..console import INTERRUPTED, STDIN, Bar, fail, say, with_stdin
from ..errors import UsageError, meaning_of
from ..mounts import Mount, in_thread
from ..running import read_status
from . import warming
from .completing import complete_path
from .warming import Warming

_POLL_SECONDS = 0.1
"""How often the bar moves, and how long a signal may wait."""


@click.command(short_help="Fetch directories or files ahead, onto the disk.")
@click.argument("paths", nargs=-1, metavar="[PATH]…", shell_complete=complete_path)
@click.option(
    "--jobs",
    default=warming.JOBS,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, options.MAX_DOWNLOADS),
    help="Files read at once.",
)
def warm(paths: tuple[str, ...], jobs: int) -> None:
    """Fetch every file under PATH… into the disk cache of the mount it lies in.

    PATH is any directory or file of a mounted idcfs. Instead of PATH, or where PATH is -, paths are taken from stdin,
    one a line. What is cached already costs no request, so what was stopped can be run again. Unless it was stopped or
    gave up, all that it fetched is on disk when it ends.
    """
    found = in_thread(partial(warming.find, _given(paths))).result()
    if found.refused:
        for line in found.refused:
            say(line)
        sys.exit(2)
    unkept, logs = _unkept(found.mounts), _logs(found.mounts)
    is_offline = any(read_status(mount.path).get("offline") for mount in found.mounts)
    if (room := _room(found.mounts)) == 0:
        raise UsageError("nothing is kept on disk: mount without --cache-size 0, or see the log for what is wrong")
    work = Warming(found.paths, jobs, room, found.still_mounted, found.sync)
    started = time.monotonic()
    with _told_by_signals(work.stop), found.bulk():
        _follow(work)
    seconds = time.monotonic() - started
    files = f"{work.files:,} file{'' if work.files == 1 else 's'}"
    click.echo(f"warmed {files}, {work.bytes:,} bytes in {seconds:.1f} s; {work.failed:,} failed")
    _explain(work.errnos, logs)
    if work.stopped:
        fail("stopped: run it again to go on", INTERRUPTED)
    if work.gave_up:
        hint = "an offline mount has only what is kept" if is_offline else "run it again to go on"
        fail(f"gave up: {work.gave_up}; {hint}", 1)
    if work.is_full:
        fail(f"stopped: the disk cache has room for {room:,} bytes only: mount with a larger --cache-size", 1)
    if work.disk_bytes > (room := _room(found.mounts)) or _unkept(found.mounts) > unkept:
        fail(f"the disk cache, with room for {room:,} bytes, does not hold all of it: see --cache-size and the log", 1)
    if work.failed:
        sys.exit(1)


def _given(paths: tuple[str, ...]) -> list[str]:
    """The paths of the command line, and those on stdin where it says so."""
    if not paths and os.isatty(0):
        raise UsageError("give a PATH in a mounted idcfs, or a list of paths on stdin")
    given = with_stdin(paths or (STDIN,))
    if not given:
        raise UsageError("there is no path on stdin")
    return given


def _room(found: set[Mount]) -> int:
    """Bytes that the disk caches of these mounts may take; mounts may share one."""
    reports = [read_status(mount.path) for mount in found]
    return sum({report["cache_dir"]: report["counters"]["disk_cache_capacity"] for report in reports}.values())


def _unkept(found: set[Mount]) -> int:
    """Blocks that these mounts have had and could not keep on disk."""
    return sum(read_status(mount.path)["counters"]["disk_unkept"] for mount in found)


def _logs(found: set[Mount]) -> list[str]:
    """Where these mounts write their logs. Not of one that logs to stderr, or is offline: it has nothing to tell."""
    reports = [read_status(mount.path) for mount in found]
    return sorted({log for one in reports if (log := one.get("log_file")) and not one.get("offline")})


def _explain(errnos: set[int], logs: list[str]) -> None:
    """What the failures mean, each kind once, and where to read on."""
    for number in sorted(errnos):
        if meaning := meaning_of(number):
            say(f"{os.strerror(number)}: {meaning}")
    if errnos and logs:
        say(f"the log says more: {', '.join(logs)}")


def _follow(work: Warming) -> None:
    """Run it, and show how it goes."""
    with Bar() as bar:
        work.start()
        while work.running():
            failure = work.failure(_POLL_SECONDS)
            if failure is not None:
                bar.say(f"{failure.path}: {failure.reason}")
            more = "+" if work.walking else ""
            bar.show(work.bytes, work.bytes_known, f"{work.files:,} of {work.files_known:,}{more} files")


@contextmanager
def _told_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call ``stop`` instead of breaking in anywhere; the second time they do break in."""
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]

    def told(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
        stop()

    before = [signal.signal(number, told) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

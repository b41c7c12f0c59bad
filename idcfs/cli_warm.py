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

from . import options, running, warming
from .console import INTERRUPTED, Bar, fail, say
from .errors import UsageError
from .mounts import Mount
from .warming import Warming

STDIN = "-"
_POLL_SECONDS = 0.1
"""How often the bar moves, and how long a signal may wait."""


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]…")
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
    one a line. What is cached already costs no request, so what was stopped can be run again. When it ends, all that it
    fetched is on disk.
    """
    found = warming.patiently(partial(warming.find, _given(paths)))
    if found.refused:
        for line in found.refused:
            say(line)
        sys.exit(2)
    for mount in found.mounts:
        _check_keeps(mount)
    unkept = _total("disk_unkept", found.mounts)
    work = Warming(found.paths, jobs, found.still_mounted, found.sync)
    started = time.monotonic()
    with _told_by_signals(work.stop):
        _follow(work)
    seconds = time.monotonic() - started
    files = f"{work.files:,} file{'' if work.files == 1 else 's'}"
    click.echo(f"warmed {files}, {work.bytes:,} bytes in {seconds:.1f} s; {work.failed:,} failed")
    if work.stopped:
        fail("stopped: run it again to go on", INTERRUPTED)
    if work.gave_up:
        fail(f"gave up: {work.gave_up}; run it again to go on", 1)
    room = _total("disk_cache_capacity", found.mounts)
    if work.bytes > room or _total("disk_unkept", found.mounts) > unkept:
        fail(f"the disk cache, with room for {room:,} bytes, does not hold all of it: see --cache-size and the log", 1)
    if work.failed:
        sys.exit(1)


def _given(paths: tuple[str, ...]) -> list[str]:
    """The paths of the command line, and those on stdin where it says so."""
    if not paths and os.isatty(0):
        raise UsageError("give a PATH in a mounted idcfs, or a list of paths on stdin")
    given: list[str] = []
    for path in paths or (STDIN,):
        given += _lines() if path == STDIN else [path]
    if not given:
        raise UsageError("there is no path on stdin")
    return given


def _lines() -> list[str]:
    with open(0, "rb", closefd=False) as stdin:
        return [os.fsdecode(line) for line in stdin.read().split(b"\n") if line]


def _check_keeps(mount: Mount) -> None:
    """:raises UsageError: if ``mount`` has no disk cache."""
    if running.read_status(mount.path)["cache_size_bytes"] == 0:
        raise UsageError(f"the idcfs at {mount.path} keeps nothing on disk: mount it without --cache-size 0")


def _total(counter: str, found: set[Mount]) -> int:
    """The sum of a counter of these mounts."""
    return sum(int(running.read_status(mount.path)["counters"][counter]) for mount in found)


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

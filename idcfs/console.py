"""What the commands say, and how: one clear line for what goes wrong, a bar where a terminal shows it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import click

from .errors import IdcfsError, UsageError
from .printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress

INTERRUPTED = 130
"""Exit code of what Ctrl-C or SIGTERM ended, as shells have it for the first: 128 + SIGINT."""
STDIN = "-"
"""Stands for what is written on stdin, one a line."""
_BAR_WIDTH = 30
"""Columns; the rest of a line of 80 is for numbers."""


class OneLine(click.Group):
    """Whatever goes wrong is one line on stderr and an exit code, not a usage text or a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        run = super().main
        in_one_line(lambda: run(*args, **{**extra, "standalone_mode": False}))


class Place(click.Path):
    """A path, but not the empty one: it would be the current directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)


class Bar:
    """Bytes done of those known, the rate and the time left; nothing at all where stderr is no terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = _progress() if os.isatty(2) else None

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
            self._progress.add_task("", total=None, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, done: int, total: int, note: str = "") -> None:
        """Move to ``done`` of ``total`` bytes, with ``note`` beside it."""
        if self._progress is not None:
            (task,) = self._progress.tasks
            task.total = total or None  # not by update, which would forget the rate each time that the total grows
            self._progress.update(task.id, completed=done, note=note)

    def say(self, message: str) -> None:
        """A line of its own, above the bar."""
        if self._progress is None:
            say(message)
        else:
            self._progress.console.print(f"idcfs: {printable(message)}", markup=False, highlight=False, soft_wrap=True)


def in_one_line(run: Callable[[], Any]) -> NoReturn:
    """Run ``run`` to the process' end: whatever goes wrong is one line on stderr and an exit code."""
    _open_standard_streams()
    try:
        with _interrupted_by_sigterm():
            sys.exit(run() or 0)
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        help_wanted.show()
        sys.exit(2)
    except click.ClickException as error:
        fail(" ".join(error.format_message().split()), error.exit_code)
    except IdcfsError as error:
        fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        fail("stopped", INTERRUPTED)


def with_stdin(given: tuple[str, ...]) -> list[str]:
    """What was given on the command line, with the lines of stdin in the place of each ``-``."""
    found: list[str] = []
    for word in given:
        found += _stdin_lines() if word == STDIN else [word]
    return found


def _stdin_lines() -> list[str]:
    with open(0, "rb", closefd=False) as stdin:
        lines = (line.removesuffix(b"\r") for line in stdin.read().split(b"\n"))
        return [os.fsdecode(line) for line in lines if line]


def say(message: str) -> None:
    """One line on stderr."""
    click.echo(f"idcfs: {printable(message)}", err=True)


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, and the end."""
    say(message)
    sys.exit(code)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what runs within as Ctrl-C does, unless it is ignored, or what runs handles it itself."""
    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is signal.default_int_handler:  # a mount that has ended ignores it
            signal.signal(signal.SIGTERM, before)


def _open_standard_streams() -> None:
    """Open ``/dev/null`` for those that are closed: else the next file opened would be taken for one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one


def _progress() -> Progress:
    from rich import progress  # here, not above: it takes as long to load as most commands take in all
    from rich.console import Console

    return progress.Progress(
        progress.BarColumn(bar_width=_BAR_WIDTH),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,  # the summary says what is left to say
    )

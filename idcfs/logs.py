"""Where the log goes, and that it stays readable: a warning that comes a thousand times is written once a minute."""

from __future__ import annotations

import logging
import logging.handlers
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from . import trust
from .errors import UsageError
from .printable import printable
from .settings import KIB, MIB

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MOST_CHARACTERS = 8 * KIB
"""Of a line: more of what servers and files say is no help to anybody."""
FILE_BYTES = 5 * MIB
"""After which a log file is set aside; two such are kept."""
_CHATTY = ("httpx", "httpcore")
"""Libraries that log each request; shown at the level ``debug`` only."""
_INDISCREET = ("google", "requests", "urllib3", "httpcore")
"""Libraries that log, or may, what they send and get."""

WINDOW_SECONDS = 60
MAX_FOLLOWED = 1000
"""Warnings that are counted at a time: each of a series' files may bring one of its own."""


def start(file: Path | None, level: str) -> None:
    """Log into ``file``, else to stderr, what is at least of ``level``.

    :raises UsageError: if the file cannot be written.
    """
    handler = _handler(file)
    handler.addFilter(OncePerMinute(handler))
    handler.setFormatter(_Plain(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level != "debug":
        _quieten(_CHATTY, logging.WARNING)


def keep_secrets() -> None:
    """Let no library log what it sends and gets, at whatever level ours is: with a login, tokens are in it."""
    _quieten(_INDISCREET, logging.ERROR)


def _quieten(libraries: Iterable[str], level: int) -> None:
    for name in libraries:
        logging.getLogger(name).setLevel(level)


def _handler(file: Path | None) -> logging.Handler:
    if file is None:
        return _Stream()
    try:
        trust.make_directory(file.parent)
        trust.check_directory(file.parent, "state directory")
        with file.open("ab") if file.exists() else tempfile.TemporaryFile(dir=file.parent):
            pass  # it can be
    except OSError as error:
        raise UsageError(f"the log file {file} cannot be written: {error.strerror}") from None
    # Not made before there is something to write: a mount that fails at once would leave it empty.
    return _File(file, maxBytes=FILE_BYTES, backupCount=2, encoding="utf-8", errors="backslashreplace", delay=True)


class _Plain(logging.Formatter):
    """Makes one line of each message, whatever servers, files and names have put into it, and plain text of all."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = printable(super().formatMessage(record))
        return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"

    def formatException(self, exc_info: Any) -> str:
        return "\n".join(map(printable, super().formatException(exc_info).split("\n")))


class _Closing(logging.Handler):
    """Writes, before it is closed, what its filters hold back: Python closes handlers when the process ends."""

    def close(self) -> None:
        for one in self.filters:
            if isinstance(one, OncePerMinute):
                one.tell_rest()
        super().close()


class _Stream(_Closing, logging.StreamHandler[TextIO]):
    """Writes to what stderr is now: whoever has it lead elsewhere for a while wants what others print, not the log."""

    def __init__(self) -> None:
        super().__init__(open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115

    def close(self) -> None:
        super().close()
        self.stream.close()


class _File(_Closing, logging.handlers.RotatingFileHandler):
    """To a file, which is set aside when it is large; it may hold patients' names, so nobody else may read it."""

    def _open(self) -> TextIOWrapper:
        opener = partial(os.open, mode=0o600)
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=opener)


@dataclass(slots=True)
class _Window:
    end: float
    held_back: int = 0
    last: logging.LogRecord | None = None


class OncePerMinute(logging.Filter):
    """Lets the same warning through once a minute; when that is over, and anything is logged, how often it came.

    What is left when the handler is closed is told then.

    The same: of one logger and level, in the same words, or of the same ``kind`` where its ``extra`` names one: then at
    any level, and whatever the words. What comes with a traceback is never held back.
    """

    def __init__(self, handler: logging.Handler, now: Callable[[], float] = time.monotonic) -> None:
        """
        :param handler: the one it filters for, which writes the summaries too.
        """
        super().__init__()
        self._handler = handler
        self._now = now
        self._windows: OrderedDict[tuple[str, int, str], _Window] = OrderedDict()  # those that end first are first
        self._lock = Lock()  # threads log too, and filter before they wait for their turn to write

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write ``record``; summaries that are due are written first."""
        now = self._now()
        with self._lock:
            due = self._take_due(now)
            is_counted = record.levelno >= logging.WARNING or _kind(record) is not None
            passes = not is_counted or bool(record.exc_info) or self._is_first(record, now)
        self._tell(due)
        return passes

    def tell_rest(self) -> None:
        """Write how often each warning came that is held back now."""
        with self._lock:
            held_back = list(self._windows.values())
            self._windows.clear()
        self._tell(held_back)

    def _tell(self, windows: Iterable[_Window]) -> None:
        for window in windows:
            if window.last is not None:
                self._write(_summary(window.last, window.held_back))

    def _write(self, record: logging.LogRecord) -> None:
        """As ``Handler.handle`` does, but past this filter."""
        self._handler.acquire()
        try:
            self._handler.emit(record)
        finally:
            self._handler.release()

    def _take_due(self, now: float) -> list[_Window]:
        """The windows that are over, and the oldest of too many."""
        due: list[_Window] = []
        while self._windows:
            first = next(iter(self._windows.values()))
            if first.end > now and len(self._windows) <= MAX_FOLLOWED:
                break
            due.append(self._windows.popitem(last=False)[1])
        return due

    def _is_first(self, record: logging.LogRecord, now: float) -> bool:
        try:
            key = (record.name, record.levelno, _kind(record) or record.getMessage())
        except Exception:  # its words and arguments do not fit: the handler says so, and harms nobody
            return True
        window = self._windows.get(key)
        if window is None:
            self._windows[key] = _Window(now + WINDOW_SECONDS)
            return True
        window.held_back += 1
        window.last = record
        return False


def _kind(record: logging.LogRecord) -> str | None:
    """What it is one of many of, by its ``extra``."""
    return getattr(record, "kind", None)


def _summary(last: logging.LogRecord, held_back: int) -> logging.LogRecord:
    """What is written for ``last`` and those before it, at the time of the last."""
    record = copy(last)
    if _kind(last) is not None:
        times = f"the last of {held_back:,} more of its kind"
    else:
        times = "once more" if held_back == 1 else f"{held_back:,} more times"
    record.msg = f"{last.getMessage()} ({times} in the last {WINDOW_SECONDS} s)"
    record.args = None
    return record

"""Calls of a reader: each is marked while it lasts, and what goes wrong is written down with its time, to be judged."""

from __future__ import annotations

import errno
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.soak.marks import Marks
from scripts.soak.truth import File

BYTES, SHORT, SIZE, NAMES, STATUS = "wrong bytes", "short read", "wrong size", "wrong names", "wrong status"
"""What may be wrong with an answer that is no error."""
NO_STAT = "stat of what is listed fails"
"""Whatever the archive does."""
_TALLY_SECONDS = 1.0


class CallFailed(Exception):
    """A call failed, which is written down: whatever needed it is over."""


class Calls:
    """Those of one reader."""

    def __init__(self, marks: Marks, place: int, log: Path) -> None:
        self._marks = marks
        self._place = place
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._told = time.monotonic()
        self.done: Counter[str] = Counter()
        """How often each thing was done."""
        self.bytes_compared = 0
        self._longest = (0.0, "")

    @contextmanager
    def call(self, name: str, mount: str, path: str, opened: float = 0.0) -> Iterator[None]:
        """Make one call within.

        :param opened: when the file was opened that it is about.
        :raises CallFailed: if it fails.
        """
        since = time.monotonic()
        self._marks.begin(self._place, since, opened or since, mount, f"{name} {path}")
        try:
            yield
        except OSError as error:
            kind = errno.errorcode.get(error.errno or 0, str(error))
            self.note(kind, mount, f"{name} {path}", opened or since, since)
            raise CallFailed from None
        finally:
            seconds = time.monotonic() - since
            if seconds > self._longest[0]:
                self._longest = seconds, f"{name} {path}"
            self._marks.end(self._place)

    def note(self, kind: str, mount: str, what: str, opened: float, since: float = 0.0) -> None:
        """Write down that something went wrong.

        :param opened: since when that may have been prepared, by the monotonic clock, in s.
        :param since: when the call began.
        """
        now = time.monotonic()
        seconds = round(now - since, 3) if since else 0.0
        times = {"since": opened, "until": now, "seconds": seconds}
        self._write({"kind": kind, "mount": mount, "what": what} | times)

    def compare(self, mount: str, file: File, opened: float, offset: int, length: int, data: bytes) -> None:
        """See that ``data`` is what a read of so many bytes has to give."""
        expected = file.bytes(offset, offset + length)
        self.bytes_compared += len(data)
        if data == expected:
            return
        kind = SHORT if expected.startswith(data) else BYTES
        differs = next((i for i, pair in enumerate(zip(data, expected, strict=False)) if pair[0] != pair[1]), len(data))
        where = (
            f"{file.path} [{offset}, +{length}): {len(data)} for {len(expected)} bytes, other from {offset + differs}"
        )
        self.note(kind, mount, where, opened)

    def rest(self) -> None:
        """Say that there is nothing to do."""
        self._marks.end(self._place, resting=True)
        self.tell()

    def tell_now_and_then(self) -> None:
        """Write down what was done; a reader that is killed has not told of its last second."""
        if time.monotonic() - self._told > _TALLY_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Write down what was done so far."""
        self._told = time.monotonic()
        self._write({"tally": self.done, "bytes": self.bytes_compared, "longest": self._longest})

    def _write(self, event: dict[str, Any]) -> None:
        os.write(self._log, json.dumps(event).encode() + b"\n")

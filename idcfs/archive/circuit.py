"""Whether an archive is worth asking: while it is away, calls fail at once instead of one after the other, each late.

Closed, it lets everybody ask. It opens when the quota is spent, when no connection can be made, or when several calls
in a row end without an answer that is about them. Open, it lets one call through after each pause, which finds out;
any answer closes it, failing makes the next pause twice as long. So clocks that are wrong, quotas that are raised and
archives that come back are noticed.

One broken instance must not open it: calls for the same path count once, and any answer in between starts anew. Nor
must many that are known to be more than it can send.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from math import inf

import trio

from ..errors import (
    AccessDenied,
    DeadlinePassed,
    Gone,
    IdcfsError,
    NoConnection,
    QuotaSpent,
    Refused,
    Unreachable,
)
from ..stats import Detail, Stats

FAILURES_IN_A_ROW = 5
"""For so many different paths; a study has about as many instances that are too large for IDC's proxy."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_QUOTA_PAUSE_SECONDS = 900.0
RENEWAL_SECONDS = 5.0
"""After the moment at which a quota is renewed: clocks differ."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    probes: bool
    """It was let through to find out."""
    answers: int
    """How many there had been when it began."""


class Circuit:
    """One per archive."""

    def __init__(self, title: str, stats: Stats, now: Callable[[], datetime], *, has_stand_in: bool = False) -> None:
        """
        :param title: what people call the archive.
        :param now: the time of day, with its zone.
        :param has_stand_in: the buckets are asked while it is open; else calls fail.
        """
        self._title = title
        self._stats = stats
        self._now = now
        self._meanwhile = "the buckets are read" if has_stand_in else "calls fail at once"
        self._failed: set[str] = set()  # paths, since the last answer
        self._answers = 0
        self._error: IdcfsError | None = None  # while it is open, why
        self._pause_seconds = 0.0
        self._asked_again = 0.0
        self._probe: _Call | None = None
        stats.gauge("circuits_open", lambda: int(self.is_open))
        stats.detail("circuits", lambda: [self._described()])

    @property
    def is_open(self) -> bool:
        """Whether no answer has come since it was found that there is nobody to ask."""
        return self._error is not None

    @property
    def is_sound(self) -> bool:
        """Whether the archive has answered whatever was asked last: then another try is likely to help."""
        return not self._failed

    @property
    def away(self) -> IdcfsError | None:
        """Why it is not worth asking now; None: ask."""
        return self._refusal() if self._probe or trio.current_time() < self._asked_again else None

    def _refusal(self) -> IdcfsError | None:
        if self._error is None:
            return None
        error = copy(self._error)
        error.args = (f"{self._title} is not asked at present: {error}",)
        return error

    def reset(self) -> None:
        """Ask again at once: somebody knows that something has changed. What is under way now says no more."""
        self._answers += 1
        self._failed.clear()
        self._probe = None
        self._error = None

    def _described(self) -> Detail:
        """For the status: whether it is open, why, and until when (seconds since the epoch) nobody is let through."""
        until = self._now().timestamp() + max(0.0, self._asked_again - trio.current_time())
        return {
            "archive": self._title,
            "open": self.is_open,
            "quota": isinstance(self._error, QuotaSpent),
            "why": str(self._error) if self._error else None,
            "until": round(until) if self.is_open else None,
        }

    @contextmanager
    def asking(self, path: str, *, is_telling: bool = True) -> Iterator[None]:
        """Ask within, with as many tries as it takes: what is raised at the end tells how the archive is.

        :param is_telling: else a server fault says nothing of the archive: what is wanted is more than it can send.
        :raises IdcfsError: without asking, if that is not worth while.
        """
        if (away := self.away if is_telling else self._refusal()) is not None:
            self._stats.count("fast_failures")
            raise away
        call = _Call(self.is_open, self._answers)
        if call.probes:
            self._probe = call
        try:
            yield
            self._note_answer(call)
        except IdcfsError as error:
            if is_telling or not isinstance(error, Unreachable) or isinstance(error, NoConnection):
                self._note(error, path, call)
            raise
        finally:
            if self._probe is call:
                self._probe = None

    def _note(self, error: IdcfsError, path: str, call: _Call) -> None:
        match error:
            case QuotaSpent() | Unreachable() | DeadlinePassed():
                self._note_failure(error, path, call)
            case AccessDenied() | Gone() | Refused():
                self._note_answer(call)

    def _note_answer(self, call: _Call) -> None:
        if self.is_open and self._probe is not call:
            return  # it was asked before there was nobody to ask
        self._answers += 1
        self._failed.clear()
        if self.is_open:
            self._error = None
            log.info("%s answers again", self._title)

    def _note_failure(self, error: IdcfsError, path: str, call: _Call) -> None:
        if self.is_open and self._probe is not call:
            error.reported = True  # one of many that were under way
            return
        self._failed.add(path)
        if self._probe is call or self._says_enough(error, call):
            self._failed = {path}
            self._open(error)

    def _says_enough(self, error: IdcfsError, call: _Call) -> bool:
        """Whether to expect the same of all other calls."""
        if isinstance(error, NoConnection):
            return self._answers == call.answers  # else others have been answered meanwhile
        return isinstance(error, QuotaSpent) or len(self._failed) >= FAILURES_IN_A_ROW

    def _open(self, error: IdcfsError) -> None:
        """Say it once, not for each of a thousand reads that notice."""
        if self._error is None:
            log.warning("%s; until it answers, %s, and one request now and then finds out", error, self._meanwhile)
            self._pause_seconds = FIRST_PAUSE_SECONDS
        else:
            longest = LONGEST_QUOTA_PAUSE_SECONDS if isinstance(error, QuotaSpent) else LONGEST_PAUSE_SECONDS
            self._pause_seconds = min(2 * self._pause_seconds, longest)
        error.reported = True
        self._error = copy(error)  # without its traceback, whose frames would stay in memory
        self._asked_again = trio.current_time() + min(self._pause_seconds, self._seconds_to_renewal(error))

    def _seconds_to_renewal(self, error: IdcfsError) -> float:
        if not isinstance(error, QuotaSpent) or error.until is None:
            return inf
        return max(0.0, (error.until - self._now()).total_seconds()) + RENEWAL_SECONDS

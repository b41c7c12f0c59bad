"""The readers: as many processes as are wanted, killed at random and replaced, and watched: none hangs unseen."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from scripts.soak.judging import DEATH, Event
from scripts.soak.marks import END, Marks
from scripts.soak.reading import EVENTS, MARKS
from scripts.soak.schedule import TIMEOUT_SECONDS, seconds_between_kills
from scripts.soak.stage import STAYS, wait_until

HANG_SECONDS = 2.5 * TIMEOUT_SECONDS
"""A call of a program may be several of the kernel's: one that comes at the last moment, and one in vain; no more."""
REST_SECONDS = 4 * TIMEOUT_SECONDS
"""In which all readers have done what they were at, which is several calls."""
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class _Place:
    """One of the crowd: who has it now."""

    process: subprocess.Popen[bytes]
    number: int
    """How many have had it before."""
    is_killed: bool = False
    is_told: bool = False
    """That it hangs."""


@dataclass(slots=True)
class Crowd:
    """The readers of one soak, and who watches ``stat``."""

    directory: Path
    seed: int
    number: int
    is_short: bool
    marks: Marks = field(init=False)
    events: list[Event] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    started: int = 0
    killed: int = 0
    _places: list[_Place] = field(default_factory=list)
    _choice: random.Random = field(init=False)
    _next_kill: float = 0.0

    def __post_init__(self) -> None:
        self.marks = Marks(self.directory / MARKS, self.number + 1)
        self._choice = random.Random(f"{self.seed}/crowd")
        (self.directory / EVENTS).mkdir()

    def start(self) -> None:
        for place in range(self.number):
            self._places.append(_Place(self._start("reading", place, "0"), 0))
        self._places.append(_Place(self._start("watching", self.number, STAYS), 0))
        self._next_kill = time.monotonic() + 1.0

    def tend(self) -> None:
        """Replace who has ended, kill somebody if it is time, notice who hangs."""
        self._replace_the_dead()
        self._notice_hangs()
        if time.monotonic() >= self._next_kill:
            self._kill_one()

    @property
    def is_resting(self) -> bool:
        """Whether all readers do nothing."""
        return all(self.marks.read(place).is_resting for place in range(self.number))

    @property
    def hangs(self) -> bool:
        """Whether one is known to hang."""
        return any(place.is_told for place in self._places)

    def end(self) -> None:
        """Have all end; who does not, hangs."""
        self.marks.word = END
        wait_until(lambda: all(place.process.poll() is not None for place in self._places), REST_SECONDS)
        self._notice_hangs(least=0.0)
        for place in self._places:
            if place.process.poll() is None:
                place.process.kill()

    def _start(self, module: str, *words: object) -> subprocess.Popen[bytes]:
        self.started += module == "reading"
        command = [sys.executable, "-m", f"scripts.soak.{module}", str(self.directory), *map(str, words)]
        # In a session of its own: Ctrl-C is for the soak.
        errors = (self.directory / "errors").open("ab")
        with errors:
            return subprocess.Popen(
                command, cwd=_CHECKOUT, stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )

    def _replace_the_dead(self) -> None:
        for number, place in enumerate(self._places):
            code = place.process.poll()
            if code is None:
                continue
            if not place.is_killed:
                self._note_death(number, code)
            if number == self.number:
                raise RuntimeError("who watches stat has ended")
            self.marks.end(number)
            later = place.number + 1
            self._places[number] = _Place(self._start("reading", number, later), later)

    def _note_death(self, number: int, code: int) -> None:
        mark = self.marks.read(number)
        if code == -signal.SIGBUS:
            self.events.append(Event(DEATH, mark.mount, mark.what, mark.opened, time.monotonic()))
        else:
            self.broken.append(f"reader {number} ended by itself, with exit code {code}: {self.errors()[-500:]}")

    def _kill_one(self) -> None:
        self._next_kill = time.monotonic() + seconds_between_kills(self._choice, is_short=self.is_short)
        place = self._places[self._choice.randrange(self.number)]
        if not place.is_killed and place.process.poll() is None:
            place.is_killed = True
            place.process.kill()
            self.killed += 1

    def _notice_hangs(self, least: float = HANG_SECONDS) -> None:
        for number, place in enumerate(self._places):
            mark = self.marks.read(number)
            seconds = time.monotonic() - mark.since
            if place.is_told or not mark.since or place.process.poll() is not None or seconds < least:
                continue
            place.is_told = True
            state = _state_of(place.process.pid)
            self.broken.append(f"hang: {mark.what} in mount {mark.mount} takes {seconds:.0f} s so far{state}")

    def errors(self) -> str:
        """What readers have said on stderr."""
        with contextlib.suppress(OSError):
            return (self.directory / "errors").read_text(errors="replace")
        return ""


def _state_of(pid: int) -> str:
    """Where in the kernel a process stands, where that may be known."""
    with contextlib.suppress(OSError):
        return f" ({Path(f'/proc/{pid}/wchan').read_text()})"
    return ""

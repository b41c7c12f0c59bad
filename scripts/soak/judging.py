"""What was wrong, and whether something permitted it at that time."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.soak.calls import BYTES, NAMES, NO_STAT, SHORT, SIZE, STATUS

DEATH = "SIGBUS"
"""How a mapped file says that a page cannot be had: whatever error a read would have got."""
_NEVER = frozenset({BYTES, SHORT, SIZE, NAMES, STATUS, NO_STAT})
_MOST_TOLD = 20
"""Of each kind."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that went wrong."""

    kind: str
    """Name of an errno, or one of ``calls``."""
    mount: str
    what: str
    since: float
    """By the monotonic clock, in s: when the call began, or the file was opened that it is about."""
    until: float
    seconds: float = 0.0
    """How long the call took."""


@dataclass(slots=True)
class Window:
    """A time in which something may go wrong."""

    name: str
    mounts: frozenset[str]
    permits: frozenset[str]
    since: float
    until: float = float("inf")

    def has(self, event: Event) -> bool:
        """Whether it lies in it, in part."""
        return event.mount in self.mounts and self.since <= event.until and event.since <= self.until

    def allows(self, event: Event) -> bool:
        kinds = self.permits if event.kind != DEATH else self.permits | {DEATH}
        return bool(self.permits) and event.kind not in _NEVER and event.kind in kinds


@dataclass(slots=True)
class Told:
    """What readers have written down."""

    events: list[Event] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    bytes_compared: int = 0
    longest: tuple[float, str] = (0.0, "")
    """Of all calls, in s, and which."""


def read_told(directory: Path) -> Told:
    """What the readers' files say; a line that a kill cut off says nothing."""
    told = Told()
    for path in sorted(directory.iterdir()):
        tally: dict[str, Any] = {}
        for line in _lines(path):
            if "tally" in line:
                tally = line
            else:
                told.events.append(Event(**line))
        told.done.update(tally.get("tally", {}))
        told.bytes_compared += tally.get("bytes", 0)
        told.longest = max(told.longest, tuple(tally.get("longest", (0.0, ""))))
    return told


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


@dataclass(slots=True)
class Verdict:
    """What was permitted, and what was not."""

    permitted: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """How many of each kind, by what permitted them."""
    broken: list[str] = field(default_factory=list)
    """A line each."""


def judge(events: Iterable[Event], windows: Iterable[Window], began: float) -> Verdict:
    """
    :param began: when the soak did, so that times can be told.
    """
    verdict = Verdict()
    events, windows = sorted(events, key=lambda event: event.until), list(windows)
    told: Counter[str] = Counter()
    for event in events:
        around = [window for window in windows if window.has(event)]
        permitting = next((window for window in around if window.allows(event)), None)
        if permitting is not None:
            verdict.permitted[permitting.name][event.kind] += 1
            continue
        told[event.kind] += 1
        if told[event.kind] <= _MOST_TOLD:
            verdict.broken.append(_line(event, around, began))
    verdict.broken += [f"{kind}: {count - _MOST_TOLD} more" for kind, count in told.items() if count > _MOST_TOLD]
    return verdict


def _line(event: Event, around: list[Window], began: float) -> str:
    during = " and ".join(window.name for window in around) or "nothing: it was quiet"
    when = f"{event.since - began:.1f} s to {event.until - began:.1f} s"
    return f"{event.kind} in mount {event.mount}, {when}, during {during}: {event.what}"

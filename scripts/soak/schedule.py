"""What goes wrong when: the faults of an archive, each with the errors that it permits, in an order by a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

ARCHIVE, BUCKET = "archive", "bucket"
"""The servers: the one of DICOMweb, and that of the buckets."""

TIMEOUT_SECONDS = 8.0
"""Of the mounts: half of it is longer than a busy machine keeps anything waiting, so what is well is never late."""

BREAKS = frozenset({"EIO", "EHOSTUNREACH"})
"""Of what is cut off while it comes, or before it has begun."""


class Means(Enum):
    """How a fault is made."""

    KNOBS = "knobs of the twin"
    STOP = "its process stands still"
    KILL = "its process is killed, and another one started"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong."""

    name: str
    permits: frozenset[str]
    """Errors, by name, as docs/SEMANTICS.md has them, and what else may be wrong with an answer."""
    knobs: dict[str, Any] = field(default_factory=dict, hash=False)
    means: Means = Means.KNOBS
    of: tuple[str, ...] = (ARCHIVE, BUCKET)
    """Whose fault it can be."""
    longer_than_timeout: bool = False
    """It has to last, or nobody would notice."""
    hangs_up: bool = False
    """At its end all connections are cut: what has begun under it would go on under it."""


def _fault(name: str, *permits: str, of: tuple[str, ...] = (ARCHIVE, BUCKET), **knobs: Any) -> Fault:
    return Fault(name, frozenset(permits), knobs, of=of)


_UNREACHABLE, _LATE = "EHOSTUNREACH", "ETIMEDOUT"

FAULTS = (
    _fault("503", _UNREACHABLE, fail_always=503, fail_body="xml"),
    _fault("503 now and then", _UNREACHABLE, fail_next=[503, 0, 0] * 3_000, fail_body="xml"),
    _fault("429", _UNREACHABLE, fail_always=429, fail_body="array"),
    _fault("500, and nothing else", _UNREACHABLE, fail_always=500, fail_body="empty"),
    _fault("refused before the first byte", _UNREACHABLE, refuse_always="reset"),
    _fault("cut off", "EIO", truncate_after_bytes=70_000, framing="chunked"),
    _fault("cut off by a reset", "EIO", truncate_after_bytes=150_000, truncate_ending="reset"),
    _fault("cut off at every tenth", "EIO", truncate_tenths=True, truncate_ending="reset"),
    Fault("slow", frozenset(), {"bytes_per_second": 300_000}, hangs_up=True),
    _fault("far", latency_seconds=0.3),
    Fault("hangs before the headers", frozenset({_LATE}), {"latency_seconds": 600}, longer_than_timeout=True),
    Fault("hangs in mid-file", frozenset({_LATE}), {"stall_after_bytes": 70_000}, longer_than_timeout=True),
    Fault("drips", frozenset({_LATE}), {"drip_after_bytes": 10}, longer_than_timeout=True),
    Fault("away", frozenset({_LATE, _UNREACHABLE}), means=Means.STOP, longer_than_timeout=True),
    Fault("nobody there", BREAKS, means=Means.KILL),
    # A bucket's files are not shown after three rounds of such answers (docs/SEMANTICS.md): these are archives' alone.
    _fault("length too large", "EIO", of=(ARCHIVE,), match="/instances/", part_length_error=10),
    _fault("length too small", "EIO", of=(ARCHIVE,), match="/instances/", length_error=-100),
    _fault("another instance", "EIO", of=(ARCHIVE,), match="/instances/", corrupt="other_instance"),
    _fault("a page instead", "EIO", of=(ARCHIVE,), match="/instances/", corrupt="html"),
)


REPLACED_BY = ("", "kill", "", "term")
"""How a mount is ended before each spell, in turns; empty: none is."""


@dataclass(frozen=True, slots=True)
class Spell:
    """One fault, and what lies around it. All in s."""

    fault: Fault
    at: frozenset[str]
    """Of which servers."""
    quiet_seconds: float
    """Nothing goes wrong before it."""
    fault_seconds: float
    settle_seconds: float
    """The least that is waited after it, for what hangs since then."""
    is_told: bool
    """The mounts are told to ask anew (SIGHUP), instead of finding out."""
    replaced: str = ""
    """``kill`` or ``term``: a mount is ended so, and made anew, before it."""

    @property
    def seconds(self) -> float:
        """How long all of it takes, at least."""
        return self.quiet_seconds + self.fault_seconds + self.settle_seconds


def spells(seed: int, *, is_short: bool) -> Iterator[Spell]:
    """What happens, without end; all faults come before one comes again."""
    choice = random.Random(f"{seed}/schedule")
    turns = _quick_ones_first(choice) if is_short else _in_turns(choice)
    for number, fault in enumerate(turns):
        servers = [*((one,) for one in fault.of), *([fault.of] if len(fault.of) > 1 else [])]
        least = TIMEOUT_SECONDS + 1 if fault.longer_than_timeout else 2.0
        spare = 1.0 if is_short else 6.0
        yield Spell(
            fault,
            frozenset(servers[choice.randrange(len(servers))]),
            quiet_seconds=choice.uniform(2, 3) if is_short else choice.uniform(4, 8),
            fault_seconds=least + choice.uniform(0, spare),
            settle_seconds=TIMEOUT_SECONDS + 1 if fault.longer_than_timeout else 1.0,
            is_told=choice.random() < 0.5,
            replaced=REPLACED_BY[number % len(REPLACED_BY)],
        )


def seconds_between_kills(choice: random.Random, *, is_short: bool) -> float:
    """Until the next reader is killed."""
    return choice.expovariate(1.0 if is_short else 0.5)


def _quick_ones_first(choice: random.Random) -> Iterator[Fault]:
    """Two that are soon over for each that has to last: there is time for few."""
    long, quick = ([fault for fault in FAULTS if fault.longer_than_timeout == is_long] for is_long in (True, False))
    while True:
        yield from (*choice.sample(quick, 2), choice.choice(long))


def _in_turns(choice: random.Random) -> Iterator[Fault]:
    while True:
        yield from choice.sample(FAULTS, len(FAULTS))

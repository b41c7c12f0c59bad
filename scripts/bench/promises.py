"""What idcfs promises about speed and memory, measured: the scenarios."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from scripts.bench import crowds, fetching, listings, reaching, rereading
from scripts.bench.measuring import Bench, Skipped
from scripts.bench.results import Promised
from scripts.harness import Failure, in_bytes

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "first-time": listings.first_time,
    "again": listings.again,
    "find": listings.find,
    "warm": rereading.warm,
    "disk": rereading.disk,
    "cold": fetching.cold,
    "far": fetching.far,
    "first-byte": fetching.first_byte,
    "slide": reaching.slide,
    "memory": crowds.memory,
}


def measure(bench: Bench, scenarios: Sequence[str]) -> list[str]:
    """Run the scenarios, one line each; one that fails leaves the others standing. Returns those that failed."""
    failed = []
    free = os.statvfs(bench.scratch).f_bavail * os.statvfs(bench.scratch).f_frsize
    print(f"In {bench.scratch} ({in_bytes(free)} free):")
    for name in scenarios:
        print(f"  {name:<12}", end="", flush=True)
        started = time.perf_counter()
        try:
            SCENARIOS[name](bench)
            print(f"{time.perf_counter() - started:.0f} s", flush=True)
        except Skipped as reason:
            print(f"skipped: {reason}", flush=True)
        except Exception as error:  # whatever it is: what was measured before may have taken an hour
            kind = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
            print(f"FAILED: {kind}{error}", flush=True)
            failed.append(name)
    return failed


def promised(bench: Bench) -> Iterator[Promised]:
    """What was measured, beside what is promised."""
    for promise, values in bench.values.items():
        yield Promised(promise.name, promise.unit, promise.at_most, promise.at_least, tuple(values))

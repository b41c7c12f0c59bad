"""What came out of a soak, as values."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from idcfs.settings import TransportSettings
from scripts.harness import in_bytes
from scripts.soak.judging import Verdict, judge, read_told
from scripts.soak.page import page_of
from scripts.soak.reading import EVENTS
from scripts.soak.running import Soak
from scripts.soak.schedule import TIMEOUT_SECONDS
from scripts.soak.stage import MEMORY_MIB, Rest
from scripts.soak.truth import files_of
from scripts.soak.watching import TIMES

GROWTH_MIB = 24.0
"""What RssAnon of a process may have grown by from its first rest to its last, both times with full caches."""
MOST_MIB = MEMORY_MIB + 150.0
"""What RssAnon may be at any time: the memory cache, and what the benchmark bounds beside it."""
MORE_DESCRIPTORS, MORE_THREADS, MORE_TASKS = 4, 8, 4
"""What a mount at rest may have more at the end: a database's log, threads that wait for work, a timer."""
MOST_SOCKETS = 2 * TransportSettings().max_connections
"""Connections that nobody uses are closed when the next one is needed: up to so many stay, to two servers."""
_SHOWN_SAMPLES = 120


def results_of(soak: Soak) -> dict[str, Any]:
    """All of it, once the soak is over."""
    told = read_told(soak.directory / EVENTS)
    verdict = judge([*told.events, *soak.crowd.events], soak.stage.windows, soak.began)
    operations = sum(told.done.values())
    permitting = {window.name for window in soak.stage.windows if window.permits}
    results = {
        **soak.origin._asdict(),
        "seed": soak.seed,
        "minutes": soak.minutes,
        "timeout_seconds": TIMEOUT_SECONDS,
        "most_growth_mib": GROWTH_MIB,
        "seconds": round(soak.ended - soak.began, 1),
        "stopped": soak.stopped,
        "machine": machine(),
        "archive": archive_of(soak),
        "readers": {"processes": soak.processes, "started": soak.crowd.started, "killed": soak.crowd.killed},
        "mounts": {
            name: {"made": soak.stage.made[name], "killed": soak.stage.killed.get(name, 0)} for name in soak.stage.made
        },
        "spells": soak.spells,
        "operations": dict(sorted(told.done.items())),
        "bytes_compared": told.bytes_compared,
        "longest_call": {"seconds": round(told.longest[0], 3), "call": told.longest[1]},
        "permitted_errors": {name: dict(verdict.permitted.get(name, {})) for name in sorted(permitting)},
        "stat": stat_times(soak.directory / TIMES),
        "rests": [rest.report() for rest in soak.rests],
        "memory": memory_of(soak),
        "counters": soak.counters,
        "cache": soak.left,
    }
    results["broken"] = [
        *soak.broken,
        *soak.crowd.broken,
        *verdict.broken,
        *too_much(soak),
        *growth(soak),
        *_idle(soak, operations, verdict),
    ]
    return results


def machine() -> dict[str, Any]:
    """Where this runs, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "processor": platform.machine(),
        "linux": os.uname().release,
        "python": sys.version.split()[0],
    }


def archive_of(soak: Soak) -> dict[str, int]:
    """How much there is to read."""
    sizes = [file.size for one in soak.truth.series for file in files_of(one)]
    large = sum(size > 40 * 2**20 for size in sizes)
    return {"series": len(soak.truth.series), "instances": len(sizes), "bytes": sum(sizes), "larger_than_40_mib": large}


def stat_times(path: Path) -> dict[str, dict[str, float]]:
    """Of each thing that was asked, how long it took, in ms."""
    if not path.exists():
        return {}
    told: dict[str, list[float]] = json.loads(path.read_text())
    return {name: _quantiles(sorted(seconds)) for name, seconds in told.items() if seconds}


def _quantiles(ordered: Sequence[float]) -> dict[str, float]:
    def at(part: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e3, 3)

    return {"calls": len(ordered), "p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


def memory_of(soak: Soak) -> dict[str, list[tuple[float, float]]]:
    """(s, MiB) of each mount's own memory, thinned out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seconds, name, vitals in soak.samples:
        found.setdefault(name, []).append((seconds, vitals.anonymous_mib))
    return {name: points[:: max(1, len(points) // _SHOWN_SAMPLES)] for name, points in found.items()}


# --- promises about what is left --------------------------------------------------------------------------------------


def too_much(soak: Soak) -> Iterator[str]:
    """What a mount took while it was used, seen once a second."""
    most: dict[str, float] = {}
    for _, name, vitals in soak.samples:
        most[name] = max(vitals.anonymous_mib, most.get(name, 0.0))
    for name, mib in most.items():
        if mib > MOST_MIB:
            yield f"mount {name} took {mib:g} MiB of memory (most: {MOST_MIB:g})"


def growth(soak: Soak) -> Iterator[str]:
    """What a mount has more of at the last rest than at the first, if its process is the same."""
    for rest in soak.rests:
        if rest.vitals.sockets > MOST_SOCKETS:
            yield f"mount {rest.mount} has {rest.vitals.sockets} sockets at rest (most: {MOST_SOCKETS})"
    for first, last in _pairs(soak.rests):
        now, then = last.vitals, first.vitals
        for what, more, most in (
            ("MiB of memory", now.anonymous_mib - then.anonymous_mib, GROWTH_MIB),
            ("file descriptors", now.descriptors - now.sockets - then.descriptors + then.sockets, MORE_DESCRIPTORS),
            ("threads", now.threads - then.threads, MORE_THREADS if not soak.is_short else 64),
            ("tasks", last.gauges["tasks"] - first.gauges["tasks"], MORE_TASKS),
        ):
            if more > most:
                told = f"{more:g} {what} more at the end than at its process's first rest"
                yield f"mount {last.mount} has {told} (most: {most:g})"


def _pairs(rests: Sequence[Rest]) -> Iterator[tuple[Rest, Rest]]:
    for name in dict.fromkeys(rest.mount for rest in rests):
        own = [rest for rest in rests if rest.mount == name]
        same = [rest for rest in own if rest.vitals.pid == own[-1].vitals.pid]
        if len(same) > 1:
            yield same[0], same[-1]


def _idle(soak: Soak, operations: int, verdict: Verdict) -> Iterator[str]:
    """A soak that did not do its work proves nothing."""
    if not operations:
        yield "nothing was read"
    if not soak.stopped and not verdict.permitted:
        yield "no fault was met by anybody"
    if not soak.stopped and not soak.is_short:
        judged = {last.mount for _, last in _pairs(soak.rests)}
        yield from (f"nobody can tell whether mount {name} grows" for name in soak.stage.made if name not in judged)
    if not soak.stopped and not stat_times(soak.directory / TIMES):
        yield "stat was not watched"


# --- for people -------------------------------------------------------------------------------------------------------


def lines_of(results: dict[str, Any]) -> Iterator[str]:
    """A few lines for a terminal."""
    read = in_bytes(results["bytes_compared"])
    yield (
        f"{sum(results['operations'].values()):,} operations, {read} compared, {results['spells']} faults, "
        f"{results['readers']['killed']} readers and {sum(one['killed'] for one in results['mounts'].values())} mounts "
        f"killed, in {results['seconds']:.0f} s; seed {results['seed']}"
    )
    for name, times in results["stat"].items():
        yield f"stat of a {name}: p50 {times['p50']:.3f} ms, p99 {times['p99']:.3f} ms, max {times['max']:.0f} ms"
    for line in results["broken"]:
        yield f"BROKEN: {line}"
    if not results["broken"]:
        yield "no promise was broken"


def write(results: dict[str, Any], directory: Path) -> None:
    """The page, and the values beside it, into a directory of documents."""
    (directory / "soak").mkdir(exist_ok=True)
    (directory / "soak" / "results.json").write_text(as_json(results))
    (directory / "soak.md").write_text(page_of(results))


def as_json(results: dict[str, Any]) -> str:
    return json.dumps(results, indent=1) + "\n"

"""The benchmark: what idcfs promises about speed and memory, measured on this machine and set beside the promise.

    python -m scripts.bench [--runs N] [--list] [SCENARIO …]

A miss is marked and is not a failure: machines differ, and so does what else they are doing. The exit code is 1 if
something could not be measured.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

import click
import httpx

from scripts.bench import crowds, fetching, listings, reaching, rereading
from scripts.bench.measuring import Bench, Skipped
from scripts.bench.table import table
from scripts.harness import Failure, in_bytes, program, scratch_directory

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


@click.command()
@click.option("--runs", default=3, show_default=True, type=click.IntRange(min=1), help="How often to measure.")
@click.option("--list", "only_list", is_flag=True, help="Name the scenarios and what they do.")
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)), metavar="[SCENARIO …]")
def main(runs: int, only_list: bool, scenarios: tuple[str, ...]) -> None:
    """Measure what idcfs promises about speed and memory; without SCENARIO, all of it."""
    if only_list:
        for name, scenario in SCENARIOS.items():
            click.echo(f"{name:<12}{scenario.__doc__}")
        return
    sys.exit(program("bench", lambda: report(runs, scenarios or tuple(SCENARIOS))))


def report(runs: int, scenarios: Sequence[str]) -> int:
    """Measure, and print the table; returns the exit code."""
    with scratch_directory("idcfs-bench-") as scratch:
        bench = Bench(runs, scratch)
        failed = measure(bench, scenarios)
    print(f"\n{os.cpu_count()} cores, Linux {os.uname().release}, Python {sys.version.split()[0]}\n")
    print("\n".join(table(bench.values)))
    return 1 if failed else 0


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
        except (Failure, OSError, httpx.HTTPError) as error:
            print(f"FAILED: {error}", flush=True)
            failed.append(name)
    return failed

"""curl with 16 connections: the least that fetching costs, and how those fetch who read afterwards."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.measuring import CURL, peak_mib
from scripts.harness import Failure

_LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process has cost."""

    seconds: float
    processor_seconds: float
    peak_mib: float


def fetch(urls: Sequence[str], config: Path, *, into: Sequence[Path] = (), byte_range: str | None = None) -> Spent:
    """Fetch all, as many at a time as there are connections.

    :param config: is written.
    :param into: a file for each; its directory is made. Without them all is thrown away.
    :param byte_range: ``1000-1999``, of each.
    :raises Failure: if something could not be had.
    """
    for path in into:
        path.parent.mkdir(parents=True, exist_ok=True)
    files = [str(path) for path in into] or ["/dev/null"] * len(urls)
    lines = [f'url = "{url}"\noutput = "{file}"\n' for url, file in zip(urls, files, strict=True)]
    config.write_text("".join(lines))
    wanted = () if byte_range is None else ("--range", byte_range)
    command = [*CURL, "--fail", *wanted, "--config", str(config)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = _peak_until_end(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failure(f"curl ended with exit code {process.returncode}")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, peak)


def _peak_until_end(pid: int) -> float:
    """The most memory seen of a child, in MiB, when it has ended; it is still to be waited for.

    What the kernel tells who waits for it is at least what we hold ourselves: it counts from before the exec.
    """
    peak = 0.0
    ended = os.pidfd_open(pid)
    try:
        while not select.select([ended], [], [], 0 if not peak else _LOOK_SECONDS)[0]:
            peak = max(peak, peak_mib(pid))
    finally:
        os.close(ended)
    return peak

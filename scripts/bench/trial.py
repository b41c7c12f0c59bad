"""One job of one subject, measured: seconds, bytes, requests, processor time, memory, and whether all was right."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from scripts.bench.curl import Spent
from scripts.bench.jobs import Done, Job
from scripts.bench.material import Material
from scripts.bench.measuring import forget_peak, peak_mib, processor_seconds
from scripts.bench.subjects import Standing
from scripts.delay import Proxy, Traffic
from scripts.harness import Failure

_QUIET_SECONDS = 0.02
_QUIET_AT_LATEST_SECONDS = 2.0
_END_SECONDS = 10.0
_FORK = multiprocessing.get_context("fork")  # whatever the jobs import is there already


class Overrun(Failure):
    """It took longer than it may."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured, once."""

    seconds: float
    requests: int
    bytes_moved: int
    processor_seconds: float
    peak_mib: float
    outcome: object


def measured(
    job: Job,
    standing: Standing,
    material: Material,
    proxy: Proxy | None,
    *,
    fetch: bool,
    limit_seconds: float,
    since: Traffic | None = None,
) -> Trial:
    """Have the subject do the job.

    :param fetch: let it bring the files first, if that is how it reads.
    :param since: what had passed the proxy before the subject began; then all counts that it has done so far.
    :raises Overrun: if the job is not done in time.
    :raises Failure: if it fails.
    """
    pid = standing.pid
    used = 0.0
    before = since
    if before is None:
        before = Traffic(0, 0, 0) if proxy is None else proxy.traffic()
        if pid is not None:
            used = processor_seconds(pid)
            forget_peak(pid)
    spent = Spent(0.0, 0.0, 0.0)
    if fetch and standing.fetch is not None and job.needs is not None:
        spent = standing.fetch(job.needs(material))
    seconds, outcome = _in_process(lambda: job.work(standing, material), limit_seconds)
    after = quiet(proxy)
    if pid is not None:
        spent = Spent(0.0, processor_seconds(pid) - used, peak_mib(pid))
    return Trial(
        spent.seconds + seconds,
        after.requests - before.requests,
        after.bytes_moved - before.bytes_moved,
        spent.processor_seconds,
        spent.peak_mib,
        outcome,
    )


def quiet(proxy: Proxy | None) -> Traffic:
    """What has passed the proxy once nothing passes any more: what is read ahead in vain counts too.

    After two seconds it is what has passed until then.
    """
    if proxy is None:
        return Traffic(0, 0, 0)
    deadline = time.monotonic() + _QUIET_AT_LATEST_SECONDS
    seen = proxy.traffic()
    while time.monotonic() < deadline:
        time.sleep(_QUIET_SECONDS)
        now = proxy.traffic()
        if now == seen and not now.waiting:
            break
        seen = now
    return seen


def _in_process(work: Callable[[], Done], limit_seconds: float) -> Done:
    """Run it in a process of its own, which can be left behind if it hangs in a mount."""
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_report, args=(work, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit_seconds):
            raise Overrun(f"not done within {limit_seconds:.0f} s")
        try:
            done: Done | str = receiver.recv()
        except EOFError:
            raise Failure("its process died") from None
    finally:
        receiver.close()
        _end(process.pid)
        process.join(_END_SECONDS)
    if isinstance(done, str):
        raise Failure(done)
    return done


def _report(work: Callable[[], Done], sender: Connection) -> None:
    """In the new process: send what came of the work, or why nothing did."""
    os.setsid()  # so that what it starts ends with it
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # readers complain at length of what they are given; the outcome tells
    try:
        done: Done | str = work()
    except Exception as error:  # whatever a reader does of what it is given
        done = f"{type(error).__name__}: {error}".splitlines()[0]
    sender.send(done)


def _end(pid: int | None) -> None:
    """Kill a process and what it has started, if it is there."""
    assert pid is not None
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)

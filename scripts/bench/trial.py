"""One job of one subject, measured: seconds, bytes, requests, processor time, memory, and whether all was right."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scripts.bench.curl import Spent
from scripts.bench.jobs import Job
from scripts.bench.material import Material
from scripts.bench.measuring import forget_peak, peak_mib, processor_seconds
from scripts.bench.subjects import Standing
from scripts.bench.worker import Worker
from scripts.delay import Proxy, Traffic

_QUIET_SECONDS = 0.02
_QUIET_AT_LATEST_SECONDS = 2.0


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
    worker: Worker,
    proxy: Proxy | None,
    *,
    fetch: bool,
    limit_seconds: float,
    since: Traffic | None = None,
) -> Trial:
    """Have the worker do the job with the subject.

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
    seconds, outcome = worker.do(job, standing, limit_seconds)
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

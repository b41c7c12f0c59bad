"""A session of the comparison: one subject does some jobs, one after another, from an empty cache on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scripts.bench.jobs import CAT, CAT_AGAIN, MOUNT, Job
from scripts.bench.material import Material
from scripts.bench.measuring import Skipped, drop_page_cache
from scripts.bench.results import Cache
from scripts.bench.subjects import Ground, Standing, Subject
from scripts.bench.trial import Trial, measured, quiet
from scripts.bench.worker import Overrun, Worker
from scripts.delay import Proxy, Traffic
from scripts.harness import Failure

ONCE_SECONDS = 10.0
"""What takes longer is not done again."""
_SETTLE_SECONDS = 0.5
"""How long a mount has stood when its first job begins, unless that is to mount it."""


@dataclass(slots=True)
class Found:
    """What has been found of a cell so far."""

    trials: list[Trial] = field(default_factory=list)
    wrong: str = ""
    """In which way the outcome was not the right one."""
    missing: str = "not reached: what came before it took too long"
    """Why there is no trial, as long as there is none."""
    over: bool = False
    """Whether it is not to be tried again."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who, where, and where what is found goes."""

    subject: Subject
    material: Material
    worker: Worker
    proxy: Proxy | None
    right: Mapping[str, object]
    """What comes of each job, by name, if nothing goes wrong."""
    found: Callable[[Job, Cache], Found]
    limit_seconds: float
    """What a job may take."""

    def run(self, jobs: Sequence[Job], directory: Path) -> None:
        """Do those of the jobs that the subject can do, and that are not over; ``directory`` is made, and removed."""
        for job in jobs:
            if reason := self._reason_against(job):
                self._give_up(job, reason, caches(job))
        wanted = [job for job in jobs if not self.found(job, "cold").over]
        if not wanted:
            return
        (directory / "cache").mkdir(parents=True)
        url = "" if self.proxy is None else self.proxy.url
        try:
            self._work(wanted, Ground(self.material, url, directory / "mountpoint", directory / "cache"))
        except Skipped as reason:
            for job in wanted:
                self._give_up(job, str(reason), caches(job))
        except (Failure, OSError) as error:  # it does not stand up, or it does not come down
            for job in wanted:
                for cache in caches(job):
                    self.found(job, cache).missing = str(error)
        finally:
            with suppress(OSError):
                shutil.rmtree(directory)

    def _reason_against(self, job: Job) -> str:
        if job.needs is None and not self.subject.lists:
            return "it lists only what it has fetched"
        if job is MOUNT and not self.subject.mounts:
            return "there is nothing to mount"
        return ""

    def _work(self, jobs: Sequence[Job], ground: Ground) -> None:
        since = quiet(self.proxy)
        with self.subject.stand(ground) as standing:
            if MOUNT not in jobs and self.subject.mounts:
                time.sleep(_SETTLE_SECONDS)
            for job in jobs:
                if job is MOUNT:
                    self._try(job, "cold", standing, since)
                elif not self._do(job, standing):
                    return
        if MOUNT in jobs:
            since = quiet(self.proxy)
            with self.subject.stand(ground) as standing:
                self._try(MOUNT, "warm", standing, since)

    def _do(self, job: Job, standing: Standing) -> bool:
        """A job cold, then warm; False if it does not end."""
        cold, warm = self.found(job, "cold"), self.found(job, "warm")
        if not self._try(job, "cold", standing):
            warm.missing, warm.over = "not tried: it failed when cold", cold.over
            return not cold.over
        if cold.over and not self.subject.keeps:
            for again in (job, CAT_AGAIN) if job is CAT else (job,):
                self._give_up(again, "as when cold: it keeps nothing", ("warm",))
            return True
        if not self._try(job, "warm", standing):
            return not warm.over
        if job is CAT and CAT_AGAIN.name in self.right:  # it may be left out
            try:
                drop_page_cache()
            except Skipped as reason:
                self._give_up(CAT_AGAIN, str(reason), ("warm",))
            else:
                self._try(CAT_AGAIN, "warm", standing)
        return True

    def _try(self, job: Job, cache: Cache, standing: Standing, since: Traffic | None = None) -> bool:
        """Whether it was done, rightly or wrongly."""
        found = self.found(job, cache)
        try:
            trial = measured(
                job,
                standing,
                self.material,
                self.worker,
                self.proxy,
                fetch=cache == "cold",
                limit_seconds=self.limit_seconds,
                since=since,
            )
        except Overrun as error:
            found.missing, found.over = str(error), True
            return False
        except (Failure, OSError) as error:  # of the latter: its daemon is gone
            found.missing = found.wrong = str(error)
            return False
        found.trials.append(trial)
        found.over = trial.seconds > ONCE_SECONDS
        found.wrong = found.wrong or job.difference(trial.outcome, self.right[job.name])
        return True

    def _give_up(self, job: Job, reason: str, states: Sequence[Cache]) -> None:
        for cache in states:
            self.found(job, cache).missing, self.found(job, cache).over = reason, True


def caches(job: Job) -> Sequence[Cache]:
    """In which states of the cache it is done."""
    return ("warm",) if job is CAT_AGAIN else ("cold", "warm")

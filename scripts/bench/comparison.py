"""The comparison: every subject does every job, cold and warm, at every distance; and curl says what is possible."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from scripts.bench import possible
from scripts.bench.jobs import (
    CAT,
    DCM2NIIX,
    FIND,
    FIRST_BYTE,
    HEADERS,
    JOBS,
    LIST,
    MIDDLE,
    MOUNT,
    OPENSLIDE,
    SIMPLEITK,
    Job,
)
from scripts.bench.material import FULL, NGINX, SHORT, Amount, Material, Servers, make, served
from scripts.bench.results import Cache, Cell, Limit
from scripts.bench.session import Found, Session, caches
from scripts.bench.subjects import SUBJECTS, Standing, Subject
from scripts.bench.trial import measured
from scripts.bench.worker import Worker


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done."""

    amount: Amount
    delays_ms: Sequence[int]
    delays_once_ms: Sequence[int]
    """Those of the delays that only the first round goes to."""
    sessions: Sequence[Sequence[Job]]
    """Jobs of one mount, one after another. The slowest comes last: after it the session may be over."""
    limit_seconds: float
    """What a job may take."""


THOROUGH = Plan(
    FULL,
    (0, 40, 80),
    (80,),
    ((MOUNT, OPENSLIDE, FIND), (LIST, FIRST_BYTE, MIDDLE), (CAT,), (HEADERS, SIMPLEITK, DCM2NIIX)),
    limit_seconds=60,
)
QUICK = Plan(
    SHORT,
    (0, 40),
    (),
    ((MOUNT, LIST, FIRST_BYTE, MIDDLE, OPENSLIDE, CAT, HEADERS, DCM2NIIX, SIMPLEITK, FIND),),
    limit_seconds=30,
)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a run has set up."""

    directory: Path
    material: Material
    worker: Worker
    right: Mapping[str, object]
    servers: Servers
    numbers: Iterator[int] = field(default_factory=count)


class Comparison:
    """Rounds of all sessions of all subjects: what disturbs one of them disturbs all."""

    def __init__(self, plan: Plan, subjects: Sequence[Subject] = SUBJECTS, jobs: Sequence[Job] = JOBS) -> None:
        """``subjects`` and ``jobs``: the others are left out."""
        self.subjects = tuple(subjects)
        self.jobs = tuple(jobs)
        self._plan = plan
        self._found: defaultdict[tuple[str, int, str, Cache], Found] = defaultdict(Found)
        self._possible: defaultdict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)

    def rounds(self, runs: int, directory: Path) -> Iterator[None]:
        """Measure, a round at a time; ``directory`` is made. What a subject does not manage is a note of its cell.

        :raises Failure: if nothing can be measured.
        """
        material = make(directory / "material", self._plan.amount)
        with Worker(material) as worker, served(material, self._plan.delays_ms) as servers:
            stage = _Stage(directory, material, worker, self._originals(material, worker), servers)
            os.sync()  # or else who comes first shares the disk with what is written of the files, three times
            for number in range(runs):
                for delay_ms in self._plan.delays_ms:
                    if number == 0 or delay_ms not in self._plan.delays_once_ms:
                        self._round(stage, number, delay_ms)
                        yield

    def cells(self) -> Iterator[Cell]:
        """Each that there is, measured or not."""
        for subject in self.subjects:
            for job in self.jobs:
                for delay_ms in self._plan.delays_ms:
                    for cache in caches(job):
                        found = self._found[subject.name, delay_ms, job.name, cache]
                        yield _cell(subject.name, job.name, delay_ms, cache, found)

    def limits(self) -> Iterator[Limit]:
        for (name, delay_ms), found in self._possible.items():
            seconds, moved = zip(*found, strict=True)
            yield Limit(name, delay_ms, seconds, moved)

    def _round(self, stage: _Stage, number: int, delay_ms: int) -> None:
        for session in self._plan.sessions:
            jobs = [job for job in session if job in self.jobs]
            if jobs:
                names = ", ".join(job.name for job in jobs)
                print(f"  {number + 1}, {delay_ms:2} ms: {names:<48.48}", end="", flush=True)
                started = time.perf_counter()
                self._session(stage, delay_ms, jobs)
                print(f"{time.perf_counter() - started:5.0f} s", flush=True)

    def _session(self, stage: _Stage, delay_ms: int, jobs: Sequence[Job]) -> None:
        """All subjects, one after another."""
        nginx = stage.servers.at(NGINX, delay_ms)
        assert nginx is not None
        for job in jobs:
            if job in possible.LIMITED:
                found = possible.fetched(job, stage.material, nginx, stage.directory / "curl")
                self._possible[job.name, delay_ms].append(found)
        for subject in self.subjects:
            proxy = stage.servers.at(subject.server, delay_ms)
            found_of = partial(self._of_cell, subject.name, delay_ms)
            session = Session(
                subject, stage.material, stage.worker, proxy, stage.right, found_of, self._plan.limit_seconds
            )
            # One that is left half removed is not the next one's.
            session.run(jobs, stage.directory / f"session-{next(stage.numbers)}")

    def _originals(self, material: Material, worker: Worker) -> dict[str, object]:
        """What comes of each job if nothing goes wrong, by name."""
        original, limit = Standing(material.copy), self._plan.limit_seconds
        return {
            job.name: measured(job, original, material, worker, None, fetch=False, limit_seconds=limit).outcome
            for job in self.jobs
        }

    def _of_cell(self, subject: str, delay_ms: int, job: Job, cache: Cache) -> Found:
        return self._found[subject, delay_ms, job.name, cache]


def _cell(subject: str, job: str, delay_ms: int, cache: Cache, found: Found) -> Cell:
    trials = found.trials
    note = found.wrong if trials else found.missing
    if found.over and len(trials) == 1 and not note:
        note = "measured once: it takes long"
    return Cell(
        subject,
        job,
        delay_ms,
        cache,
        seconds=tuple(trial.seconds for trial in trials),
        bytes_moved=tuple(trial.bytes_moved for trial in trials),
        requests=tuple(trial.requests for trial in trials),
        processor_seconds=tuple(trial.processor_seconds for trial in trials),
        peak_rss_mib=tuple(trial.peak_mib for trial in trials),
        correct=not found.wrong if trials or found.wrong else None,
        note=note,
    )

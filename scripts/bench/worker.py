"""Who does the jobs: a process of its own, which can be left behind if it hangs in a mount."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from types import TracebackType
from typing import Self

from scripts.bench.jobs import JOBS, Done, Job
from scripts.bench.material import Material
from scripts.bench.subjects import Standing
from scripts.harness import Failure

_END_SECONDS = 10.0
_FORK = multiprocessing.get_context("fork")  # whatever the jobs import is there already


class Overrun(Failure):
    """It took longer than it may."""


class Worker:
    """Does one job after another.

    with Worker(material) as worker:
        seconds, outcome = worker.do(CAT, standing, 60)
    """

    def __init__(self, material: Material) -> None:
        self._material = material
        self._process: ForkProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def do(self, job: Job, standing: Standing, limit_seconds: float) -> Done:
        """
        :raises Overrun: if it takes longer than ``limit_seconds``.
        :raises Failure: if it fails.
        """
        try:
            pipe = self._pipe or self._begin()
            pipe.send((job.name, replace(standing, fetch=None)))
            if not pipe.poll(limit_seconds):
                raise Overrun(f"not done within {limit_seconds:.0f} s")
            done: Done | str = pipe.recv()
        except (OSError, EOFError):
            self._end()
            raise Failure("the process that did it died") from None
        except BaseException:
            self._end()
            raise
        if isinstance(done, str):
            raise Failure(done)
        return done

    def _begin(self) -> Connection:
        ours, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_work, args=(self._material, theirs, ours), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def _end(self) -> None:
        """Kill it and what it has started."""
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if process is None or pipe is None:
            return
        pipe.close()
        assert process.pid is not None
        for kill in (os.killpg, os.kill):  # it may not lead a group yet
            with contextlib.suppress(ProcessLookupError):
                kill(process.pid, signal.SIGKILL)
        process.join(_END_SECONDS)


def _work(material: Material, pipe: Connection, parents: Connection) -> None:
    """In the new process: do what comes, and send what came of it, or why nothing did."""
    parents.close()
    os.setsid()  # so that what it starts ends with it
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # readers complain at length of what they are given; the outcome tells
    by_name = {job.name: job for job in JOBS}
    while True:
        try:
            name, standing = pipe.recv()
        except EOFError:
            return
        try:
            done: Done | str = by_name[name].work(standing, material)
        except Exception as error:  # whatever a reader does of what it is given
            done = f"{type(error).__name__}: {error}".splitlines()[0]
        pipe.send(done)

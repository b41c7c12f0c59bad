"""One soak from beginning to end: quiet, a fault, quiet again, and now and then a rest to count what is held."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from idcfs.errors import IdcfsError
from idcfs.settings import BLOCK_BYTES, MIB
from scripts.harness import IDCFS, Failure, is_mounted
from scripts.origin import Origin, origin
from scripts.soak.crowd import REST_SECONDS, Crowd
from scripts.soak.judging import Window
from scripts.soak.making import make_truth
from scripts.soak.marks import GO, REST
from scripts.soak.reading import MOUNTS, TRUTH
from scripts.soak.schedule import ARCHIVE, BUCKET, REPLACED_BY, Spell, spells
from scripts.soak.stage import (
    CACHE_MIB,
    OPTIONS,
    STAYS,
    ZERO_GAUGES,
    Rest,
    Stage,
    Vitals,
    block_sizes,
    held_gauges,
    vitals_of,
    wait_until,
)
from scripts.soak.truth import Truth, directory_of
from tests.twin.client import Twin

SHORT_MINUTES = 2.0
"""A soak below it has short spells and rests, and cannot tell of growth."""
_TICK_SECONDS = 0.1
_SAMPLE_SECONDS = 1.0
_LET_GO_SECONDS = 15.0
"""How long a mount that nobody uses may take to let go of everything: what waits for a dead archive is over by then."""
_IDLE_SECONDS = 12.0
"""Threads that do nothing end after 10 s."""
_KILL_LEAVES_BYTES = 4 * MIB + BLOCK_BYTES
"""What a mount writes together, and so leaves half written when it is killed; the next one removes it after 10 min."""
_SIGNS_OF_A_BUG = ("Traceback", "this is a bug", "Warning:")
_QUARTERS = 4
_REPLACING_SHARE = 1 / 3
"""In which part of the time mounts are made anew: at its half their caches are full, and from then on none may grow."""


class Broken(Exception):
    """A promise is broken in a way that leaves nothing to go on with."""


@dataclass(slots=True)
class Soak:
    """What is known of it so far, at its end all of it."""

    directory: Path
    minutes: float
    processes: int
    seed: int
    origin: Origin = field(default_factory=origin)
    truth: Truth = field(init=False)
    stage: Stage = field(init=False)
    crowd: Crowd = field(init=False)
    broken: list[str] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)
    samples: list[tuple[float, str, Vitals]] = field(default_factory=list)
    """Seconds since it began, mount, and what its process took."""
    spells: int = 0
    began: float = 0.0
    ended: float = 0.0
    stopped: bool = False
    """By Ctrl-C, or SIGTERM."""
    left: dict[str, int | str] = field(default_factory=dict)
    """What was found in the cache directory at the end."""
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each mount's last process."""
    _sampled: float = 0.0

    @property
    def is_short(self) -> bool:
        return self.minutes < SHORT_MINUTES

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    # --- from beginning to end ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do all of it; Ctrl-C or SIGTERM end it early."""
        index = self.directory / "index.parquet"
        self.truth = make_truth(index, self.seed)
        self.truth.save(self.directory / TRUTH)
        with Twin(index=index) as archive, Twin(index=index) as bucket:
            self.stage = Stage(self.directory, index, {ARCHIVE: archive, BUCKET: bucket})
            try:
                with self._mounted(), self._crowded(), self._stoppable():
                    self._soak()
            except Broken as error:
                self.broken.append(str(error))
            except Failure as error:
                self.broken.append(f"mounts: {error}")
        self.ended = time.monotonic()
        self._look_into_the_cache()
        self._look_into_the_logs()

    @contextlib.contextmanager
    def _mounted(self) -> Iterator[None]:
        places = {name: str(self.stage.mountpoint(name)) for name in OPTIONS}
        (self.directory / MOUNTS).write_text(json.dumps(places))
        try:
            for name in OPTIONS:
                self.stage.mount(name)
            os.listdir(self.stage.mountpoint(STAYS) / directory_of(self.truth.series[0]))  # for who watches stat
            yield
        finally:
            self.stage.take_off()
        self.broken += [f"{name} is still mounted" for name in OPTIONS if is_mounted(self.stage.mountpoint(name))]

    @contextlib.contextmanager
    def _crowded(self) -> Iterator[None]:
        self.crowd = Crowd(self.directory, self.seed, self.processes, self.is_short)
        self.began = time.monotonic()
        self.crowd.start()
        try:
            yield
        finally:
            self.crowd.end()

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self.stopped = True
            for server in self.stage.servers.values():
                with contextlib.suppress(Exception):  # it may be one that stands still
                    server.restart()

    def _soak(self) -> None:
        """Spell after spell until time is over; a rest at each quarter, the last one at the end."""
        due = [self.minutes * 60 * part / _QUARTERS for part in ((1,) if self.is_short else range(1, _QUARTERS))]
        for spell in spells(self.seed, is_short=self.is_short):
            if self.seconds + spell.seconds >= self.minutes * 60:
                break
            self._spell(spell)
            if due and self.seconds >= due[0]:
                del due[0]
                self._rest()
        self._rest()

    # --- weather -----------------------------------------------------------------------------------------------------

    def _spell(self, spell: Spell) -> None:
        self._pass(spell.quiet_seconds)
        if spell.replaced and self.replaces:
            replaceable = [name for name in OPTIONS if name != STAYS]
            self.stage.replace(replaceable[self.spells // len(REPLACED_BY) % len(replaceable)], spell.replaced)
        self.spells += 1
        window = self.stage.begin(spell)
        self._pass(spell.fault_seconds)
        window = self.stage.end(spell, window)
        if spell.is_told:
            self.stage.ask_again()
        self._pass(spell.settle_seconds)
        self._until_servers_are_asked(spell, window)
        self.stage.close(window)

    @property
    def replaces(self) -> bool:
        """Whether mounts are made anew now."""
        return self.is_short or self.seconds < self.minutes * 60 * _REPLACING_SHARE

    def _until_servers_are_asked(self, spell: Spell, window: Window) -> None:
        """Mounts find out by themselves that an archive is back, within their last pause."""
        end = time.monotonic() + 2 * spell.fault_seconds + 5
        while away := self.stage.circuits():
            if time.monotonic() > end:
                self.broken.append(f"still not asked after {window.name} is over: {', '.join(away)}")
                self.stage.ask_again()
                return
            self._pass(0.5)

    def _pass(self, seconds: float) -> None:
        """Let time pass, and look after everybody meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.crowd.tend()
            self._sample()
            if self.crowd.hangs:
                raise Broken("the soak ends early: a reader hangs")
            if died := self.stage.died():
                raise Broken(f"the soak ends early: the process of mount {died[0]} is gone")
            time.sleep(_TICK_SECONDS)

    def _sample(self) -> None:
        if time.monotonic() - self._sampled < _SAMPLE_SECONDS:
            return
        self._sampled = time.monotonic()
        for name, mount in self.stage.mounts.items():
            with contextlib.suppress(OSError):
                self.samples.append((round(self.seconds, 1), name, vitals_of(mount.pid)))

    # --- rests -------------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Have all readers do nothing, and see what the mounts still hold."""
        self.crowd.marks.word = REST
        end = time.monotonic() + REST_SECONDS
        while not self.crowd.is_resting:
            if time.monotonic() > end:
                raise Broken(f"readers do not come to rest within {REST_SECONDS:.0f} s")
            self._pass(_TICK_SECONDS)
        if not self.is_short:
            self._pass(_IDLE_SECONDS)
        for name in OPTIONS:
            self._count(name)
        self.crowd.marks.word = GO

    def _count(self, name: str) -> None:
        """What a mount holds; it may take a moment to let go."""
        gauges: dict[str, int] = {}

        def is_free() -> bool:
            gauges.update(self.stage.gauges(name))
            return not held_gauges(gauges)

        try:
            if not wait_until(is_free, _LET_GO_SECONDS):
                self.broken.append(f"mount {name} at rest still has {held_gauges(gauges)}")
        except IdcfsError as error:
            raise Broken(f"mount {name} at rest: {error}") from None
        self.counters[name] = gauges
        told = {gauge: gauges[gauge] for gauge in (*ZERO_GAUGES, "tasks", "cache_bytes", "disk_cache_bytes")}
        self.rests.append(Rest(round(self.seconds, 1), name, vitals_of(self.stage.mounts[name].pid), told))

    # --- what is left ------------------------------------------------------------------------------------------------

    def _look_into_the_cache(self) -> None:
        """After all mounts are gone: its size, unfinished files, and whether each block is as it was written."""
        whole, unfinished = block_sizes(self.stage.cache)
        kills = sum(self.stage.killed.values())
        command = [*IDCFS, "cache", "verify", "--cache-dir", str(self.stage.cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        self.left = {
            "bytes": sum(whole),
            "unfinished_files": len(unfinished),
            "unfinished_bytes": sum(unfinished),
            "verify": done.stdout.strip() or done.stderr.strip(),
        }
        if done.returncode:
            self.broken.append(f"cache verify ends with {done.returncode}: {self.left['verify']}")
        if sum(whole) > CACHE_MIB * MIB:
            self.broken.append(f"contents take {sum(whole):,} bytes on disk, more than the {CACHE_MIB} MiB they may")
        if sum(unfinished) > kills * _KILL_LEAVES_BYTES:
            told = f"{len(unfinished)} files of {sum(unfinished):,} bytes"
            self.broken.append(f"{told} are left half written, by {kills} mounts that were killed")

    def _look_into_the_logs(self) -> None:
        paths = sorted(self.stage.state.glob("idcfs/*.log*"))
        if not paths:
            self.broken.append("no mount has left a log: nobody can tell whether they had bugs")
        for path in paths:
            lines = path.read_text(errors="replace").splitlines()
            bugs = [line for line in lines if any(sign in line for sign in _SIGNS_OF_A_BUG)]
            self.broken += [f"{path.name} tells of a bug: {line}" for line in bugs[:5]]

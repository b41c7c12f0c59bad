"""The mounts, and the two servers behind them: how they are made, fail, are replaced, and what is seen of them."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from idcfs import running
from idcfs.errors import IdcfsError
from idcfs.settings import BLOCKS_NAME
from scripts.harness import Failure, Mount, mounted
from scripts.soak.judging import Window
from scripts.soak.schedule import ARCHIVE, BREAKS, BUCKET, TIMEOUT_SECONDS, Means, Spell
from tests.twin.client import Twin

STAYS = "auto"
"""The mount that is never replaced: its growth is seen from the first quarter on."""
OPTIONS: dict[str, tuple[str, ...]] = {
    STAYS: ("--content", "auto"),
    "wado": ("--content", "wado"),
    "bucket": ("--content", "bucket"),
}
"""The mounts: they share one cache directory."""
CACHE_MIB, MEMORY_MIB = 256, 16
"""A tenth, and a hundredth, of what the archive holds: everything is evicted all the time."""
_NEEDS = {STAYS: frozenset({ARCHIVE, BUCKET}), "wado": frozenset({ARCHIVE}), "bucket": frozenset({BUCKET})}
"""The servers that all have to fail for a mount to fail."""
_REPLACED = frozenset({"ENOTCONN", "ECONNABORTED", "ENOENT"})
"""What a mount that is gone answers; without it, its mountpoint is an empty directory."""
_PATIENCE_SECONDS = 20.0
ZERO_GAUGES = (
    "open_files",
    "open_directories",
    "files_in_use",
    "running_downloads",
    "prefetching",
    "unwritten_bytes",
    "circuits_open",
)


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the process of a mount takes."""

    pid: int
    anonymous_mib: float
    """RssAnon: its own memory, without mapped files."""
    descriptors: int
    sockets: int
    """Of these."""
    threads: int


@dataclass(slots=True)
class Rest:
    """What a mount had in its hands while nobody used it."""

    seconds: float
    """Since the soak began."""
    mount: str
    vitals: Vitals
    gauges: dict[str, int]

    def report(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Stage:
    """Mounts at ``directory/<name>``, over an archive and a bucket."""

    directory: Path
    index: Path
    servers: dict[str, Twin]
    windows: list[Window] = field(default_factory=list)
    mounts: dict[str, Mount] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)
    _stacks: dict[str, contextlib.ExitStack] = field(default_factory=dict)
    _open: list[Window] = field(default_factory=list)
    """Of the fault that is on: of mounts that have to do without."""

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def mountpoint(self, name: str) -> Path:
        return self.directory / name

    # --- mounts ------------------------------------------------------------------------------------------------------

    def mount(self, name: str) -> None:
        """Make a mount."""
        where = ("--archive", self.servers[ARCHIVE].url, "--index", self.index, "--cache-dir", self.cache)
        sizes = ("--memory-cache", f"{MEMORY_MIB}MiB", "--cache-size", f"{CACHE_MIB}MiB")
        bucket = () if name == "wado" else ("--bucket", self.servers[BUCKET].bucket_url("{bucket}"))
        options = (*where, *sizes, "--timeout", str(TIMEOUT_SECONDS), *OPTIONS[name], *bucket)
        env = {**os.environ, "PYTHONWARNINGS": "error"}
        with contextlib.ExitStack() as stack:
            made = mounted(self.mountpoint(name), *options, state_dir=self.state, env=env)
            self.mounts[name] = stack.enter_context(made)
            self._stacks[name] = stack.pop_all()
        self.made[name] = self.made.get(name, 0) + 1

    def replace(self, name: str, how: str) -> None:
        """End a mount by SIGKILL or SIGTERM, while it is used, and make it anew on the same cache."""
        window = Window(f"mount replaced by {how}", frozenset({name}), _REPLACED, time.monotonic())
        self.windows.append(window)
        pid = self.mounts[name].pid
        os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
        if not wait_until(lambda: _is_gone(pid), _PATIENCE_SECONDS):
            raise Failure(f"the process of mount {name} did not end within {_PATIENCE_SECONDS:.0f} s of {how}")
        self._stacks[name].pop_all()  # what it would take off is gone, or dead
        if how == "kill":
            self.killed[name] = self.killed.get(name, 0) + 1
        self.mount(name)
        window.until = time.monotonic()

    def take_off(self) -> None:
        """All mounts, whatever happens to one of them.

        :raises Failure: if one has to be taken off by force.
        """
        with contextlib.ExitStack() as stack:
            for one in self._stacks.values():
                stack.push(one.pop_all().__exit__)

    def ask_again(self) -> None:
        """Tell all mounts that something has changed."""
        for mount in self.mounts.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(mount.pid, signal.SIGHUP)

    # --- faults ------------------------------------------------------------------------------------------------------

    def begin(self, spell: Spell) -> Window:
        """Let the fault of a spell happen."""
        struck = frozenset(name for name, needs in _NEEDS.items() if needs <= spell.at)
        where = " and ".join(sorted(spell.at))
        window = Window(f"{spell.fault.name} ({where})", struck, spell.fault.permits, time.monotonic())
        others = replace(window, mounts=frozenset(OPTIONS) - struck, permits=frozenset())  # they have to do without
        self.windows += [window, others]
        self._open = [others]
        for name in spell.at:
            server = self.servers[name]
            match spell.fault.means:
                case Means.KNOBS:
                    server.set(**spell.fault.knobs)
                case Means.STOP:
                    os.kill(server.pid, signal.SIGSTOP)
                case Means.KILL:
                    server.kill()
        return window

    def close(self, window: Window) -> None:
        """Nothing that a fault has left may fail any more."""
        for one in (window, *self._open):
            one.until = time.monotonic()

    def end(self, spell: Spell, window: Window) -> Window:
        """Let it be over; what it left hanging may still fail, until the window is closed that is returned."""
        if spell.fault.hangs_up:
            window.until = time.monotonic()
            window = Window(f"end of {spell.fault.name}", window.mounts, BREAKS, window.until)
            self.windows.append(window)
        for name in spell.at:
            server = self.servers[name]
            if spell.fault.hangs_up:
                server.hang_up()
            match spell.fault.means:
                case Means.KNOBS:
                    server.reset()
                case Means.STOP:
                    os.kill(server.pid, signal.SIGCONT)
                case Means.KILL:
                    server.start()
        return window

    # --- what is seen of them ----------------------------------------------------------------------------------------

    def gauges(self, name: str) -> dict[str, int]:
        """Counters and gauges of a mount.

        :raises IdcfsError: if it does not answer.
        """
        counters: dict[str, int] = running.read_status(self.mountpoint(name))["counters"]
        return counters

    def circuits(self) -> list[str]:
        """Which servers are not asked at present, by which mount."""
        found = []
        for name in self.mounts:
            with contextlib.suppress(IdcfsError):
                told = running.read_status(self.mountpoint(name))
                found += [f"{name}: {one['archive']}" for one in told["circuits"] if one["open"]]
        return found

    def died(self) -> list[str]:
        """Mounts whose process is gone, though nobody ended it."""
        return [name for name, mount in self.mounts.items() if _is_gone(mount.pid)]


def vitals_of(pid: int) -> Vitals:
    """What a process takes now.

    :raises OSError: if it is gone.
    """
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    told = {words[0]: words[1] for words in lines if len(words) > 1}
    descriptors = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            descriptors.append(os.readlink(entry.path))
    sockets = sum(target.startswith("socket:") for target in descriptors)
    return Vitals(pid, round(int(told["RssAnon:"]) / 1024, 1), len(descriptors), sockets, int(told["Threads:"]))


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def held_gauges(gauges: dict[str, int], names: Sequence[str] = ZERO_GAUGES) -> dict[str, int]:
    """Those that are not zero."""
    return {name: gauges[name] for name in names if gauges[name]}


def block_sizes(cache: Path) -> tuple[list[int], list[int]]:
    """What files with contents take on disk, in bytes each: those that are whole, and those that are half written."""
    whole: list[int] = []
    unfinished: list[int] = []
    for path in (cache / BLOCKS_NAME).rglob("*"):
        with contextlib.suppress(OSError):
            found = path.stat()
            if stat.S_ISREG(found.st_mode) and not path.name.startswith("index."):
                (unfinished if path.parent.name == "tmp" else whole).append(found.st_blocks * 512)
    return whole, unfinished


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

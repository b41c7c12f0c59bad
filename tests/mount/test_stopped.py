"""Commands that a signal stops before they are done: one line, exit code 130, and nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from idcfs.namespace.builders import building_in
from scripts.harness import IDCFS, is_mounted
from tests.mount.conftest import NOWHERE, logs, without_bugs
from tests.waiting import PATIENCE_SECONDS, eventually


class Building:
    """``idcfs mount`` whose builder waits for a lock that another has."""

    def __init__(self, command: subprocess.Popen[str], place: Path, state: Path) -> None:
        self.command, self.place, self._state = command, place, state
        assert eventually(lambda: any(_holds_open(pid, "catalog.lock") for pid in _below(command.pid)))
        self.service, self.builder = _below(command.pid)

    def ends(self) -> bool:
        """Whether nothing of it is left, in a while."""
        return eventually(lambda: not any(map(_is_there, (self.service, self.builder)))) and not is_mounted(self.place)

    def log(self) -> str:
        return logs(self._state)


@contextmanager
def _building(path: Path, index: Path) -> Iterator[Building]:
    place, state, cache = path.resolve() / "mnt", path / "state", path / "cache"
    words = ("mount", place, "--archive", NOWHERE, "--index", index, "--cache-dir", cache)
    env = {**os.environ, "XDG_STATE_HOME": str(state)}
    with (
        without_bugs(state),
        subprocess.Popen([*IDCFS, *map(str, words)], env=env, stderr=subprocess.PIPE, text=True) as command,
    ):
        try:
            yield Building(command, place, state)
        finally:
            command.kill()


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """The cache directory's lock is held until this is called, or the test ends."""
    (tmp_path / "cache").mkdir(mode=0o700)
    lock = building_in(tmp_path / "cache")
    lock.__enter__()
    held = [lock]

    def let_go() -> None:
        while held:
            held.pop().__exit__(None, None, None)

    yield let_go
    let_go()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("free")
def test_a_signal_stops_the_mounting_while_the_catalog_is_built(
    number: signal.Signals, tmp_path: Path, sample_index: Path
) -> None:
    with _building(tmp_path, sample_index) as building:
        building.command.send_signal(number)
        _, said = building.command.communicate(timeout=PATIENCE_SECONDS)
        assert (building.command.returncode, said.strip()) == (130, "idcfs: stopped")
        assert building.ends()
        assert not building.place.exists()  # the mount had made it


def test_who_waits_for_a_mount_no_longer_gets_none(
    free: Callable[[], None], tmp_path: Path, sample_index: Path
) -> None:
    with _building(tmp_path, sample_index) as building:
        building.command.kill()
        building.command.wait(PATIENCE_SECONDS)
        free()
        assert building.ends()
        assert "the command that mounts was stopped" in building.log()


def test_who_waits_for_another_to_build_is_told_so(
    free: Callable[[], None], tmp_path: Path, sample_index: Path
) -> None:
    with _building(tmp_path, sample_index) as building:
        assert building.command.stderr is not None
        line = f"waiting for another idcfs that builds a catalog in {tmp_path / 'cache'}\n"
        assert building.command.stderr.readline() == f"idcfs: {line}"
        assert line in building.log()
        free()
        assert building.command.wait(PATIENCE_SECONDS) == 0
        os.kill(building.service, signal.SIGTERM)
        assert building.ends()


def test_signals_for_a_mount_that_answers_do_nothing_before(
    free: Callable[[], None], tmp_path: Path, sample_index: Path
) -> None:
    with _building(tmp_path, sample_index) as building:
        os.kill(building.service, signal.SIGHUP)
        os.kill(building.service, signal.SIGUSR1)
        free()
        assert building.command.wait(PATIENCE_SECONDS) == 0
        assert is_mounted(building.place)
        os.kill(building.service, signal.SIGTERM)
        assert building.ends()


def test_sigterm_stops_the_clearing_of_the_cache(tmp_path: Path) -> None:
    searched = tmp_path / "cache" / "searched"
    searched.mkdir(parents=True)
    command = [*IDCFS, "cache", "clear", "--cache-dir", str(tmp_path / "cache")]
    with building_in(searched), subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert eventually(lambda: _holds_open(process.pid, "catalog.lock"))
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, said.strip()) == (130, "idcfs: stopped")


def _below(pid: int) -> list[int]:
    """Children of a process, and theirs."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for child in children for one in (child, *_below(child))]


def _holds_open(pid: int, name: str) -> bool:
    with suppress(FileNotFoundError, PermissionError):  # it has ended; it runs with root's rights, as fusermount3 does
        for one in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # closed by now
                if os.readlink(f"/proc/{pid}/fd/{one}").endswith(f"/{name}"):
                    return True
    return False


def _is_there(pid: int) -> bool:
    try:
        return "Z (" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_is_quiet_while_modules_are_loaded() -> None:
    script = """
import importlib.abc, os, runpy, signal, sys
class Hit(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "idcfs.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Hit())
runpy.run_module("idcfs", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")

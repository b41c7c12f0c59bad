"""SIGHUP asks again whom nobody asked any more, SIGUSR1 says how a mount stands; neither disturbs who reads."""

from __future__ import annotations

import errno
import os
import pty
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.harness import is_mounted, status
from tests.mount.commands import in_foreground
from tests.mount.conftest import EVICTING, NOWHERE, MountMaker, logs
from tests.mount.stage import a_series, contents, counters, errno_of
from tests.twin.client import Twin
from tests.waiting import PATIENCE_SECONDS, eventually


def test_sighup_closes_the_circuit_of_an_archive_that_is_back(
    mount: MountMaker, twin: Twin, sample_index: Path, sample: Path, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", sample_index, "--timeout", "10", "--prefetch", "0")
    files = sorted(a_series(made).iterdir())
    twin.set(fail_always=503)
    assert {errno_of(path.read_bytes) for path in files} == {errno.EHOSTUNREACH}
    assert counters(made)["circuits_open"] == 1
    twin.reset()
    os.kill(made.pid, signal.SIGHUP)
    assert eventually(lambda: counters(made)["circuits_open"] == 0)
    assert sum(twin.counters()["requests"].values()) == 0
    assert files[0].read_bytes() == contents(sample)[files[0].stem]
    assert sum(twin.counters()["requests"].values()) == 1
    assert log_of().count("SIGHUP: whoever was away is asked again") == 1


def test_sighup_finds_a_quota_that_has_been_raised(
    mount: MountMaker, as_proxy: Callable[[Twin], str], twin: Twin, sample_index: Path
) -> None:
    options = ("--index", sample_index, "--prefetch", "0", "--content", "wado")
    made = mount(as_proxy(twin), *options)
    files = sorted(a_series(made).iterdir())
    twin.set(match="/instances/", quota_bytes=0)
    assert errno_of(files[0].read_bytes) == errno.EDQUOT
    [circuit] = status(made.path)["circuits"]
    assert circuit["quota"]
    twin.set(quota_bytes=None)
    os.kill(made.pid, signal.SIGHUP)
    assert eventually(lambda: counters(made)["circuits_open"] == 0)
    assert errno_of(files[0].read_bytes) == 0


def test_sigusr1_writes_all_counters_on_one_line_whatever_is_logged(
    mount: MountMaker, twin: Twin, sample_index: Path, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", sample_index, "--log-level", "error", "--timeout", "10")
    min(a_series(made).iterdir()).read_bytes()
    os.kill(made.pid, signal.SIGUSR1)
    assert eventually(lambda: log_of().count("\n") == 1)
    words = log_of().partition(": ")[2].split()
    told = dict(word.split("=") for word in words)
    assert told.keys() == counters(made).keys()
    assert {name: told[name] for name in ("qido_requests", "wado_requests", "errors")} == {
        name: str(counters(made)[name]) for name in ("qido_requests", "wado_requests", "errors")
    }
    assert int(told["wado_requests"]) > 0
    twin.set(fail_always=503)
    for path in a_series(made).iterdir():
        errno_of(path.read_bytes)
    os.kill(made.pid, signal.SIGUSR1)
    assert eventually(lambda: "circuits_open=1" in log_of())
    assert f"; {twin.url.split('/')[2]} is not asked: " in log_of().splitlines()[-1]


def test_offline_both_are_heard(mount: MountMaker, sample_index: Path, log_of: Callable[[], str]) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--offline")
    os.kill(made.pid, signal.SIGHUP)
    os.kill(made.pid, signal.SIGUSR1)
    assert eventually(lambda: "SIGHUP" in log_of() and "requests=0" in log_of())
    assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]


def test_a_flood_of_signals_changes_no_byte(mount: MountMaker, twin: Twin, sample_index: Path, sample: Path) -> None:
    made = mount(twin.url, "--index", sample_index, *EVICTING)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            os.kill(made.pid, signal.SIGHUP)
            os.kill(made.pid, signal.SIGUSR1)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert contents(made.path) == contents(sample)
    finally:
        stop.set()
        thread.join()
    assert counters(made)["errors"] == 0


# --- the foreground -----------------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, Callable[[], None]]]:
    """A terminal, and what closes its window."""
    window, inside = pty.openpty()
    left = [window]
    yield inside, lambda: os.close(left.pop())
    for descriptor in (*left, inside):
        os.close(descriptor)


def test_a_terminal_that_closes_ends_what_runs_in_it(
    words: tuple[str, ...], tmp_path: Path, terminal: tuple[int, Callable[[], None]]
) -> None:
    inside, close_window = terminal
    place = tmp_path.resolve() / "mnt"
    with in_foreground(place, *words, state=tmp_path / "state", terminal=inside) as process:
        close_window()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not is_mounted(place)
    assert "SIGHUP: unmounting" in logs(tmp_path / "state")


def test_without_a_terminal_sighup_asks_again(words: tuple[str, ...], tmp_path: Path) -> None:
    place, state = tmp_path.resolve() / "mnt", tmp_path / "state"
    with in_foreground(place, *words, state=state) as process:
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "SIGHUP: whoever was away is asked again" in logs(state))
        assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


def test_what_is_to_outlive_its_terminal_does(
    words: tuple[str, ...], tmp_path: Path, terminal: tuple[int, Callable[[], None]]
) -> None:
    """As after nohup(1), where stdin stays the terminal in a shell's background."""
    inside, _ = terminal
    place, state = tmp_path.resolve() / "mnt", tmp_path / "state"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with in_foreground(place, *words, state=state, terminal=inside) as process:
            process.send_signal(signal.SIGHUP)
            assert eventually(lambda: "SIGHUP: whoever was away is asked again" in logs(state))
            assert is_mounted(place)
    finally:
        signal.signal(signal.SIGHUP, before)

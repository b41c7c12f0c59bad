"""What a service manager hears of a mount: the tests play systemd's end of NOTIFY_SOCKET."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from idcfs import notify
from scripts.harness import mounted
from tests.mount.commands import in_foreground
from tests.mount.conftest import logs, without_bugs
from tests.waiting import PATIENCE_SECONDS, eventually

VARIABLE = "NOTIFY_SOCKET"


class Manager:
    """Its end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.settimeout(PATIENCE_SECONDS)
        self.address = address

    def hears(self) -> dict[str, str]:
        """The next message, by names."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@idcfs-tests-{os.getpid()}"
    with closing(Manager(address)) as made:
        yield made


def test_it_hears_of_every_turn_of_a_mount_in_the_foreground(
    manager: Manager, words: tuple[str, ...], tmp_path: Path
) -> None:
    place, env = tmp_path.resolve() / "mnt", {VARIABLE: manager.address}
    with in_foreground(place, *words, state=tmp_path / "state", env=env) as process:
        assert manager.hears() == {"READY": "1", "STATUS": f"mounted at {place}"}
        assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        process.send_signal(signal.SIGHUP)
        told = manager.hears()
        assert (told.pop("RELOADING"), told.pop("STATUS")) == ("1", "asking every server again")
        assert before <= int(told.pop("MONOTONIC_USEC")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert told == {}
        assert manager.hears()["READY"] == "1"
        process.terminate()
        assert manager.hears()["STOPPING"] == "1"
        assert process.wait(PATIENCE_SECONDS) == 0


def test_of_a_mount_in_the_background_it_hears_which_process_it_is(
    manager: Manager, words: tuple[str, ...], tmp_path: Path
) -> None:
    place, env = tmp_path.resolve() / "mnt", {**os.environ, VARIABLE: manager.address}
    with mounted(place, *words, state_dir=tmp_path / "state", env=env) as made:
        assert manager.hears() == {"READY": "1", "STATUS": f"mounted at {place}", "MAINPID": str(made.pid)}
        os.kill(made.pid, signal.SIGHUP)
        assert "RELOADING" in manager.hears()
        assert manager.hears() == {"READY": "1", "STATUS": f"mounted at {place}"}
    assert manager.hears()["STOPPING"] == "1"


@pytest.mark.parametrize("address", ["/nonexistent/notify", "@idcfs-nobody", "vsock:2:1", "@" + 200 * "x"])
def test_nobody_who_listens_is_one_line_in_the_log(address: str, words: tuple[str, ...], tmp_path: Path) -> None:
    place, state = tmp_path.resolve() / "mnt", tmp_path / "state"
    with without_bugs(state), in_foreground(place, *words, state=state, env={VARIABLE: address}):
        assert eventually(lambda: logs(state).count("the service manager cannot be told") == 1)
        assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]


def test_a_mount_that_fails_is_never_ready(words: tuple[str, ...], tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with closing(Manager(address)) as manager:
        (tmp_path / "full" / "something").mkdir(parents=True)
        with (
            pytest.raises(Exception, match="not empty"),
            mounted(tmp_path / "full", *words, state_dir=tmp_path / "state", env={**os.environ, VARIABLE: address}),
        ):
            pass
        manager._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.hears()


def test_nobody_waits_for_a_manager_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float | None] = []

    class Watched(socket.socket):
        def sendto(self, *words: Any) -> int:
            waited.append(self.gettimeout())
            return super().sendto(*words)

    monkeypatch.setattr(socket, "socket", Watched)
    with closing(Manager(str(tmp_path / "notify"))) as manager:
        monkeypatch.setenv(VARIABLE, manager.address)
        notify.stopping()
        assert manager.hears()["STOPPING"] == "1"
    assert waited == [0.0]

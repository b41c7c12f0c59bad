"""The unit files: systemd understands them, and what they say to run mounts, asks again, ends and cleans up."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

import pytest

from idcfs import mounts
from scripts.harness import is_mounted
from tests.mount.conftest import NOWHERE
from tests.waiting import PATIENCE_SECONDS, eventually

CHECKOUT = Path(__file__).parents[2]
KINDS = ("user", "system")
PROGRAM = "/usr/local/bin/idcfs"


def unit(kind: str) -> str:
    return (CHECKOUT / "scripts" / "systemd" / kind / "idcfs@.service").read_text()


def service(kind: str) -> dict[str, str]:
    """Its section [Service]."""
    parser = ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(unit(kind))
    return dict(parser["Service"])


@pytest.mark.parametrize("kind", KINDS)
def test_systemd_understands_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    program = Path(sys.executable).with_name("idcfs")
    file = tmp_path / "idcfs@mnt-idc.service"
    file.write_text(unit(kind).replace(PROGRAM, str(program)))
    command = ["systemd-analyze", "verify", "--man=no", f"--{kind}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_no_private_mount_namespace_hides_the_mount(kind: str) -> None:
    hiding = {"PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ProtectKernelTunables"}
    hiding |= {"ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ReadOnlyPaths"}
    hiding |= {"InaccessiblePaths", "ReadWritePaths", "BindPaths", "TemporaryFileSystem", "DynamicUser"}
    assert not hiding & service(kind).keys()


def test_for_a_user_fusermount3_may_become_root() -> None:
    """All of these imply NoNewPrivileges= there (systemd.exec(5))."""
    implying = {"NoNewPrivileges", "SystemCallFilter", "RestrictAddressFamilies", "RestrictNamespaces"}
    implying |= {"RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "SystemCallArchitectures"}
    assert not implying & service("user").keys()


@contextmanager
def started(kind: str, place: Path, options: list[str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What the unit starts, as systemd would, once it has said that it is ready."""
    settings = service(kind)
    words = shlex.split(settings["ExecStart"])
    assert words[0] == PROGRAM
    filled = {PROGRAM: [sys.executable, "-m", "idcfs"], "$MOUNT_ARGS": options, "%f": [str(place)]}
    command = [one for word in words for one in filled.get(word, [word])]
    if kind == "system" and os.geteuid() == 0:
        bounds = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in _capabilities(settings))])
        command = ["setpriv", f"--bounding-set={bounds}", "--no-new-privs", *command]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "XDG_STATE_HOME": str(tmp_path / "state")}
        process = subprocess.Popen(command, env=env, cwd="/", stdin=subprocess.DEVNULL, umask=0o077)
        try:
            assert b"READY=1" in manager.recv(4096)
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE_SECONDS)
            if is_mounted(place):
                subprocess.run(["fusermount3", "-u", "-z", place], check=False)


def _capabilities(settings: dict[str, str]) -> list[str]:
    return settings["CapabilityBoundingSet"].split()


@pytest.mark.parametrize("kind", KINDS)
def test_it_mounts_reloads_ends_and_cleans_up(kind: str, tmp_path: Path, sample_index: Path) -> None:
    place = tmp_path.resolve() / "mnt"
    options = ["--archive", NOWHERE, "--index", str(sample_index), "--cache-dir", str(tmp_path / "cache")]
    settings = service(kind)
    with started(kind, place, options, tmp_path) as process:
        assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
        reload = settings["ExecReload"].replace("$MAINPID", str(process.pid))
        subprocess.run(shlex.split(reload), check=True)
        assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
        process.terminate()  # KillSignal= is SIGTERM
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not is_mounted(place)
    (tmp_path / "notify").unlink()
    with started(kind, place, options, tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
        assert eventually(lambda: mounts.is_stale(place))
        after = settings["ExecStopPost"].removeprefix("-").replace("%f", str(place))
        subprocess.run(shlex.split(after), check=True)
        assert not is_mounted(place)


def test_make_writes_the_unit_of_this_checkout(tmp_path: Path) -> None:
    command = ["make", "-C", str(CHECKOUT), "install-service", f"UNIT_DIR={tmp_path / 'units'}"]
    environment = f"VENV={Path(sys.executable).parent.parent}"
    subprocess.run([*command, environment], check=True, capture_output=True)
    kind = "system" if os.geteuid() == 0 else "user"
    program = str(Path(sys.executable).with_name("idcfs"))
    assert (tmp_path / "units" / "idcfs@.service").read_text() == unit(kind).replace(PROGRAM, program)

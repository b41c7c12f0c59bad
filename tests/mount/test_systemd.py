"""The unit files: systemd understands them, and what they say to run mounts, asks again, ends and cleans up."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from scripts.harness import detach, is_mounted, run
from tests.mount.conftest import NOWHERE, users_home
from tests.unprivileged import AS_NOBODY
from tests.waiting import PATIENCE_SECONDS

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


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory in which sockets fit: other units have theirs in it, and a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.parametrize("kind", KINDS)
def test_systemd_understands_it(kind: str, tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):  # where systemd looks for what belongs to it
        monkeypatch.setenv(name, str(short_path))
    program = Path(sys.executable).with_name("idcfs")
    file = tmp_path / "idcfs@mnt-idc.service"
    file.write_text(unit(kind).replace(PROGRAM, str(program)))
    command = ["systemd-analyze", "verify", "--man=no", f"--{kind}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_used_is_not_started_again(kind: str) -> None:
    assert service(kind)["RestartPreventExitStatus"] == "2"


@pytest.mark.parametrize("kind", KINDS)
def test_no_private_mount_namespace_hides_the_mount(kind: str) -> None:
    hiding = {"PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ProtectKernelTunables"}
    hiding |= {"ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ReadOnlyPaths"}
    hiding |= {"InaccessiblePaths", "ReadWritePaths", "BindPaths", "TemporaryFileSystem", "DynamicUser"}
    assert not hiding & service(kind).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_it_needs_no_program_that_a_machine_may_lack(kind: str) -> None:
    """A shell and what fuse3 brings are there; kill is not, without procps."""
    commands = [words for name, words in service(kind).items() if name.startswith("Exec")]
    assert {shlex.split(words)[0].lstrip("-") for words in commands} == {PROGRAM, "/bin/sh", "/usr/bin/fusermount3"}


def test_for_a_user_fusermount3_may_become_root() -> None:
    """All of these imply NoNewPrivileges= there (systemd.exec(5))."""
    implying = {"NoNewPrivileges", "SystemCallFilter", "RestrictAddressFamilies", "RestrictNamespaces"}
    implying |= {"RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "SystemCallArchitectures"}
    assert not implying & service("user").keys()


@pytest.fixture
def home() -> Iterator[Path]:
    """Where a service of either kind may write."""
    with users_home() as place:
        yield place


def standing(kind: str) -> list[str]:
    """What stands before a command that is to have the rights that systemd would give it, where root runs the tests."""
    if os.geteuid() != 0:
        return []
    if kind == "user":
        return list(AS_NOBODY)
    kept = (name.removeprefix("CAP_").lower() for name in service(kind)["CapabilityBoundingSet"].split())
    return ["setpriv", f"--bounding-set={','.join(['-all', *(f'+{name}' for name in kept)])}", "--no-new-privs"]


def specifiers(kind: str, home: Path) -> dict[str, str]:
    """What systemd puts into a unit's words, were ``home`` a home directory, or the root."""
    system = {"%E": "etc", "%C": "var/cache", "%S": "var/lib"}
    user = {"%E": ".config", "%C": ".cache", "%S": ".local/state"}
    places = {one: str(home / place) for one, place in (system if kind == "system" else user).items()}
    return {**places, "%f": str(home / "mnt"), "%i": "home-mnt"}


def filled(kind: str, home: Path, name: str) -> str:
    """What stands for ``name`` in the section [Service], as systemd reads it."""
    text = service(kind).get(name, "")
    for specifier, value in specifiers(kind, home).items():
        text = text.replace(specifier, value)
    return text


def write_settings(kind: str, home: Path, config: str, variables: str) -> None:
    """The two files that the documents name: for all mounts, and for this one."""
    env_file = Path(filled(kind, home, "EnvironmentFile").removeprefix("-"))
    assert env_file == Path(specifiers(kind, home)["%E"], "idcfs", "home-mnt.env")
    env_file.parent.mkdir(parents=True)
    env_file.with_name("config.toml").write_text(config)
    env_file.write_text(variables)


@contextlib.contextmanager
def started(kind: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What the unit starts for ``home / "mnt"``, as systemd would, once it has said that it is ready."""
    place, address = home / "mnt", home / "notify"
    words = shlex.split(filled(kind, home, "ExecStart"))
    assert words[0] == PROGRAM
    command = [*standing(kind), sys.executable, "-m", "idcfs", *words[1:]]
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    env |= {"NOTIFY_SOCKET": str(address)} | ({"HOME": str(home)} if kind == "user" else {})
    variables = filled(kind, home, "Environment"), Path(filled(kind, home, "EnvironmentFile")[1:]).read_text()
    env |= dict(word.split("=", 1) for text in variables for word in shlex.split(text))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address.unlink(missing_ok=True)
        manager.bind(str(address))
        address.chmod(0o777)
        manager.settimeout(PATIENCE_SECONDS)
        process = subprocess.Popen(command, env=env, cwd=home, stdin=subprocess.DEVNULL, umask=0o077)
        try:
            assert b"READY=1" in manager.recv(4096)
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE_SECONDS)
            detach(place)


@pytest.mark.parametrize("kind", KINDS)
def test_it_mounts_reloads_ends_and_cleans_up(kind: str, home: Path, sample_index: Path) -> None:
    place, settings = home / "mnt", service(kind)
    index = shutil.copyfile(sample_index, home / "index.parquet")
    write_settings(
        kind,
        home,
        f'archive = "{NOWHERE}"\ncollection = "rider_twin"',
        f"""
        IDCFS_INDEX={index}
        IDCFS_COLLECTION="chest_twin rider_twin"
    """,
    )
    with started(kind, home) as process:
        report = json.loads(run([*standing(kind), "cat", place / ".status.json"]))
        assert (report["url"], report["cache_dir"]) == (NOWHERE, f"{specifiers(kind, home)['%C']}/idcfs")
        assert "drwxr-xr-x" in run([*standing(kind), "ls", "-l", place])
        reload = settings["ExecReload"].replace("$MAINPID", str(process.pid))
        run([*standing(kind), *shlex.split(reload)])
        assert "chest_twin" in run([*standing(kind), "ls", place])
        process.terminate()  # KillSignal= is SIGTERM
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not is_mounted(place)
    with started(kind, home) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
        assert is_mounted(place)
        after = settings["ExecStopPost"].removeprefix("-").replace("%f", str(place))
        run([*standing(kind), *shlex.split(after)])
        assert not is_mounted(place)


def test_make_writes_the_unit_of_this_checkout(tmp_path: Path) -> None:
    command = ["make", "-o", "setup", "-C", str(CHECKOUT), "install-service", f"UNIT_DIR={tmp_path / 'units'}"]
    environment = f"VENV={Path(sys.executable).parent.parent}"
    subprocess.run([*command, environment], check=True, capture_output=True)
    kind = "system" if os.geteuid() == 0 else "user"
    program = str(Path(sys.executable).with_name("idcfs"))
    assert (tmp_path / "units" / "idcfs@.service").read_text() == unit(kind).replace(PROGRAM, program)

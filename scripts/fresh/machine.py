"""A fresh machine: a bare root directory, and the namespaces in which it is one.

It has processes, mounts, a host name and a network of its own, which is its loopback and the gate. All of it goes when
the program that made it ends, however that ends; what may stay after SIGKILL is the directory.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.fresh.gate import Gate
from scripts.fresh.packages import Packages
from scripts.harness import Failure

PREINSTALLED = ("make", "sudo")
"""What is there beside the packages without which no Debian is one (debootstrap's minbase)."""
USER = "dev"
HOME = Path("home") / USER
CHECKOUT = HOME / "idcfs"
_CHECKOUT_HERE = Path(__file__).resolve().parents[2]
_NUMBER = 1000
_END_SECONDS = 10.0
"""How long processes that have been told to end may take for it."""


def make_base(tarball: Path, packages: Packages) -> None:
    """Write a bare root directory with a checkout's user into ``tarball``.

    :raises Failure: if debootstrap fails.
    """
    directory = tarball.with_suffix(".making")
    try:
        include = ",".join(PREINSTALLED)
        _run("debootstrap", "--variant=minbase", f"--include={include}", packages.suite, directory, packages.mirror)
        _run("chroot", directory, "apt-get", "clean")
        _run("tar", "-C", directory, "-cf", tarball.with_suffix(".part"), ".")
        tarball.with_suffix(".part").rename(tarball)
    finally:
        _remove(directory)


@dataclass(frozen=True, slots=True)
class Machine:
    """One that runs."""

    root: Path
    """Its root directory, seen from outside."""
    init: int
    """Its first process, seen from outside."""
    gate: Gate
    own_mounts: frozenset[str]
    """What is mounted before anybody does anything."""

    def run(self, command: str, user: str, log: Path) -> int:
        """Run a line of shell as ``user`` who has just logged in, in the checkout; what it says goes to ``log``, too.

        :returns: its exit code.
        """
        enter = ["nsenter", f"--target={self.init}", "--mount", "--pid", "--net", "--ipc", "--uts", "--wd=/"]
        line = f"cd /{CHECKOUT} && {command}"
        words = [*enter, "--", "/usr/sbin/runuser", "--login", user, "--command", line]
        # Nothing of the environment here is a fresh machine's.
        with subprocess.Popen(
            words, env={"TERM": "dumb"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            try:
                with log.open("ab") as kept:
                    for said in process.stdout:
                        kept.write(said)
                        sys.stdout.buffer.write(b"    " + said)
                        sys.stdout.flush()
            except BaseException:
                process.kill()  # what it has started in there ends with the machine
                raise
        return process.returncode

    def left(self) -> list[str]:
        """What still runs and is mounted beyond what is there at the start, after time to end."""
        end = time.monotonic() + _END_SECONDS
        while (found := self._left()) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def _left(self) -> list[str]:
        processes = [
            f"process {path.name}: {_command_line(path)}"
            for path in Path(f"/proc/{self.init}/root/proc").glob("[0-9]*")
            if path.name != "1"
        ]
        return processes + [f"mount: {line}" for line in sorted(_mounts_of(self.init) - self.own_mounts)]


@contextlib.contextmanager
def booted(base: Path, scratch: Path, packages: Packages) -> Iterator[Machine]:
    """A machine from the tarball ``base`` with this checkout's last commit on it, which ends with the block.

    :raises Failure: if it cannot be made.
    """
    root = scratch / "root"
    root.mkdir()
    try:
        _run("tar", "-C", root, "-xf", base)
        with _running(root, packages) as (init, listening):
            gate = Gate(listening, packages.hosts)
            try:
                _furnish(root, packages, "http://{}:{}".format(*gate.address))
                yield Machine(root, init, gate, _mounts_of(init))
            finally:
                gate.close()
    finally:
        _remove(root)


@contextlib.contextmanager
def _running(root: Path, packages: Packages) -> Iterator[tuple[int, socket.socket]]:
    """The namespaces with ``root``: the first process's number, and a socket of their loopback."""
    ours, theirs = socket.socketpair()
    spaces = ("--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--propagation=private")
    boot = [sys.executable, "-m", "scripts.fresh.boot", str(root), str(theirs.fileno())]
    # Its standard input ends with this program, and it with that; it has a session of its own, so Ctrl-C is for us.
    with subprocess.Popen(
        ["unshare", *spaces, *boot, *map(str, packages.directories)],
        cwd=_CHECKOUT_HERE,
        stdin=subprocess.PIPE,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    ) as process:
        theirs.close()
        try:
            with ours:
                number, descriptors, _, _ = socket.recv_fds(ours, 64, 1)
            if not descriptors:
                raise Failure("the machine did not start")
            yield int(number), socket.socket(fileno=descriptors[0])
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _furnish(root: Path, packages: Packages, proxy: str) -> None:
    """What somebody has before typing the README's first command: a user, a network, the checkout."""
    packages.write(root, proxy)
    (root / "etc/hosts").write_text("127.0.0.1 localhost fresh\n::1 localhost\n")
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n")
    (root / "etc/sudoers.d" / USER).write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    _run("chroot", root, "useradd", "--create-home", "--shell=/bin/bash", f"--uid={_NUMBER}", USER)
    checkout = root / CHECKOUT
    checkout.mkdir()
    archive = subprocess.Popen(["git", "archive", "HEAD"], cwd=_CHECKOUT_HERE, stdout=subprocess.PIPE)
    with archive:
        subprocess.run(["tar", "-C", checkout, "-xf", "-"], stdin=archive.stdout, check=True)
    if archive.returncode:
        raise Failure("git cannot say what was committed last")
    _run("chown", "-R", f"{_NUMBER}:{_NUMBER}", checkout)


def on_disk(path: Path) -> int:
    """Bytes that all below ``path`` takes, other file systems apart; 0 if there is nothing."""
    if not path.exists():
        return 0
    # It fails where a file goes meanwhile, as of what still runs in there, and has counted the others.
    done = subprocess.run(["du", "-sxB1", path], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0])


def _remove(directory: Path) -> None:
    """Remove a root directory, in which nothing is mounted here."""
    if directory.exists():
        _run("rm", "-rf", "--one-file-system", directory)


def _run(*words: str | Path) -> None:
    """:raises Failure: if it is not there, or fails, with the last of what it said."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failure(f"{words[0]} is not installed") from None
    if done.returncode:
        said = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-20:])
        raise Failure(f"{shlex.join(map(str, words))} failed (exit code {done.returncode}):\n{said}")


def _mounts_of(init: int) -> frozenset[str]:
    """Where something is mounted, with the type: ``fuse.idcfs /home/…``."""
    lines = (line.split() for line in Path(f"/proc/{init}/mounts").read_text().splitlines())
    return frozenset(f"{kind} {path}" for _, path, kind, *_ in lines)


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") or "(none)"
    except OSError:
        return "(gone)"

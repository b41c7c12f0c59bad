"""The first process of a fresh machine: ``python -m scripts.fresh.boot ROOT SOCKET``, in namespaces of its own.

Mounts what a kernel and its init mount, makes the socket on which the gate is to listen, and sends it, with its own
number outside, over the descriptor ``SOCKET``; then ``ROOT`` becomes the root, and the process a bash of there, which
has the one duty of every init, to take in orphans. It ends, and with it everything, when standard input does.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

NAME = "fresh"
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_FUSE = (10, 229)
_LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}


def main() -> None:
    root, control = Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    number = os.readlink("/proc/self")  # of the /proc outside
    socket.sethostname(NAME)
    _command("ip", "link", "set", "lo", "up")
    gate = socket.create_server(("127.0.0.1", 0))
    _mounts(root, [Path(word) for word in sys.argv[3:]])
    os.chdir(root)
    (root / "oldroot").mkdir()
    _command("pivot_root", ".", "oldroot")
    os.chdir("/")
    _command("umount", "--lazy", "/oldroot")
    os.rmdir("/oldroot")
    socket.send_fds(control, [number.encode()], [gate.fileno()])
    control.close()
    gate.close()
    os.execv("/bin/bash", ["bash", "-c", "read -r _"])


def _mounts(root: Path, shared: list[Path]) -> None:
    _command("mount", "--bind", root, root)
    _mount("proc", root / "proc")
    _mount("sysfs", root / "sys")
    _mount("fusectl", root / "sys/fs/fuse/connections")
    _mount("tmpfs", root / "run", "mode=755")
    _mount("tmpfs", root / "dev", "mode=755")
    _devices(root / "dev")
    (root / "etc/mtab").symlink_to("../proc/self/mounts")  # without which fusermount3 takes nothing off
    for path in shared:
        inside = root / path.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        _command("mount", "--bind", path, inside)
        _command("mount", "-o", "remount,bind,ro", inside)


def _devices(dev: Path) -> None:
    """What udev makes, with its modes: everybody may open /dev/fuse."""
    os.umask(0)
    for name, (major, minor) in {**_DEVICES, "fuse": _FUSE}.items():
        os.mknod(dev / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
    os.umask(0o022)
    for name, kind, options in (
        ("pts", "devpts", "newinstance,ptmxmode=666,mode=620,gid=5"),
        ("shm", "tmpfs", "mode=1777"),
    ):
        (dev / name).mkdir()
        _mount(kind, dev / name, options)


def _mount(kind: str, path: Path, options: str = "") -> None:
    _command("mount", "-t", kind, *(["-o", options] if options else []), kind, path)


def _command(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()

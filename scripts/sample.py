"""The sample archive as users have it: a home directory with the archive mounted at ``~/idc``, and nothing beyond.

What the documents show comes from here: their examples are run by the tests (tests/mount/test_documents.py), their
pictures are made by ``scripts.session`` and ``scripts.pictures``. Whoever wants to try the examples mounts it:

    .venv/bin/python -m scripts.sample MOUNTPOINT
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from idcfs import mounts
from scripts.harness import (
    COMMAND_SECONDS,
    NOWHERE,
    Failure,
    Mount,
    detach,
    is_mounted,
    mounted,
    program,
    scratch_directory,
)
from tests.data import sample_archive, whole_slide, write_index
from tests.twin.client import Twin

CHECKOUT = Path(__file__).resolve().parents[1]
_END = "\x01"
"""Stands behind what a command printed; no program here prints it."""


@dataclass(frozen=True, slots=True)
class Home:
    """A user's home directory, with ``~/idc`` mounted."""

    path: Path
    mount: Mount
    env: Mapping[str, str]
    """What the user's programs find in their environment: ``idcfs`` is on the PATH."""

    def session(self, commands: Sequence[str]) -> list[tuple[str, int]]:
        """What each of ``commands`` of one bash prints, and its exit code; fewer, if bash ends early.

        Printed is what comes on stdout and stderr, with the home directory as ``~``.
        """
        script = "exec 2>&1\n" + "".join(f"{command}\nprintf '{_END}%d{_END}' $?\n" for command in commands)
        printed = self.run(["bash", "-c", script]).split(_END)
        return [(output, int(code)) for output, code in zip(printed[:-1:2], printed[1::2], strict=True)]

    def run(self, command: Sequence[str]) -> str:
        """What a program prints that is started in the home directory, as in ``session``; whatever its exit code."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.stdout.replace(str(self.path), "~")


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m scripts.sample MOUNTPOINT", file=sys.stderr)
        return 2
    return program("sample", lambda: keep_mounted(Path(sys.argv[1]).resolve()))


def keep_mounted(mountpoint: Path) -> None:
    """Have the sample archive at ``mountpoint`` until Ctrl-C, or until it is unmounted.

    :raises Failure: as ``sample_home``.
    """
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory("idcfs-sample-"))
        source, index = make_sample(scratch)
        twin = stack.enter_context(Twin(data=source))
        options = ("--archive", twin.url, "--index", index, "--cache-dir", scratch / "cache")
        with mounted(mountpoint, *options, state_dir=scratch / "state"):
            print(f"The sample archive is mounted at {mountpoint}, until Ctrl-C.")
            print(f"Its cache, for 'idcfs cache': --cache-dir {scratch / 'cache'}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                while is_mounted(mountpoint):
                    time.sleep(1)
        print(f"{mountpoint} is unmounted.")


def make_sample(place: Path) -> tuple[Path, Path]:
    """The archive of ``make demo`` and a slide of three levels, below ``place``: its directory, and its index."""
    source = sample_archive(place / "source")
    whole_slide(source / "slides_twin" / "slide", across=4)
    return source, write_index(source, place / "index.parquet")


@contextlib.contextmanager
def sample_home(place: Path) -> Iterator[Home]:
    """A home below ``place``, an empty directory, where ``~/idc`` is the sample archive.

    :raises Failure: if it cannot be mounted, or has to be taken off by force.
    """
    source, index = make_sample(place)
    with Twin(data=source) as twin, home_over(twin.url, index, place) as home:
        yield home


@contextlib.contextmanager
def home_over(url: str, index: Path, place: Path) -> Iterator[Home]:
    """A home below ``place`` where ``~/idc`` is what the archive at ``url`` and ``index`` hold.

    :raises Failure: if it cannot be mounted, or has to be taken off by force.
    """
    path = place.resolve() / "home"
    path.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "IDCFS_"))}
    env |= {"HOME": str(path), "PATH": f"{_commands(place / 'bin')}:{env['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    # What a command in such a home does cannot reach the real archive.
    env |= {"IDCFS_PROXY_URL": NOWHERE, "LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "100"}
    options = ("--archive", url, "--index", index, "--cache-dir", path / ".cache" / "idcfs")
    try:
        with mounted(path / "idc", *options, state_dir=path / ".local" / "state", env=env) as mount:
            yield Home(path, mount, env)
    finally:
        _take_off_others(path)


def _commands(directory: Path) -> Path:
    """A directory with ``idcfs`` and ``python3``, those of this checkout."""
    directory.mkdir()
    python = shlex.quote(sys.executable)
    for name, command in (("idcfs", f"{python} -m idcfs"), ("python3", python)):
        (directory / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (directory / name).chmod(0o755)
    return directory


def _take_off_others(home: Path) -> None:
    """What was mounted below ``home`` and is still there: an example that failed half-way leaves its own."""
    for mount in reversed(mounts.mounts()):
        if home in mount.path.parents:
            with contextlib.suppress(Failure):
                detach(mount.path)


if __name__ == "__main__":
    sys.exit(main())

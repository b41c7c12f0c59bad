"""What the programs here share: how they begin and end, the command ``idcfs``, and a mount that comes off again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from idcfs import mounts
from idcfs.errors import IdcfsError

IDCFS = (sys.executable, "-m", "idcfs")
NOWHERE = "http://127.0.0.1:9/dicomWeb"
"""An archive that nobody serves: whoever is mounted over it has not sent a request."""
COMMAND_SECONDS = 120.0
"""Nothing that is run here takes so long unless it hangs."""
PATIENCE_SECONDS = 15.0
"""How long a command may take to its end when the program that waits for it is told to stop."""


class Failure(Exception):
    """What ends a program with one line."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that answers."""

    path: Path
    pid: int
    seconds: float
    """How long ``idcfs mount`` took."""


def program(name: str, work: Callable[[], int | None], *, needs_fuse: bool = True) -> int:
    """Run ``work`` so that whatever ends it unwinds it, and without the settings of whoever starts it.

    :param work: returns an exit code; None is 0.
    :param needs_fuse: whether it mounts anything.
    :returns: the exit code: 1, after one line, for a ``Failure``, 130 for Ctrl-C.
    """
    _end_on_signals()
    try:
        if needs_fuse:
            _need_fuse()
        without_settings()
        return work() or 0
    except Failure as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        return 130


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What ``command`` prints.

    :raises Failure: if it fails, with the last thing it said.
    """
    words = [str(word) for word in command]
    try:
        # In a session of its own: Ctrl-C is for the one who waits for it here.
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise Failure(f"{words[0]} is not installed") from None
    with process:
        try:
            output, errors = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failure(f"{_shown(words)} did not end within {COMMAND_SECONDS:.0f} s") from None
        except BaseException:
            # It may be half-way through a mount that goes on without it: let it end, so that it is known what is there.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=PATIENCE_SECONDS)
            process.kill()
            raise
    if process.returncode != 0:
        said = (errors.strip() or output.strip() or "it said nothing").splitlines()[-1]
        raise Failure(f"{_shown(words)} failed (exit code {process.returncode}): {said}")
    return output


def status(mountpoint: Path) -> dict[str, Any]:
    """What the mount says of itself."""
    report: dict[str, Any] = json.loads((mountpoint / ".status.json").read_bytes())
    return report


@contextlib.contextmanager
def mounted(
    mountpoint: Path, *options: str | Path, state_dir: Path, env: Mapping[str, str] | None = None
) -> Iterator[Mount]:
    """``idcfs mount MOUNTPOINT OPTIONS…``, taken off again whatever happens; its log goes into ``state_dir``.

    :param env: all that it finds in its environment, but where its log goes; None: what is here.
    :raises Failure: if it cannot be mounted, or has to be taken off by force.
    """
    if is_mounted(mountpoint) and not mounts.is_stale(mountpoint):  # somebody else's, not to be taken off here
        raise Failure(f"something is mounted at {mountpoint} already: take it off first, or choose another place")
    command = [*IDCFS, "mount", mountpoint, *options]
    pid = 0
    try:
        started = time.perf_counter()
        run(command, env={**(os.environ if env is None else env), "XDG_STATE_HOME": str(state_dir)})
        seconds = time.perf_counter() - started
        pid = int(status(mountpoint)["pid"])
        yield Mount(mountpoint, pid, seconds)
    except BaseException:
        with contextlib.suppress(Failure):  # what went wrong first is what is told
            _take_off(mountpoint, pid)
        raise
    _take_off(mountpoint, pid)


def _take_off(mountpoint: Path, pid: int) -> None:
    """Unmount if it is still mounted: politely, and if that fails, not.

    :raises Failure: if force was needed.
    """
    if not is_mounted(mountpoint):
        return
    try:
        run([*IDCFS, "umount", mountpoint])
    except Failure as error:
        print(f"{error}; detaching {mountpoint} by force", file=sys.stderr)
        with contextlib.suppress(Failure):
            detach(mountpoint)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if is_mounted(mountpoint):
            print(f"{mountpoint} is still mounted: try 'umount -l {mountpoint}' as root", file=sys.stderr)
        raise


@contextlib.contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """A directory for everything that is made here; it goes with the program, mounts that would not come off apart."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as path:
        yield Path(path).resolve()


def is_mounted(path: Path) -> bool:
    """Whether something is mounted at ``path``; without asking it, for it may be dead."""
    return mounts.mount_at(Path(os.path.realpath(path))) is not None


def detach(path: Path) -> None:
    """Take off what is mounted at ``path``, if anything is, though it be in use or dead.

    :raises Failure: if it stays.
    """
    if is_mounted(path):
        try:
            mounts.unmount(path, lazy=True)
        except IdcfsError as error:
            raise Failure(str(error)) from None


def without_settings() -> None:
    """Neither the file of whoever runs this nor their environment is to set anything for ``idcfs mount``."""
    os.environ["XDG_CONFIG_HOME"] = os.devnull  # in which there is no file
    for name in [name for name in os.environ if name.startswith("IDCFS_")]:
        del os.environ[name]


def _need_fuse() -> None:
    """:raises Failure: if nothing can be mounted here."""
    if (refusal := mounts.refusal_of_fuse()) is not None:
        raise Failure("; ".join(refusal))
    if shutil.which("fusermount3") is None:
        raise Failure(mounts.NO_FUSERMOUNT)


def _end_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the program like Ctrl-C does, so that nothing stays mounted."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def in_bytes(count: float) -> str:
    """``157.4 MB``"""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.1f} {units[0]}".replace(".0 B", " B")


def _shown(words: Sequence[str]) -> str:
    """A command as a person would write it."""
    text = " ".join(words)
    return text.replace(" ".join(IDCFS), "idcfs", 1) if text.startswith(" ".join(IDCFS)) else text

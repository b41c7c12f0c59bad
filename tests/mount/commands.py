"""The command as users run it, whatever comes of it."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.harness import IDCFS, detach, is_mounted
from tests.waiting import PATIENCE_SECONDS, eventually


def idcfs(
    *words: str | Path, stdin: str | None = None, state: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``idcfs WORDS…`` to its end.

    :param stdin: what it reads there; without, what the tests' own process would.
    :param state: stands for XDG_STATE_HOME.
    """
    env = None if state is None else {**os.environ, "XDG_STATE_HOME": str(state)}
    return ended(*IDCFS, *words, stdin=stdin, cwd=cwd, env=env)


def ended(
    *words: str | Path, stdin: str | None = None, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run any command to its end.

    :param stdin: what it reads there; without, what the tests' own process would.
    :param env: all of its environment; without, that of the tests.
    """
    command = [str(word) for word in words]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=cwd
    )


@contextmanager
def in_foreground(
    place: Path, *words: str | Path, state: Path, env: Mapping[str, str] | None = None, terminal: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """``idcfs mount -f PLACE WORDS…``, answering; ended and taken off at the end, however that comes.

    Its log, what it says on stderr, is ``state / "idcfs" / "foreground.log"``, where ``conftest.logs`` looks too.

    :param env: what it finds in its environment besides what is here.
    :param terminal: descriptor of the terminal that it runs in, as the leader of that terminal's session.
    """
    command = [str(word) for word in (*IDCFS, "mount", "-f", place, *words)]
    (state / "idcfs").mkdir(parents=True, exist_ok=True)

    def take_terminal() -> None:
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    with (state / "idcfs" / "foreground.log").open("wb") as said:
        process = subprocess.Popen(
            command,
            env={**os.environ, "XDG_STATE_HOME": str(state), **(env or {})},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
    try:
        assert eventually(lambda: is_mounted(place) or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_SECONDS)
        detach(place)


def warm(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``idcfs warm WORDS…`` to its end."""
    return idcfs("warm", *words, stdin=stdin)


def started(*words: str | Path) -> subprocess.Popen[str]:
    """``idcfs warm WORDS…``, on its way."""
    command = [str(word) for word in (*IDCFS, "warm", *words)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_terminal(terminal: int) -> bytes:
    """What the command shows on a terminal, bit by bit; nothing once it has ended."""
    try:
        return os.read(terminal, 65_536)
    except OSError:  # EIO: nobody holds its other end any more
        return b""


def summary(stdout: str) -> tuple[int, int, int]:
    """Files, bytes and failures, from the one line that stdout is."""
    match = re.fullmatch(r"warmed ([\d,]+) files?, ([\d,]+) bytes in \d+\.\d s; ([\d,]+) failed\n", stdout)
    assert match, stdout
    files, size, failed = (int(number.replace(",", "")) for number in match.groups())
    return files, size, failed

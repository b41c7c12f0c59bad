"""The command as users run it, whatever comes of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from scripts.harness import IDCFS


def idcfs(
    *words: str | Path, stdin: str | None = None, state: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``idcfs WORDS…`` to its end.

    :param stdin: what it reads there; without, what the tests' own process would.
    :param state: stands for XDG_STATE_HOME.
    """
    env = dict(os.environ) if state is None else {**os.environ, "XDG_STATE_HOME": str(state)}
    command = [str(word) for word in (*IDCFS, *words)]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=cwd
    )


def warm(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``idcfs warm WORDS…`` to its end."""
    return idcfs("warm", *words, stdin=stdin)


def started(*words: str | Path) -> subprocess.Popen[str]:
    """``idcfs warm WORDS…``, on its way."""
    command = [str(word) for word in (*IDCFS, "warm", *words)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def summary(stdout: str) -> tuple[int, int, int]:
    """Files, bytes and failures, from the one line that stdout is."""
    match = re.fullmatch(r"warmed ([\d,]+) files?, ([\d,]+) bytes in \d+\.\d s; ([\d,]+) failed\n", stdout)
    assert match, stdout
    files, size, failed = (int(number.replace(",", "")) for number in match.groups())
    return files, size, failed

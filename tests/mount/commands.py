"""The command as users run it, whatever comes of it."""

from __future__ import annotations

import os
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

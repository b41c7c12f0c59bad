"""An idiom: one way in which people read files, done to a directory, with a result that can be compared."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""Nothing here takes so long unless it hangs."""


class Outcome(StrEnum):
    """What comes of an idiom on a mount, compared with what comes of it on local files: the words of the table."""

    SAME = "same"
    TOLD = "size told"
    """What comes of it on local files of the sizes that ``stat`` tells: these are all that it looks at."""
    CUT = "cut"
    """What comes of it on local files without what is beyond the size that ``stat`` tells: nothing says so."""
    FAILS = "fails"
    """It ends with an error."""
    REFUSED = "refused"
    """It ends with an error: it wants to write where it reads."""
    OTHER = "other"
    """Anything else. No idiom has this word."""


class Failed(Exception):
    """An idiom that ended with an error; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an idiom is done."""

    source: Path
    """The directory of the files that it reads."""
    target: Path
    """An empty directory that it may write into."""
    copy: Path
    """A directory with the same files, for it to compare with; it is not to be written into."""

    def files(self) -> list[Path]:
        return sorted(self.source.iterdir())

    def largest(self) -> Path:
        """The file whose size is told too small, if any is. Nothing is asked of it."""
        return self.source / max(self.copy.iterdir(), key=lambda path: path.stat().st_size).name


Work = Callable[[Place], Any]
"""What is done, and gives what can be compared by ``==``; it raises what it ends with."""


@dataclass(frozen=True, slots=True)
class Idiom:
    """A row of the table."""

    name: str
    """As it is written in the table; no two have the same letters and digits, of which the names of files are made."""
    compared: str
    """What its result is made of."""
    work: Work
    material: str = "CT"
    """What is read: ``CT``, ``slide`` or ``SEG`` (``tests.tools.material``)."""
    provisional: Outcome = Outcome.SAME
    """What has to come of it while sizes are provisional."""
    exact: Outcome = Outcome.SAME
    """What has to come of it while they are exact."""

    @property
    def slug(self) -> str:
        """The name as one of a directory."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def shell(script: str, *, in_order: bool = True) -> Work:
    """A script of ``sh``, run in the source, with ``$to`` and ``$copy`` for the other two directories and ``$python``.

    Compared are the lines that it prints and the files that it leaves in ``$to``.

    :param in_order: whether the order of lines matters: not where it is the directory's, or that of several at once.
    """

    def work(place: Place) -> tuple[list[str], dict[str, str]]:
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=place.source,
            env={**os.environ, "LC_ALL": "C", **_variables(place)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout
        for name, path in (("source", place.source), ("target", place.target), ("copy", place.copy)):
            said = said.replace(os.fsencode(path), name.encode())
        lines = said.decode(errors="backslashreplace").splitlines()
        if done.returncode:
            raise Failed("\n".join([*lines[-20:], f"exit code {done.returncode}"]))
        return (lines if in_order else sorted(lines)), tree(place.target)

    return work


def _variables(place: Place) -> dict[str, str]:
    return {"to": str(place.target), "copy": str(place.copy), "python": sys.executable}


def tree(directory: Path) -> dict[str, str]:
    """The files below a directory, links followed, by their paths: a digest of each."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }

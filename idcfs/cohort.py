"""Cohorts: which series of an index are shown. That is said here, and done in ``namespace/narrow.py``."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .errors import UsageError

STDIN = "-"
"""What stdin is called as a manifest."""
_MOST_BYTES = 256 * 1024 * 1024
"""A list of all series of the IDC, each with its path in a bucket, takes 80 MB (v25)."""
_BYTES_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """A list of series as it was when the mount began."""

    name: str
    """What the user calls it."""
    digest: str
    """Of its content."""
    file: IO[bytes] = field(compare=False, repr=False)
    """Its content, in a file of our own: a million series are not to stay in memory, nor the user's disk in use."""

    def rewound(self) -> IO[bytes]:
        """The file, to be read from its beginning."""
        self.file.seek(0)
        return self.file


@dataclass(frozen=True, slots=True)
class Cohort:
    """The series that fit all that is given; where nothing is, all of them."""

    collections: tuple[str, ...] = ()
    """Any of them."""
    where: str = ""
    """A condition in SQL over the columns of the index; empty: none."""
    manifest: Manifest | None = None

    def __bool__(self) -> bool:
        """Whether it is narrower than the index."""
        return self != ALL

    def close(self) -> None:
        """Let go of the manifest's content: it is not needed once there is a catalog."""
        if self.manifest:
            self.manifest.file.close()

    @property
    def digest(self) -> str:
        """Eight bytes, in hexadecimal, that tell it from others."""
        said = [sorted(set(self.collections)), self.where, self.manifest.digest if self.manifest else ""]
        return hashlib.blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()

    def report(self) -> dict[str, Any] | None:
        """What ``/.status.json`` says of it; None if it is not narrower than the index."""
        if not self:
            return None
        name = self.manifest.name if self.manifest else None
        return {"collections": list(self.collections), "where": self.where or None, "manifest": name}

    def __str__(self) -> str:
        return spoken(self.report() or {})


ALL = Cohort()


def spoken(report: Mapping[str, Any]) -> str:
    """A cohort in words, on one line, of what ``Cohort.report`` says."""
    words = []
    if report.get("collections"):
        words.append(f"collection {' or '.join(report['collections'])}")
    if report.get("where"):
        words.append(f"where {' '.join(report['where'].split())}")
    if report.get("manifest"):
        words.append(f"listed in {'stdin' if report['manifest'] == STDIN else report['manifest']}")
    return ", ".join(words)


def take_manifest(text: str) -> Manifest:
    """What ``--manifest`` names, read to its end.

    :raises UsageError: if it cannot be read, or is too large to be one.
    """
    if not text:
        raise UsageError(f"--manifest is empty: give a file, or {STDIN} for stdin")
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the manifest)
    try:
        # Not sys.stdin, which is None where stdin was closed.
        with open(0, "rb", closefd=False) if text == STDIN else Path(text).expanduser().open("rb") as source:
            return Manifest(text, _copied(source, copy), copy)
    except (OSError, RuntimeError, ValueError) as error:  # no such home; a null byte
        copy.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--manifest {text}: {reason}") from None


def _copied(source: IO[bytes], copy: IO[bytes]) -> str:
    """Copy all of ``source``; returns a digest of it.

    :raises ValueError: if it is too large.
    """
    digest = hashlib.blake2b(digest_size=16)
    while some := source.read(_BYTES_AT_ONCE):
        digest.update(some)
        copy.write(some)
        if copy.tell() > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB, which no list of series is")
    copy.flush()
    return digest.hexdigest()

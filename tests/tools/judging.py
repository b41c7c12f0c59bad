"""What an idiom comes to in one directory, compared with what it comes to on local files."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tools.idiom import Failed, Idiom, Outcome, Place

_READ_ONLY = re.compile(os.strerror(errno.EROFS) + "|Unable to write to output folder")
"""What says that a place cannot be written to; the second is dcm2niix."""


@dataclass(slots=True)
class Judge:
    """Does idioms, beside local files."""

    scratch: Path
    """An empty directory."""
    _expected: dict[str, Any] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def outcome(self, idiom: Idiom, source: Path, local: Path) -> tuple[Outcome, str]:
        """What comes of it in ``source``, whose files are those of ``local``; and, in words, what did.

        :raises Exception: if it fails on local files.
        """
        told = {path.name: path.stat().st_size for path in source.iterdir()}
        if idiom.slug not in self._expected:
            writes = idiom.exact == Outcome.REFUSED
            self._expected[idiom.slug] = self._done(idiom, self._copy(local) if writes else local, local)
        expected = self._expected[idiom.slug]
        try:
            result = self._done(idiom, source, local)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            return (Outcome.REFUSED if _READ_ONLY.search(said) else Outcome.FAILS), said
        if result == expected:
            return Outcome.SAME, ""
        for outcome, resize in ((Outcome.CUT, _of_size_at_most), (Outcome.TOLD, _of_size)):
            if self._is_as_if(idiom, local, told, resize, result):
                return outcome, ""
        return Outcome.OTHER, f"{result}\n--- instead of\n{expected}"

    def _is_as_if(
        self,
        idiom: Idiom,
        local: Path,
        sizes: Mapping[str, int],
        resize: Callable[[Path, int], None],
        result: object,
    ) -> bool:
        """Whether ``result`` is what comes of it on files that were resized."""
        resized = self._copy(local)
        for name, size in sizes.items():
            resize(resized / name, size)
        try:
            return bool(self._done(idiom, resized, local) == result)
        except (Failed, OSError, ValueError):
            return False

    def _done(self, idiom: Idiom, source: Path, local: Path) -> Any:
        with self._directory() as target, warnings.catch_warnings(action="ignore"):
            return idiom.work(Place(source, target, local))

    def _copy(self, local: Path) -> Path:
        """A copy, which an idiom may change."""
        return Path(shutil.copytree(local, self.scratch / str(next(self._numbers))))

    @contextmanager
    def _directory(self) -> Iterator[Path]:
        directory = self.scratch / str(next(self._numbers))
        directory.mkdir()
        yield directory
        shutil.rmtree(directory)


def _of_size(path: Path, size: int) -> None:
    os.truncate(path, size)


def _of_size_at_most(path: Path, size: int) -> None:
    os.truncate(path, min(size, path.stat().st_size))

"""What the archive of the soak holds: every name, size and byte that a mount of it has to show, by a formula.

Light, since each reader is a process of its own that begins with it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tests.twin.model import Series
from tests.twin.synthetic import instance_size, instance_uid, synthetic_bytes

PROVISIONAL_BYTES = 64 * 1024
"""A size that is not known yet is a multiple of it (docs/SEMANTICS.md)."""
LARGE_BYTES = 4 * 1024 * 1024
"""Larger instances are read in ranges, where a server has them."""
_HOT_SERIES = 24
_HOT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class File:
    """One instance."""

    series: Series
    ordinal: int

    @property
    def uid(self) -> str:
        return instance_uid(self.series.series_uid, self.ordinal)

    @property
    def path(self) -> str:
        """From the mountpoint."""
        return f"{directory_of(self.series)}/{self.uid}.dcm"

    @property
    def size(self) -> int:
        """In bytes."""
        return instance_size(self.series, self.ordinal)

    def bytes(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), fewer at the end."""
        return synthetic_bytes(self.series, self.ordinal, start, stop)


class Truth:
    """All of it."""

    def __init__(self, series: Sequence[Series], seed: int) -> None:
        self.series = series
        self.seed = seed

    @classmethod
    def load(cls, path: Path) -> Truth:
        """What ``save`` has written."""
        told = json.loads(path.read_text())
        rows = [row | {"transfer_syntaxes": tuple(row["transfer_syntaxes"])} for row in told["series"]]
        return cls([Series(**row) for row in rows], told["seed"])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"seed": self.seed, "series": [asdict(one) for one in self.series]}))

    @cached_property
    def large(self) -> list[File]:
        """Those that are read in ranges."""
        return [file for one in self.series for file in files_of(one) if file.size > LARGE_BYTES]

    @cached_property
    def children(self) -> dict[str, set[str]]:
        """Names in each directory above the series, by its path from the mountpoint; the root's is empty."""
        found: dict[str, set[str]] = {}
        for one in self.series:
            parts = directory_of(one).split("/")
            for level, name in enumerate(parts):
                found.setdefault("/".join(parts[:level]), set()).add(name)
        return found

    def hot(self, now: float) -> list[Series]:
        """What many read at this moment (monotonic clock, s): it changes now and then."""
        choice = random.Random(f"{self.seed}/{int(now / _HOT_SECONDS)}")
        return choice.sample(self.series, min(_HOT_SERIES, len(self.series)))


def directory_of(series: Series) -> str:
    """The series' place, from the mountpoint."""
    return f"{series.collection_id}/{series.patient_id}/{series.study_uid}/{series.series_uid}"


def files_of(series: Series) -> list[File]:
    return [File(series, ordinal) for ordinal in range(series.instance_count)]


@lru_cache(maxsize=512)
def names_in(series: Series) -> frozenset[str]:
    """Names of the series' files."""
    return frozenset(f"{file.uid}.dcm" for file in files_of(series))

"""What a run of the benchmark found, as values that go into JSON and come back the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Cache = Literal["cold", "warm"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One subject doing one job; each tuple has an item per run, and none if it could not be measured."""

    subject: str
    job: str
    delay_ms: int
    """What is added to each request on its way to the server: 0, 40 or 80."""
    cache: Cache
    seconds: tuple[float, ...]
    bytes_moved: tuple[int, ...]
    """Over the wire from the server, headers included."""
    requests: tuple[int, ...]
    processor_seconds: tuple[float, ...]
    """Of the subject's daemon; where there is none, of the child processes that fetch."""
    peak_rss_mib: tuple[float, ...]
    """The most memory that the daemon held meanwhile."""
    correct: bool | None
    """Whether the outcome was that of the original files, each time; None: not checked."""
    note: str
    """Why the cell is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What no client of this server gets below: curl with 16 connections on the URLs of a job."""

    job: str
    delay_ms: int
    seconds: tuple[float, ...]
    bytes_moved: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Promised:
    """Something that idcfs promises, and what was measured, once per run or more often."""

    name: str
    unit: str
    at_most: float | None
    at_least: float | None
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run of the benchmark found."""

    machine: dict[str, str]
    """Cores, memory, kernel and versions, by name."""
    taken: str
    """The date, as ISO 8601 writes it."""
    commit: str
    command: str
    runs: int
    subjects: tuple[str, ...]
    """In the order in which they are shown."""
    jobs: tuple[str, ...]
    """In the order in which they are shown."""
    cells: tuple[Cell, ...]
    limits: tuple[Limit, ...]
    promised: tuple[Promised, ...]

    def to_json(self) -> str:
        """For people too: indented, with a newline at the end."""
        return f"{json.dumps(asdict(self), indent=1, ensure_ascii=False)}\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` made.

        :raises ValueError, KeyError, TypeError: if it is something else.
        """
        values: dict[str, Any] = json.loads(text)
        rows = {
            "cells": tuple(Cell(**_tuples(row)) for row in values["cells"]),
            "limits": tuple(Limit(**_tuples(row)) for row in values["limits"]),
            "promised": tuple(Promised(**_tuples(row)) for row in values["promised"]),
        }
        return cls(**(_tuples(values) | rows))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists only."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

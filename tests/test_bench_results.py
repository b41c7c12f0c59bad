"""The benchmark's results: what goes into JSON comes back the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.bench.results import Cell, Limit, Promised, Results

CELL = Cell("idcfs", "find", 40, "cold", (1.5, 1.25), (4096, 4096), (3, 3), (0.5, 0.25), (61.5, 62.0), True, "")
MISSING = replace(CELL, subject="davfs2", seconds=(), bytes_moved=(), requests=(), correct=None, note="not here: –")
RESULTS = Results(
    machine={"cores": "2", "rclone": "1.60.1"},
    taken="2026-01-02",
    commit="0123abc",
    command="python -m scripts.bench",
    runs=2,
    subjects=("idcfs", "davfs2"),
    jobs=("find",),
    cells=(CELL, MISSING),
    limits=(Limit("find", 40, (1.0,), (4096,)),),
    promised=(Promised("mount to first ls", "s", 0.5, None, (0.25, 0.5)),),
)


def test_they_come_back_the_same() -> None:
    assert Results.from_json(RESULTS.to_json()) == RESULTS


def test_something_else_is_refused() -> None:
    with pytest.raises(KeyError):
        Results.from_json('{"cells": []}')

"""The comparison in its short form: every cell is there, and idcfs reads the right bytes for few requests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from scripts.bench.comparison import QUICK
from scripts.bench.jobs import CAT, CAT_AGAIN, FIND, HEADERS, JOBS, LIST, MIDDLE, MOUNT, OPENSLIDE
from scripts.bench.material import SHORT
from scripts.bench.possible import LIMITED
from scripts.bench.results import Cell, Results
from scripts.bench.subjects import SUBJECTS

CHECKOUT = Path(__file__).parents[1]
IDCFS = [subject.name for subject in SUBJECTS if subject.name.startswith("idcfs")]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    file = tmp_path_factory.mktemp("bench") / "results.json"
    command = [sys.executable, "-m", "scripts.bench", "--short", "--results", str(file)]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=560)
        except subprocess.TimeoutExpired:
            process.terminate()  # not killed: it takes off what it has mounted, and says what went wrong
            process.communicate(timeout=60)
            raise
    assert process.returncode == 0, said
    return Results.from_json(file.read_text())


def cells(results: Results, subject: str, cache: str) -> Iterator[Cell]:
    return (cell for cell in results.cells if (cell.subject, cell.cache) == (subject, cache))


def cell(results: Results, subject: str, job: str) -> Cell:
    """Cold, nearby."""
    (found,) = (found for found in cells(results, subject, "cold") if (found.job, found.delay_ms) == (job, 0))
    return found


def test_every_cell_is_there(results: Results) -> None:
    cold_and_warm = {
        (subject.name, job.name, delay, cache)
        for subject, job, delay, cache in product(SUBJECTS, JOBS, QUICK.delays_ms, ("cold", "warm"))
        if job is not CAT_AGAIN or cache == "warm"
    }
    assert {(cell.subject, cell.job, cell.delay_ms, cell.cache) for cell in results.cells} == cold_and_warm
    assert len(results.cells) == len(cold_and_warm)
    assert all(cell.seconds or cell.note for cell in results.cells)
    assert {(limit.job, limit.delay_ms) for limit in results.limits} == {
        (job.name, delay) for job, delay in product(LIMITED, QUICK.delays_ms)
    }


@pytest.mark.parametrize("subject", IDCFS)
def test_what_idcfs_reads_is_right(results: Results, subject: str) -> None:
    """But for sizes that nobody has told it."""
    told = subject == "idcfs, bucket"
    wrong = {cell.job for cell in results.cells if cell.subject == subject and not cell.correct}
    undone = set() if os.geteuid() == 0 else {CAT_AGAIN.name}  # only root drops the kernel's page cache
    assert wrong == (set() if told else {LIST.name}) | undone


@pytest.mark.parametrize("subject", IDCFS)
def test_what_idcfs_has_read_it_does_not_ask_for_again(results: Results, subject: str) -> None:
    assert {cell.job: cell.requests for cell in cells(results, subject, "warm") if any(cell.requests)} == {}


@pytest.mark.parametrize("subject", ["idcfs", "idcfs, Orthanc"])
def test_idcfs_asks_once_for_a_list_and_once_for_each_file(results: Results, subject: str) -> None:
    assert cell(results, subject, MOUNT.name).requests == (0,)
    assert cell(results, subject, LIST.name).requests == (1,)
    assert cell(results, subject, CAT.name).requests == (SHORT.slices + 1,)
    assert cell(results, subject, HEADERS.name).requests == (SHORT.slices + 1,)
    assert cell(results, subject, FIND.name).requests == (SHORT.small_series,)  # the others are listed already


def test_idcfs_moves_no_more_than_it_must(results: Results) -> None:
    (limit,) = (limit for limit in results.limits if (limit.job, limit.delay_ms) == (CAT.name, 0))
    (slide,) = cell(results, "download, then read", MIDDLE.name).bytes_moved
    assert cell(results, "idcfs", CAT.name).bytes_moved[0] < 1.2 * limit.bytes_moved[0]
    for job in (MIDDLE, OPENSLIDE):
        assert cell(results, "idcfs", job.name).bytes_moved[0] < 1.5 * slide


def test_the_local_disk_costs_nobody_anything(results: Results) -> None:
    assert all(not any(cell.bytes_moved + cell.requests) for cell in results.cells if cell.subject == "local disk")

"""Conditions in processes of their own: whatever they do has an end, and nobody else waits for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from idcfs.errors import UsageError
from idcfs.namespace.builders import LOCK_NAME, building_in
from idcfs.namespace.condition import rows_that_fit
from idcfs.namespace.index import open_catalog
from idcfs.namespace.process import BUILD, WHERE, run_apart
from tests.namespace.making import ROW, write_rows
from tests.waiting import PATIENCE_SECONDS, eventually

ENDLESS = "levenshtein(repeat('a', 300000), repeat('b', 300000)) > 0"
"""For minutes, in which DuckDB never looks up."""


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "index.parquet", [ROW])


def test_rows_come_from_a_process_of_their_own(index: Path) -> None:
    assert rows_that_fit(index, "Modality = 'CT'").tolist() == [0]
    assert rows_that_fit(index, "Modality = 'é'").tolist() == []


@pytest.mark.parametrize(
    "condition",
    [
        ENDLESS,
        "(SELECT count(*) FROM range(10000000000) AS a, range(10000000000) AS b) = 1",
        "(SELECT sum(n) FROM (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n FROM r) FROM r)) = 1",
    ],
)
def test_what_does_not_end_is_ended(condition: str, index: Path) -> None:
    with pytest.raises(UsageError, match=r"^--where: (not done within 0\.5 s|Out of Memory Error: .*)$"):
        rows_that_fit(index, condition, limit_seconds=0.5)


@pytest.mark.parametrize(
    "condition",
    [
        "len(repeat('a', 3000000000)) > 0",
        "len(list_transform(range(300000000), x -> x + 1)) > 0",
        "(SELECT max(x) FROM (SELECT unnest(range(1000000000)) x)) > 0",
    ],
)
def test_what_functions_make_is_held_to_the_memory_that_a_condition_has(condition: str, index: Path) -> None:
    with pytest.raises(UsageError, match=r"^--where: .*(Out of Memory|needs more|needs too much)"):
        rows_that_fit(index, condition)


@pytest.mark.parametrize("condition", ["Modality =", "Modalty = 'CT'", os.fsdecode(b"Modality = '\xff'")])
def test_why_it_is_refused_is_one_line(condition: str, index: Path) -> None:
    with pytest.raises(UsageError, match=r"^--where: [^\n]+$"):
        rows_that_fit(index, condition)


def test_its_environment_is_empty_but_for_what_python_needs(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexec /usr/bin/env > {tmp_path}/environment")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("HTTPS_PROXY", "http://me:password@127.0.0.1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert run_apart(WHERE)[0] == 0
    assert "password" in (tmp_path / "environment").read_text()
    with suppress(UsageError):
        rows_that_fit(index, "true")
    names = {line.split("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    ours = {"ARROW_DEFAULT_MEMORY_POOL", "OMP_NUM_THREADS", "TZ", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"}
    assert names - ours <= {"PWD", "SHLVL", "_", "OLDPWD"}  # which the shell makes
    assert "Tokyo" not in (tmp_path / "environment").read_text()


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def is_free(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_nobody_waits_for_another_s_condition_and_it_ends_with_its_builder(index: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", BUILD, f"--where={ENDLESS}", str(tmp_path / "catalog.arrow"), str(index)]
    with subprocess.Popen(words) as builder:
        try:
            assert eventually(lambda: len(children(builder.pid)) == 1)
            (process,) = children(builder.pid)
            assert eventually(lambda: "duckdb" in Path(f"/proc/{process}/maps").read_text())
            assert is_free(tmp_path / LOCK_NAME)
            assert builder.poll() is None
        finally:
            builder.kill()
    assert eventually(lambda: not runs(process))


def test_who_waits_for_another_s_catalog_says_so_once(index: Path, tmp_path: Path) -> None:
    told: list[str] = []
    opening = Thread(target=open_catalog, args=(str(index), tmp_path), kwargs={"tell": told.append})
    with building_in(tmp_path):
        opening.start()
        assert eventually(lambda: bool(told))
    opening.join(PATIENCE_SECONDS)
    assert told == [f"waiting for another idcfs that builds a catalog in {tmp_path}"]
    assert len(list(tmp_path.glob("catalog-*.arrow"))) == 1


def test_arguments_that_are_too_long_are_one_line() -> None:
    with pytest.raises(UsageError, match=r"^--where=x{32}…: longer than 131,000 bytes, the most$"):
        run_apart(BUILD, "--where=" + "x" * 200_000)

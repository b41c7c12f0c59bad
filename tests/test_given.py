"""What the programs refuse at once: what would end them after hours, or never."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from scripts.bench import main as bench
from scripts.soak.__main__ import main as soak

SOAK = ("--minutes", "nan"), ("--minutes", "inf"), ("--minutes", "-1"), ("--write", "/nowhere")
RESULTS = "/nowhere/at/all.json", "/proc/all.json/x", "/"


@pytest.fixture(autouse=True)
def _nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("scripts.bench", "scripts.soak.__main__"):
        monkeypatch.setattr(f"{module}.program", lambda *_: 0)


@pytest.mark.parametrize("words", [*SOAK, *(("--results", file) for file in RESULTS)], ids=str)
def test_the_soak(words: tuple[str, str]) -> None:
    assert CliRunner().invoke(soak, words).exit_code == 2


@pytest.mark.parametrize("file", RESULTS)
def test_the_benchmark(file: str) -> None:
    assert CliRunner().invoke(bench, ["--results", file]).exit_code == 2


@pytest.mark.parametrize("program", [soak, bench], ids=["soak", "bench"])
def test_results_go_where_they_can(program: click.Command, tmp_path: Path) -> None:
    assert CliRunner().invoke(program, ["--results", str(tmp_path / "new.json")]).exit_code == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--short"], ["--job", "cat"]], ids=str)
def test_the_benchmark_says_when_figures_are_not_kept(words: list[str], tmp_path: Path) -> None:
    assert "--results" in CliRunner().invoke(bench, words).stderr
    assert not CliRunner().invoke(bench, [*words, "--results", str(tmp_path / "new.json")]).stderr
    assert not CliRunner().invoke(bench).stderr

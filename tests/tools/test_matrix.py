"""Whatever people read files with gives the same on a mount as on local files, or what docs/SEMANTICS.md says instead.

Each idiom has a series of its own, so the files that it meets have not been opened by another one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.harness import Mount, mounted, status
from tests.mount.conftest import NOWHERE, STRICT, without_bugs
from tests.mount.stage import buckets, contents
from tests.tools import table
from tests.tools.idiom import Idiom, Outcome
from tests.tools.idioms import IDIOMS
from tests.tools.judging import Judge
from tests.tools.material import Material, material
from tests.twin.client import Twin

STATES = ("unknown", "learnt", "exact")
"""What is known of sizes: the series' sum alone; what an earlier mount has learnt; what the bucket's list says."""


@dataclass(slots=True)
class Stand:
    """An archive, and how it is mounted."""

    material: Material
    twin: Twin
    place: Path
    judge: Judge

    @contextlib.contextmanager
    def mount(self, name: str, archive: str, *options: str, cache: str) -> Iterator[Mount]:
        words: tuple[str | Path, ...] = (
            "--archive",
            archive,
            "--index",
            self.material.index,
            "--cache-dir",
            self.place / f"cache-{cache}",
            *options,
        )
        with mounted(self.place / name, *words, state_dir=self.place / "state", env={**os.environ, **STRICT}) as made:
            yield made
            assert status(made.path)["counters"]["errors"] == 0


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    place = tmp_path_factory.mktemp("matrix").resolve()
    made = material(place / "archive", IDIOMS)
    (place / "scratch").mkdir()
    with without_bugs(place / "state"), Twin(data=made.files) as twin:
        yield Stand(made, twin, place, Judge(place / "scratch"))


@pytest.fixture(scope="module", params=STATES)
def shown(request: pytest.FixtureRequest, stand: Stand) -> Iterator[tuple[str, Mount]]:
    """The state, and a mount in which it is so of every file."""
    state, twin = request.param, stand.twin
    if state == "exact":
        mount = stand.mount(state, NOWHERE, "--content", "bucket", *buckets(twin), cache=state)
    else:
        mount = stand.mount(state, twin.url, cache=state)
    if state == "learnt":
        with stand.mount("earlier", twin.url, cache=state) as earlier:
            assert contents(earlier.path) == contents(stand.material.files)
    with mount as made:
        yield state, made


@dataclass(slots=True)
class Matrix:
    """What came of the idioms, and what the document says."""

    committed: list[table.Row]
    is_written: bool
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    def note(self, idiom: Idiom, state: str, outcome: Outcome) -> None:
        self.outcomes[idiom.name, state] = outcome
        if not self.is_written:
            (row,) = [row for row in self.committed if row[0] == f"`{idiom.name}`"]
            assert row[2 + STATES.index(state)] == outcome, "the table is not of this run: make matrix"


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest) -> Iterator[Matrix]:
    made = Matrix(table.committed(), request.config.getoption("write_matrix", default=False))
    yield made
    if made.is_written and len(made.outcomes) == len(IDIOMS) * len(STATES):
        table.write(table.rows(made.outcomes, STATES))
        request.config.stash[table.WRITTEN] = True


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.slug)
def test_an_idiom_comes_to_what_is_promised(
    idiom: Idiom, shown: tuple[str, Mount], stand: Stand, matrix: Matrix
) -> None:
    state, mount = shown
    source, local = stand.material.below(mount.path, idiom), stand.material.local(idiom)
    promised = idiom.provisional if state == "unknown" else idiom.exact
    expect_sizes(source, local, exact=state != "unknown")
    outcome, said = stand.judge.outcome(idiom, source, local)
    assert outcome == promised, said
    matrix.note(idiom, state, outcome)


def expect_sizes(source: Path, local: Path, *, exact: bool) -> None:
    """That ``stat`` tells exact sizes; or else of no file, too large ones and too small ones."""
    errors = [path.stat().st_size - (local / path.name).stat().st_size for path in source.iterdir()]
    if exact:
        assert set(errors) == {0}
    else:
        assert min(errors) < 0 < max(errors)
        assert 0 not in errors


def test_the_table_has_a_row_for_each_idiom(matrix: Matrix) -> None:
    if not matrix.is_written:
        named = {(idiom.name, state): Outcome.SAME for idiom in IDIOMS for state in STATES}
        assert [row[:2] for row in matrix.committed] == [row[:2] for row in table.rows(named, STATES)]


def test_no_two_idioms_share_a_series() -> None:
    assert len({idiom.slug for idiom in IDIOMS}) == len(IDIOMS)

"""The benchmark's report: its figures are those of the results, and what falls short comes first.

On made-up results: nobody called hare, snail or liar was ever measured.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from scripts.bench.markdown import slug
from scripts.bench.plots import PLOTS
from scripts.bench.ranking import Question, Ranking
from scripts.bench.report import BESIDE, PAGE, REASONS, main, reasons_in, write
from scripts.bench.report import page as page_about
from scripts.bench.results import Cache, Cell, Limit, Promised, Results

CHECKOUT = Path(__file__).parents[1]
MOST_BYTES_OF_A_PLOT = 200_000
WHY = """# Said by people

## count sheep / hare, no rest

It jumps the queue.

## cross the road

The road is long.

## How each subject is set up

With great care.
"""


def cell(subject: str, job: str, delay_ms: int, cache: Cache, seconds: Sequence[float], **more: object) -> Cell:
    amounts = tuple(1_000_000 + round(value * 1e4) for value in seconds)
    requests = tuple(100 + number for number in range(len(seconds)))
    spent = tuple(value / 4 for value in seconds)
    memory = tuple(50 + value for value in seconds)
    measured = Cell(subject, job, delay_ms, cache, tuple(seconds), amounts, requests, spent, memory, True, "")
    return replace(measured, **more)  # type: ignore[arg-type]  # a test's short form


PLAIN, HARE, SNAIL, ORTHANC, LIAR, FLOOR = SUBJECTS = (
    "idcfs",
    "hare, no rest",
    "snail, full house",
    "idcfs, Orthanc",
    "liar, Orthanc",
    "local disk",
)
SHEEP, ROAD = JOBS = ("count sheep", "cross the road")
MADE_UP = Results(
    machine={"cores": "3", "hare": "0.0.1"},
    taken="2001-02-03",
    commit="0123abc",
    command="python -m scripts.bench --made-up",
    runs=3,
    subjects=SUBJECTS,
    jobs=JOBS,
    cells=(
        cell(PLAIN, SHEEP, 0, "cold", (2.0, 4.0, 3.0)),
        cell(HARE, SHEEP, 0, "cold", (1.0, 1.6, 2.0)),  # 2, 2.5 and 1.5 times as fast
        cell(SNAIL, SHEEP, 0, "cold", (20.0,), note="took so long that it was run once"),
        cell(ORTHANC, SHEEP, 0, "cold", (5.0, 5.5, 6.0)),
        cell(LIAR, SHEEP, 0, "cold", (0.5, 0.55, 0.6), correct=False, note="goats"),
        cell(FLOOR, SHEEP, 0, "cold", (0.1, 0.1, 0.1), bytes_moved=(0, 0, 0)),
        cell(PLAIN, SHEEP, 40, "cold", (10.4, 10.5, 10.6), bytes_moved=(7_000_000,) * 3),
        cell(HARE, SHEEP, 40, "cold", (10.0, 10.0, 10.0), bytes_moved=(3_000_000,) * 3),  # no more than noise ahead
        cell(ORTHANC, SHEEP, 40, "cold", (), note="the bridge was up"),
        cell(PLAIN, ROAD, 0, "warm", (0.25, 0.25, 0.25), correct=None),
        cell(HARE, ROAD, 0, "warm", (0.5, 0.5, 0.5), correct=None),
        cell(SNAIL, ROAD, 0, "warm", (), note="is still on its way"),
    ),
    limits=(Limit(SHEEP, 0, (1.0, 1.0, 1.0), (1_230_000,) * 3), Limit(ROAD, 40, (), ())),
    promised=(
        Promised("sheep in an hour", "sheep", None, 1000.0, (900.0, 950.0, 1200.0)),
        Promised("… of them black", "sheep", None, None, (7.0,)),
        Promised("steps to the other side", "", 12.0, None, (11.0, 12.0, 40.0)),
    ),
)


@pytest.fixture
def page() -> str:
    return page_about(MADE_UP, {})


def rows(page: str, title: str) -> list[list[str]]:
    """Of the table below a heading, without its header."""
    below = re.split(r"^##+ ", page.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line.strip("|").split(" | ") for line in below.splitlines() if line.startswith("|")]
    return [[column.strip() for column in line] for line in lines[2:]]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", text)]


# --- what falls short -------------------------------------------------------------------------------------------------


def test_what_falls_short_comes_first(page: str) -> None:
    sections = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert sections[:2] == ["What falls short", "Ratios"]


def test_idcfs_is_behind_who_is_faster_by_more_than_noise(page: str) -> None:
    """The liar is faster too, but has the wrong bytes; and the floor is nobody's rival."""
    (row,) = rows(page, "Not first: times the seconds of the fastest")
    assert row == [SHEEP, "cold", PLAIN, f"2 (1.5–2.5) × {HARE}", "–", "not known"]
    assert "in **2 of 3** comparisons; beside the other mounts alone, in **2 of 3**." in " ".join(page.split())


def test_what_a_dash_means_is_said_above_the_tables_that_have_one(page: str) -> None:
    above = page.split("## What falls short\n")[1].split("\n### ")[0]
    assert "– says that nobody who did it right is ahead by more than 10%; bytes count only" in " ".join(above.split())


def test_a_download_is_no_mount() -> None:
    download = cell("download, then read", ROAD, 0, "warm", (0.1, 0.1, 0.1))
    page = page_about(replace(MADE_UP, subjects=(*SUBJECTS, download.subject), cells=(*MADE_UP.cells, download)), {})
    assert "in **1 of 3** comparisons; beside the other mounts alone, in **2 of 3**." in " ".join(page.split())


@pytest.mark.parametrize("how", [{"correct": False}, {"seconds": ()}])
def test_idcfs_is_not_first_where_it_is_wrong_or_fails(how: dict[str, object]) -> None:
    failing = (PLAIN, ROAD)
    cells = [replace(cell, **how) if (cell.subject, cell.job) == failing else cell for cell in MADE_UP.cells]  # type: ignore[arg-type]
    page = page_about(replace(MADE_UP, cells=tuple(cells)), {})
    assert "in **1 of 3** comparisons; beside the other mounts alone, in **1 of 3**." in " ".join(page.split())


def test_idcfs_moves_more_than_another(page: str) -> None:
    (row,) = rows(page, "More moved than another, in MB")
    assert row == [SHEEP, "cold", PLAIN, "–", f"7; {HARE}: 3", "not known"]


def test_promises_are_missed_by_their_median(page: str) -> None:
    (row,) = rows(page, "Promises missed")
    assert row == ["sheep in an hour", "≥ 1,000 sheep", "950 sheep (900–1,200 of 3)", "not known"]
    assert [row[0] + row[-1] for row in rows(page, "What idcfs promises")] == [
        "sheep in an hour**missed**",
        "… of them black",
        "steps to the other sideok",
    ]


def test_wrong_bytes_and_what_idcfs_did_not_do_are_named(page: str) -> None:
    assert rows(page, "What was wrong, whoever did it, and what idcfs did not do") == [
        [LIAR, SHEEP, "**wrong**", "cold 0 ms", "goats"],
        [ORTHANC, SHEEP, "not measured", "cold 40 ms", "the bridge was up"],
    ]


def test_nothing_falls_short_where_nothing_was_measured() -> None:
    page = page_about(replace(MADE_UP, subjects=(), cells=(), limits=(), promised=()), {})
    assert "Nothing." in page.split("## ")[1]


# --- figures ----------------------------------------------------------------------------------------------------------


def test_ratios_are_taken_round_by_round_to_idcfs_over_the_same_server(page: str) -> None:
    row = rows(page, "Cold, 0 ms")[0]
    assert row == [
        SHEEP,
        "1 = 3 s",
        "**0.5 (0.4–0.667)**",
        "6.67",  # run once: medians
        "1 = 5.5 s",
        "~~0.1~~",
        "0.0333 (0.025–0.05)",
    ]
    assert rows(page, "Warm, 0 ms") == [[ROAD, "1 = 0.25 s", "2", *["–"] * 4]]


def test_a_second_idcfs_over_the_same_server_is_beside_the_first() -> None:
    other = cell("idcfs, bucket", ROAD, 0, "warm", (0.125, 0.125, 0.125))
    page = page_about(replace(MADE_UP, subjects=(PLAIN, other.subject), cells=(*MADE_UP.cells, other)), {})
    assert rows(page, "Warm, 0 ms") == [[ROAD, "1 = 0.25 s", "**0.5**"]]


def test_each_figure_is_that_of_the_results(page: str) -> None:
    for job in JOBS:
        said = rows(page, job)
        cells = [cell for cell in MADE_UP.cells if cell.job == job]
        assert len(said) == len(cells)
        for cell in cells:
            (row,) = [row for row in said if row[:3] == [cell.subject, cell.cache, f"{cell.delay_ms} ms"]]
            check(row[3], cell.seconds, counted=True)
            check(row[4], [amount / 1e6 for amount in cell.bytes_moved])
            check(row[5], cell.requests)
            check(row[6], cell.processor_seconds)
            check(row[7], cell.peak_rss_mib)
            assert cell.note in row[8]


def check(said: str, values: Sequence[float], *, counted: bool = False) -> None:
    """Median, and least and most where they differ; how many, where that is said."""
    if not values:
        assert said == "–"
        return
    expected = [statistics.median(values)]
    if counted and len(values) > 1:
        expected += [min(values), max(values), len(values)]
    elif min(values) != max(values):
        expected += [min(values), max(values)]
    assert numbers(said) == pytest.approx(expected, rel=0.006)  # three digits


def test_the_limit_stands_beside_idcfs(page: str) -> None:
    assert rows(page, "The limit") == [
        [SHEEP, "0 ms", "1 (1–1 of 3)", "1.23", "3 (2–4)"],  # it is nginx's: of Orthanc nobody knows it
        [ROAD, "40 ms", "–", "–", "–"],
    ]
    assert "but for the start of curl itself" in page.split("## The limit\n")[1].split("\n|")[0].replace("\n", " ")


def test_the_page_says_how_to_repeat_it_and_where_it_was_made(page: str) -> None:
    assert f"{MADE_UP.command}\n" in page
    assert f"Taken {MADE_UP.taken}, commit {MADE_UP.commit}; runs: 3," in page
    assert rows(page, "The machine") == [["cores", "3"], ["hare", "0.0.1"]]


def test_who_moves_little_more_wastes_nothing() -> None:
    ranking = Ranking(MADE_UP)
    assert ranking.thriftier(PLAIN, Question(SHEEP, "cold", 40))
    assert ranking.thriftier(PLAIN, Question(SHEEP, "cold", 0)) is None


# --- the page and what stands beside it -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the page about the made-up results, and reasons that people wrote before."""
    directory = tmp_path_factory.mktemp("docs")
    (directory / BESIDE).mkdir()
    (directory / BESIDE / REASONS).write_text(WHY)
    write(MADE_UP, directory)
    return directory


def test_what_people_wrote_stays(made: Path) -> None:
    page = (made / PAGE).read_text()
    assert (made / BESIDE / REASONS).read_text() == WHY
    (row,) = rows(page, "Not first: times the seconds of the fastest")
    (target,) = re.findall(r"\[why\]\(#(.+)\)", row[-1])
    assert target in {slug(heading) for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    assert "### Why: count sheep / hare, no rest\n\nIt jumps the queue.\n" in page
    assert "### Why: cross the road\n\nThe road is long.\n" in page
    assert page.endswith("## How it was measured\n\n### How each subject is set up\n\nWith great care.\n")


def test_lines_are_short_but_for_tables(made: Path) -> None:
    lines = (made / PAGE).read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_plots_are_small_and_come_out_the_same_again(made: Path) -> None:
    """And the page is made anew from results.json alone."""
    files = [made / PAGE, *(made / BESIDE / f"{name}.svg" for name in PLOTS)]
    before = [file.read_bytes() for file in files]
    run = CliRunner().invoke(main, [str(made / BESIDE / "results.json"), str(made)])
    assert run.exit_code == 0, run.output
    assert [file.read_bytes() for file in files] == before
    for plot in before[1:]:
        assert len(plot) < MOST_BYTES_OF_A_PLOT
        assert ElementTree.fromstring(plot).tag.endswith("svg")


def test_pages_are_those_of_the_results_beside_them(made: Path) -> None:
    """The one of this repository too."""
    for directory in kept(made):
        results = Results.from_json((directory / BESIDE / "results.json").read_text())
        page = page_about(results, reasons_in(directory / BESIDE))
        assert (directory / PAGE).read_text() == page, directory
        assert all((directory / BESIDE / f"{name}.svg").exists() for name in PLOTS)


def kept(made: Path) -> Iterator[Path]:
    yield made
    yield from (file.parent.parent for file in CHECKOUT.glob(f"docs/{BESIDE}/results.json"))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cells": [{"who": 1}]}', "\ud800"], ids=ascii)
def test_what_no_benchmark_has_written_makes_no_page(tmp_path: Path, content: str) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(content.encode(errors="surrogatepass"))
    run = CliRunner().invoke(main, [str(file), str(tmp_path / "page")])
    assert run.exit_code == 2
    assert "is nothing that a benchmark has written" in run.output
    assert not (tmp_path / "page").exists()

"""The benchmark: idcfs beside other ways to read the same files, and beside what it promises itself.

    python -m scripts.bench [--runs N] [--short] [--only PART] [--subject NAME] [--job NAME] [--results FILE] [--list]

What is slow is no failure: machines differ, and so does what else they are doing. The exit code is 1 if something could
not be measured.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from scripts.bench import machine
from scripts.bench.comparison import QUICK, THOROUGH, Comparison
from scripts.bench.jobs import JOBS
from scripts.bench.measuring import Bench
from scripts.bench.promises import SCENARIOS, measure, promised
from scripts.bench.results import Results
from scripts.bench.subjects import SUBJECTS
from scripts.bench.table import table
from scripts.given import ResultsFile
from scripts.harness import program, scratch_directory
from scripts.origin import Origin, origin

COMPARISON = "comparison"
DOCS = Path(__file__).parents[2] / "docs"


@click.command()
@click.option("--runs", default=3, show_default=True, type=click.IntRange(min=1), help="How often to measure.")
@click.option("--short", is_flag=True, help="Only the comparison, once, with next to nothing to read.")
@click.option(
    "--only", multiple=True, type=click.Choice([COMPARISON, *SCENARIOS]), metavar="PART", help="Only this, and so on."
)
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    type=click.Choice([subject.name for subject in SUBJECTS]),
    metavar="NAME",
    help="Only this in the comparison, and so on.",
)
@click.option(
    "--job",
    "jobs",
    multiple=True,
    type=click.Choice([job.name for job in JOBS]),
    metavar="NAME",
    help="Only this in the comparison, and so on.",
)
@click.option(
    "--results",
    type=ResultsFile(),
    help="Where what is measured goes, as JSON; by default, if nothing is left out, into docs/, as a page with plots.",
)
@click.option("--list", "only_list", is_flag=True, help="Name the parts, the subjects and the jobs.")
def main(
    runs: int,
    short: bool,
    only: tuple[str, ...],
    subjects: tuple[str, ...],
    jobs: tuple[str, ...],
    results: Path | None,
    only_list: bool,
) -> None:
    """Compare idcfs with other ways to read the same files, and with what it promises about speed and memory."""
    if only_list:
        _list()
        return
    is_whole = results is None and not (short or only or subjects or jobs)
    if results is None and not is_whole:
        click.echo("bench: figures of a part are kept nowhere without --results FILE", err=True)
    parts = (COMPARISON,) if short else only or (COMPARISON, *SCENARIOS)
    plan = QUICK if short else THOROUGH
    among = [subject for subject in SUBJECTS if not subjects or subject.name in subjects]
    done = [job for job in JOBS if not jobs or job.name in jobs]
    comparison = Comparison(plan, among, done)

    def write(found: Results) -> None:
        if is_whole:
            from scripts.bench import report  # here, not above: what it draws with wants a place for its settings

            report.write(found, DOCS)
        elif results is not None:
            results.write_text(found.to_json())

    sys.exit(program("bench", lambda: _measure(comparison, 1 if short else runs, parts, write)))


def _measure(comparison: Comparison, runs: int, parts: Sequence[str], write: Callable[[Results], None]) -> int:
    """Measure, write down what was found, and print the table of promises; returns the exit code.

    It is written down after each round: who stops an hour of measuring keeps what there is of it.
    """
    begun = origin()
    with scratch_directory("idcfs-bench-") as scratch:
        scratch.chmod(0o711)  # davfs2 is a user of its own, who has to get to its cache
        os.environ["MPLCONFIGDIR"] = str(scratch)  # the user's settings are nobody's here, and it wants a place
        bench = Bench(runs, scratch)
        if COMPARISON in parts:
            for _ in comparison.rounds(runs, scratch / "comparison"):
                write(_results(begun, comparison, bench, True))
        scenarios = [part for part in parts if part != COMPARISON]
        failed = measure(bench, scenarios) if scenarios else []
        write(_results(begun, comparison, bench, COMPARISON in parts))
    if scenarios:
        print("\n".join(table(bench.values)))
    return 1 if failed else 0


def _results(begun: Origin, comparison: Comparison, bench: Bench, compared: bool) -> Results:
    return Results(
        machine=machine.described(),
        taken=begun.taken,
        commit=begun.commit,
        command=f"python -m scripts.bench {shlex.join(sys.argv[1:])}".strip(),
        runs=bench.runs,
        subjects=tuple(subject.name for subject in comparison.subjects),
        jobs=tuple(job.name for job in comparison.jobs),
        cells=tuple(comparison.cells()) if compared else (),
        limits=tuple(comparison.limits()),
        promised=tuple(promised(bench)),
    )


def _list() -> None:
    click.echo(f"{COMPARISON:<12}Every subject does every job.")
    for name, scenario in SCENARIOS.items():
        click.echo(f"{name:<12}{scenario.__doc__}")
    click.echo(f"subjects    {'; '.join(subject.name for subject in SUBJECTS)}")
    click.echo(f"jobs        {'; '.join(job.name for job in JOBS)}")

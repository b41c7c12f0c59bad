"""``python -m scripts.soak``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from scripts.given import Minutes, ResultsFile
from scripts.harness import program, scratch_directory
from scripts.soak.report import as_json, lines_of, results_of, write
from scripts.soak.running import Soak


@click.command()
@click.option("--minutes", default=10.0, show_default=True, type=Minutes(min=0.1), help="How long to read.")
@click.option("--processes", default=16, show_default=True, type=click.IntRange(1, 256), help="How many read at once.")
@click.option("--seed", default=1, show_default=True, help="What decides the archive and the faults.")
@click.option("--results", type=ResultsFile(), help="Write all values there, as JSON.")
@click.option(
    "--write",
    "documents",
    type=click.Path(file_okay=False, exists=True, writable=True, path_type=Path),
    help="Write soak.md there.",
)
def main(minutes: float, processes: int, seed: int, results: Path | None, documents: Path | None) -> None:
    """Read real mounts in many processes while their archive fails; exit code 1 if a promise is broken."""
    sys.exit(program("soak", lambda: soak(minutes, processes, seed, results, documents)))


def soak(minutes: float, processes: int, seed: int, results: Path | None, documents: Path | None) -> int:
    """One soak, told on stdout; returns the exit code."""
    print(f"soak: {minutes:g} minutes, {processes} readers, --seed {seed}", flush=True)
    with scratch_directory("idcfs-soak-") as scratch:
        one = Soak(scratch, minutes, processes, seed)
        one.run()
        found = results_of(one)
    print("\n".join(lines_of(found)))
    if results is not None:
        results.write_text(as_json(found))
    if documents is not None:
        write(found, documents)
    if found["broken"]:
        return 1
    return 130 if one.stopped else 0


if __name__ == "__main__":
    main()

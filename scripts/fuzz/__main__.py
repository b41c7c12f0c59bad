"""``python -m scripts.fuzz [TARGET…]``: each target for its share of the time, in a process of its own, one by one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from scripts.given import Minutes
from scripts.harness import program
from tests.fuzz.targets import CORPUS, TARGETS, load

KEPT = Path(".fuzz")
"""Where, unless told otherwise, inputs are kept that reach something new, and those that break a target."""
MOST_BYTES = 4_096
"""Of an input: what is longer, hypothesis' tests have."""
UNIT_SECONDS = 20
"""One input may take so long; the slowest take 0.02 s."""
MOST_MEMORY_MIB = 1_024
_PROGRESS = re.compile(r"^#(\d+)\s.*?\bcov: (\d+)", re.MULTILINE)
_RUNS = re.compile(r"^#(\d+)\s", re.MULTILINE)


class Found(NamedTuple):
    """What came of fuzzing one target."""

    runs: int
    coverage: int
    """Branches reached, by libFuzzer's count."""
    inputs: list[Path]
    """Those that break it."""
    is_sound: bool
    said: str


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]…")
@click.option("--minutes", default=10.0, show_default=True, type=Minutes(0), help="For all targets together.")
@click.option("--runs", type=click.IntRange(1), help="So many inputs for each target instead, always the same ones.")
@click.option(
    "--keep", default=KEPT, show_default=True, type=click.Path(file_okay=False, path_type=Path), help="For inputs."
)
@click.option("--repeat", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Only this input.")
def main(targets: tuple[str, ...], minutes: float, runs: int | None, keep: Path, repeat: Path | None) -> None:
    """Fuzz what reads what others wrote, guided by coverage; exit code 1 if anything is found.

    An input that breaks a target is kept, and told with the command that repeats it.
    """
    if unknown := [name for name in targets if name not in TARGETS]:
        raise click.UsageError(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    targets = targets or tuple(TARGETS)
    if repeat is not None:
        if len(targets) != 1:
            raise click.UsageError("--repeat: say which target")
        load(targets[0])(repeat.read_bytes())
        return
    seconds = max(1, round(60 * minutes / len(targets)))
    limit = [f"-runs={runs}", "-seed=1"] if runs else [f"-max_total_time={seconds}"]
    sys.exit(program("fuzz", lambda: fuzz_all(targets, limit, keep), needs_fuse=False))


def fuzz_all(targets: Sequence[str], limit: list[str], keep: Path) -> int:
    """Fuzz one after the other and tell what came of it; returns the exit code."""
    sound = True
    for name in targets:
        found = fuzz(name, limit, keep / name)
        sound = sound and found.is_sound
        verdict = "" if found.is_sound else "  BROKEN"
        click.echo(f"{name:<12}{found.runs:>12,} inputs{found.coverage:>8,} branches{verdict}")
        for line in _told(name, found):
            click.echo(line, err=True)
    return int(not sound)


def fuzz(name: str, limit: list[str], keep: Path) -> Found:
    """Fuzz the target ``name``; ``limit`` says, in libFuzzer's words, for how long."""
    try:
        (keep / "corpus").mkdir(parents=True, exist_ok=True)
        (keep / "found").mkdir(exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--keep: {error.strerror}: {keep}") from None
    before = set((keep / "found").iterdir())
    bounds = [f"-max_len={MOST_BYTES}", f"-timeout={UNIT_SECONDS}", f"-rss_limit_mb={MOST_MEMORY_MIB}"]
    places = [f"-artifact_prefix={keep}/found/", str(keep / "corpus"), str(CORPUS / name)]
    command = [sys.executable, "-m", "scripts.fuzz.one", name, *bounds, *limit, "-print_final_stats=1", *places]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode(errors="replace")
    progress = _PROGRESS.findall(said) or [("0", "0")]
    runs = max(map(int, _RUNS.findall(said)), default=0)
    new = sorted(set((keep / "found").iterdir()) - before)
    return Found(runs, int(progress[-1][1]), new, done.returncode == 0 and runs > 0, said)


def _told(name: str, found: Found) -> Iterator[str]:
    """What is to be known of what broke."""
    for path in found.inputs:
        yield f"again: {sys.executable} -m scripts.fuzz {name} --repeat {path}"
    if not found.is_sound:
        yield "\n".join(line for line in found.said.splitlines() if not line.startswith(("#", "INFO", "WARNING")))


if __name__ == "__main__":
    main()

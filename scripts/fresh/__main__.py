"""The README's commands on a fresh machine: ``make fresh-machine``, as root.

For each command a bare Debian is made with debootstrap, of this machine's release and in namespaces of its own, with a
checkout of the last commit and what `machine.PREINSTALLED` names. The command is to do all the set-up; it reaches
nobody but whom apt and pip ask here, and leaves nothing running or mounted. What it took is printed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from scripts.fresh import machine, packages
from scripts.harness import Failure, in_bytes, program, run, scratch_directory

_TOOLS = ("debootstrap", "unshare", "nsenter", "pivot_root", "ip", "git")
_OPEN, _SHUT = False, True


@dataclass(frozen=True, slots=True)
class Step:
    """A line of shell that somebody types."""

    command: str
    shut: bool
    """Whether the network is gone by then."""
    leaves: bool = False
    """Whether it is to leave a mount."""


@dataclass(slots=True)
class Result:
    """What became of a step."""

    step: Step
    seconds: float
    downloaded: int
    wrong: list[str] = field(default_factory=list)


def trials(pytest_args: str) -> dict[str, tuple[Step, ...]]:
    """What is typed on each machine, by the README's command that it is to prove."""
    test = f"make test PYTEST_ARGS={shlex.quote(pytest_args)}" if pytest_args else "make test"
    return {
        # The second time all is there: what it takes now is the demo's, and the README promises that no network is.
        "demo": (Step("make demo", _OPEN), Step("make demo", _SHUT)),
        "test": (Step(test, _OPEN),),
        "mount": (
            Step("make mount", _OPEN, leaves=True),
            Step("ls ~/idc/rider_lung_ct/*/*/ | head -n 3", _SHUT, leaves=True),
            Step(". .venv/bin/activate && idcfs umount ~/idc", _SHUT),
        ),
    }


@click.command()
@click.argument("names", nargs=-1, metavar="[demo|test|mount]…")
@click.option("--user", type=click.Choice([machine.USER, "root"]), default=machine.USER, show_default=True)
@click.option("--base", type=click.Path(dir_okay=False, path_type=Path), help="Tarball to keep the bare system in.")
@click.option("--allow", multiple=True, metavar="HOST", help="Let it ask HOST as well: redirects may lead there.")
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), default=os.devnull, help="Keep what is said.")
@click.option("--pytest-args", default="", help="For `make test`, to run a part of it.")
def main(names: Sequence[str], user: str, base: Path | None, allow: Sequence[str], log: Path, pytest_args: str) -> None:
    """Try the README's commands (demo and test, if none is named) on fresh machines."""
    steps = trials(pytest_args)
    unknown = set(names) - set(steps)
    if unknown:
        raise click.UsageError(f"no such command: {', '.join(sorted(unknown))}")
    chosen = {name: steps[name] for name in names or ("demo", "test")}
    sys.exit(program("fresh", lambda: _run(chosen, user, base, allow, log)))


def _run(chosen: dict[str, tuple[Step, ...]], user: str, base: Path | None, allow: Sequence[str], log: Path) -> int:
    """:returns: 1 if anything was otherwise than promised."""
    _check()
    print(f"on trial: {run(['git', 'log', '-1', '--format=%h %s']).strip()}", flush=True)
    found = packages.of_this_machine(allow)
    with scratch_directory("idcfs-fresh-") as scratch:
        scratch.chmod(0o755)  # users of the machine have to get into its root
        tarball = base or scratch / "base.tar"
        if not tarball.exists():
            started = time.monotonic()
            machine.make_base(tarball, found)
            print(f"bare {found.suite} made in {time.monotonic() - started:.0f} s", flush=True)
        wrong = [one for name, steps in chosen.items() for one in _try(name, steps, user, tarball, scratch, found, log)]
    print("\n".join(["", *(f"WRONG: {line}" for line in wrong)]) if wrong else "\nAll as promised.")
    return 1 if wrong else 0


def _check() -> None:
    if os.geteuid() != 0:
        raise Failure("only root can make a machine")
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            raise Failure(f"{tool} is not installed")


def _try(
    name: str, steps: Sequence[Step], user: str, base: Path, scratch: Path, found: packages.Packages, log: Path
) -> list[str]:
    """Take the steps on a machine of their own and print the account.

    :returns: what was wrong.
    """
    with machine.booted(base, scratch, found) as one:
        print(f"\nmake {name}, by {user}, on a bare {found.suite} with {', '.join(machine.PREINSTALLED)}", flush=True)
        before = _parts(one.root)
        results = []
        for step in steps:
            results.append(_take(one, step, user, log))
            if results[-1].wrong:
                break
        after = _parts(one.root)
        _account(results, {part: after[part] - before[part] for part in after}, one)
    return [f"{result.step.command}: {line}" for result in results for line in result.wrong]


def _take(one: machine.Machine, step: Step, user: str, log: Path) -> Result:
    print(f"  $ {step.command}{'    (without a network)' if step.shut else ''}", flush=True)
    one.gate.shut = step.shut
    before, started = one.gate.counted().total(), time.monotonic()
    code = one.run(step.command, user, log)
    result = Result(step, time.monotonic() - started, one.gate.counted().total() - before)
    if code:
        result.wrong.append(f"exit code {code}")
    if one.gate.refused:
        result.wrong.append("asked for " + ", ".join(sorted(one.gate.refused)))
    if not step.leaves:
        result.wrong += [f"left behind: {what}" for what in one.left()]
    return result


def _parts(root: Path) -> dict[str, int]:
    """Bytes on disk, by whose they are."""
    home = root / (machine.HOME)
    parts = {
        "virtual environment": machine.on_disk(root / machine.CHECKOUT / ".venv"),
        "pip's cache": sum(machine.on_disk(place / ".cache/pip") for place in (home, root / "root")),
        "apt's cache and lists": sum(machine.on_disk(root / place) for place in ("var/cache/apt", "var/lib/apt")),
    }
    return {**parts, "Debian packages and the rest": machine.on_disk(root) - sum(parts.values())}


def _account(results: Sequence[Result], grown: dict[str, int], one: machine.Machine) -> None:
    for result in results:
        print(f"  {result.seconds:7.0f} s  {in_bytes(result.downloaded):>9} downloaded  {result.step.command}")
    for host, size in one.gate.counted().most_common():
        print(f"  {in_bytes(size):>9} from {host}")
    for part, size in grown.items():
        print(f"  {in_bytes(size):>9} on disk: {part}")
    print(f"  {in_bytes(sum(grown.values())):>9} on disk in all", flush=True)


if __name__ == "__main__":
    main()

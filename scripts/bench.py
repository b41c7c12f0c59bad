"""The benchmark: what idcfs promises about speed and memory, measured on this machine and set beside the promise.

    python -m scripts.bench [--runs N] [--list] [SCENARIO …]

A miss is marked and is not a failure: machines differ, and so does what else they are doing. The exit code is 1 if
something could not be measured.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx

from scripts.harness import Failure, Mount, end_on_signals, in_bytes, mounted, need_fuse, run, scratch_directory, status
from tests.data import ct_series, multiframe, write_index
from tests.orthanc import Orthanc
from tests.twin.client import Twin

CLOSED_PORT_URL = "http://127.0.0.1:9/dicomWeb"
"""Nobody listens there: a mount that answers all the same has sent no request."""
TMPFS = Path("/dev/shm")
READ_BYTES = 1024 * 1024
BIG_FRAMES = 480
"""480 frames of 512 × 512 are 252 MB."""
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of the table: what is measured and where it has to stay."""

    name: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:,g} {self.unit}".rstrip()
        return "–" if self.at_least is None else f"≥ {self.at_least:,g} {self.unit}".rstrip()

    def kept_by(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


FIRST_LS_NEW = Promise("mount to first ls, first time", "s", at_most=6)
FIRST_LS = Promise("mount to first ls, catalog built", "s", at_most=0.5)
MEMORY_LS = Promise("RssAnon after ls", "MiB", at_most=120)
LS_NLST = Promise("ls of nlst (26,410 patients)", "s", at_most=0.4)
FIND = Promise("find -maxdepth 4, directories/s", "/s", at_least=6_000)
FIND_SECONDS = Promise("find -maxdepth 4, whole index", "s")
FIND_REQUESTS = Promise("requests sent by ls and find", "", at_most=0)
MEMORY_FIND = Promise("RssAnon after find", "MiB", at_most=160)
WARM_BIG = Promise("warm re-read of one big file, share of local disk's speed", "×", at_least=0.8)
WARM_CEILING = Promise("… the same of tmpfs, whose pages are single as FUSE's are", "×")
"""What a kernel without a daemon reaches with pages of 4 KiB: ext4's are up to 64 times as large (docs/measured.md)."""
WARM_SPEED = Promise("… in figures", "MB/s")
WARM_SERIES = Promise("warm re-read of 300 slices, share of local disk's speed", "×")
"""Without a bound: opening a file costs any FUSE some round trips of 50 µs, and copying a whole slice costs no more."""
COLD = Promise("cold read of 300 slices from Orthanc, against bare httpx", "×", at_most=2)
COLD_LISTED = Promise("… with mount's listing of the series", "×")
COLD_SPEED = Promise("… in figures, without the listing", "MB/s")
BARE_SPEED = Promise("bare httpx loop over the same URLs", "MB/s")


@dataclass(slots=True)
class Bench:
    """Where measurements are collected, and how often to repeat."""

    runs: int
    scratch: Path
    values: defaultdict[Promise, list[float]] = field(default_factory=lambda: defaultdict(list))

    def record(self, promise: Promise, value: float) -> None:
        self.values[promise].append(value)

    @contextmanager
    def timed(self, promise: Promise) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.record(promise, time.perf_counter() - started)

    @contextmanager
    def mounted(self, *options: str | Path, cache: str) -> Iterator[Mount]:
        """A mount whose cache directory is called ``cache``: a new name is a cold start."""
        everything = ("--cache-dir", self.scratch / cache, *options)
        with mounted(self.scratch / "idc", *everything, state_dir=self.scratch / "state") as mount:
            yield mount


# --- scenarios --------------------------------------------------------------------------------------------------------


def first_time(bench: Bench) -> None:
    """Mount the whole packaged index where nothing has been built yet."""
    for number in range(bench.runs):
        with bench.mounted("--archive", CLOSED_PORT_URL, cache=f"first-{number}") as mount:
            bench.record(FIRST_LS_NEW, mount.seconds + seconds_of(["ls", mount.path]))


def again(bench: Bench) -> None:
    """Mount it again, list the top and the collection with most patients."""
    with bench.mounted("--archive", CLOSED_PORT_URL, cache="built"):
        pass
    for _ in range(bench.runs):
        with bench.mounted("--archive", CLOSED_PORT_URL, cache="built") as mount:
            bench.record(FIRST_LS, mount.seconds + seconds_of(["ls", mount.path]))
            bench.record(MEMORY_LS, anonymous_mib(mount.pid))
            bench.record(LS_NLST, seconds_of(["ls", mount.path / "nlst"]))


def find(bench: Bench) -> None:
    """Walk every directory of the packaged index, down to the series: once, it takes minutes."""
    with bench.mounted("--archive", CLOSED_PORT_URL, cache="built") as mount:
        started = time.perf_counter()
        directories = count_found(mount.path)
        seconds = time.perf_counter() - started
        bench.record(FIND_SECONDS, seconds)
        bench.record(FIND, directories / seconds)
        bench.record(MEMORY_FIND, anonymous_mib(mount.pid))
        bench.record(FIND_REQUESTS, status(mount.path)["counters"]["requests"])


def warm(bench: Bench) -> None:
    """Read again what was read before, and the same files on the local disk."""
    source = bench.scratch / "warm"
    multiframe(source / "big", BIG_FRAMES)
    ct_series(source / "series")
    index = write_index(source, bench.scratch / "warm.parquet")
    with Twin(data=source) as twin, bench.mounted("--archive", twin.url, "--index", index, cache="warm") as mount:
        for name, promise in (("big", WARM_BIG), ("series", WARM_SERIES)):
            through_mount, local = sorted((mount.path / name).rglob("*.dcm")), sorted((source / name).glob("*.dcm"))
            size = read_all(through_mount)
            read_all(local)
            with tempfile.TemporaryDirectory(dir=TMPFS) as memory:
                in_memory = [Path(shutil.copy(file, memory)) for file in local]
                for _ in range(2 * bench.runs + 1):  # cheap, and noisier than the rest
                    here, there, nowhere = (seconds_to_read(files) for files in (through_mount, local, in_memory))
                    bench.record(promise, there / here)
                    if promise is WARM_BIG:
                        bench.record(WARM_CEILING, there / nowhere)
                        bench.record(WARM_SPEED, size / here / 1e6)


def cold(bench: Bench) -> None:
    """Read 300 slices that nobody has read before from a loopback Orthanc; beside it, fetch them with httpx alone."""
    source = bench.scratch / "cold"
    slices = ct_series(source / "series")
    index = write_index(source, bench.scratch / "cold.parquet")
    with Orthanc() as orthanc:
        if len(orthanc.upload_all(slices)) != len(slices):
            raise Failure("Orthanc did not take the slices")
        for number in range(bench.runs):
            options = ("--archive", orthanc.url, "--index", index)
            with bench.mounted(*options, cache=f"cold-{number}") as mount:
                series = next(path for path in mount.path.glob("*/*/*/*"))
                started = time.perf_counter()
                files = sorted(series.iterdir())
                listing = time.perf_counter() - started
                through_mount = seconds_to_read(files)
            size, bare = fetch_all(orthanc.url, files)
            bench.record(COLD, through_mount / bare)
            bench.record(COLD_LISTED, (through_mount + listing) / bare)
            bench.record(COLD_SPEED, size / through_mount / 1e6)
            bench.record(BARE_SPEED, size / bare / 1e6)


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "first-time": first_time,
    "again": again,
    "find": find,
    "warm": warm,
    "cold": cold,
}


# --- measuring --------------------------------------------------------------------------------------------------------


def seconds_of(command: Sequence[str | Path]) -> float:
    started = time.perf_counter()
    run(command)
    return time.perf_counter() - started


def anonymous_mib(pid: int) -> float:
    """Anonymous memory of a process: its own, without mapped files, whose pages are the kernel's."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) / 1024


def count_found(directory: Path) -> int:
    """How many directories ``find`` meets down to the series."""
    command = ["find", str(directory), "-mindepth", "1", "-maxdepth", "4", "-type", "d", "-printf", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        count = 0
        while chunk := process.stdout.read(READ_BYTES):
            count += len(chunk)
    if process.returncode != 0:
        raise Failure(f"find ended with exit code {process.returncode}")
    return count


def read_all(files: Iterable[Path]) -> int:
    """Read files one by one from start to end; returns how many bytes they have."""
    size = 0
    buffer = bytearray(READ_BYTES)
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            while count := os.readv(descriptor, [buffer]):
                size += count
        finally:
            os.close(descriptor)
    return size


def seconds_to_read(files: Sequence[Path]) -> float:
    started = time.perf_counter()
    read_all(files)
    return time.perf_counter() - started


def fetch_all(url: str, files: Sequence[Path]) -> tuple[int, float]:
    """Bytes and seconds of the plainest httpx loop over the instances that ``files`` stand for."""
    size = 0
    headers = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
    started = time.perf_counter()
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
        for file in files:
            study, series = file.parts[-3:-1]
            response = client.get(f"{url}/studies/{study}/series/{series}/instances/{file.stem}")
            response.raise_for_status()
            size += len(response.content)
    return size, time.perf_counter() - started


# --- the table --------------------------------------------------------------------------------------------------------


def table(values: dict[Promise, list[float]]) -> Iterator[str]:
    """Name, median (min–max of n), bound, and whether it is kept."""
    rows = [("", "median (min–max of n)", "bound", "")]
    for promise, found in values.items():
        middle = statistics.median(found)
        verdict = "" if promise.bound == "–" else "ok" if promise.kept_by(middle) else "MISSED"
        rows.append((promise.name, measured(found, promise.unit), promise.bound, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def measured(found: Sequence[float], unit: str) -> str:
    spread = f" ({figure(min(found))}–{figure(max(found))} of {len(found)})" if len(found) > 1 else ""
    return f"{figure(statistics.median(found))} {unit}".rstrip() + spread


def figure(value: float) -> str:
    """Three significant digits, thousands set apart."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


@click.command()
@click.option("--runs", default=3, show_default=True, type=click.IntRange(min=1), help="How often to measure.")
@click.option("--list", "only_list", is_flag=True, help="Name the scenarios and what they do.")
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)), metavar="[SCENARIO …]")
def main(runs: int, only_list: bool, scenarios: tuple[str, ...]) -> None:
    """Measure what idcfs promises about speed and memory; without SCENARIO, all of it."""
    if only_list:
        for name, scenario in SCENARIOS.items():
            click.echo(f"{name:<12}{scenario.__doc__}")
        return
    end_on_signals()
    try:
        need_fuse()
        with scratch_directory("idcfs-bench-") as scratch:
            bench = Bench(runs, scratch)
            failed = measure(bench, scenarios or tuple(SCENARIOS))
    except Failure as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"\n{os.cpu_count()} cores, Linux {os.uname().release}, Python {sys.version.split()[0]}\n")
    print("\n".join(table(bench.values)))
    sys.exit(1 if failed else 0)


def measure(bench: Bench, scenarios: Sequence[str]) -> list[str]:
    """Run the scenarios, one line each; one that fails leaves the others standing. Returns those that failed."""
    failed = []
    free = os.statvfs(bench.scratch).f_bavail * os.statvfs(bench.scratch).f_frsize
    print(f"In {bench.scratch} ({in_bytes(free)} free):")
    for name in scenarios:
        print(f"  {name:<12}", end="", flush=True)
        started = time.perf_counter()
        try:
            SCENARIOS[name](bench)
            print(f"{time.perf_counter() - started:.0f} s", flush=True)
        except (Failure, OSError, httpx.HTTPError) as error:
            print(f"FAILED: {error}", flush=True)
            failed.append(name)
    return failed


if __name__ == "__main__":
    main()

"""What the scenarios measure with: clocks, memory, plain readers, and the clients that idcfs is compared to."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import SimpleITK as sitk

from scripts.bench.table import Promise
from scripts.harness import Failure, Mount, mounted, run, status

READ_BYTES = 1024 * 1024
BIG_FRAMES = 480
"""480 frames of 512 × 512 are 252 MB."""
CURL = ("curl", "-q", "--parallel", "--parallel-immediate", "--parallel-max", "16", "--noproxy", "*", "-m", "60")
"""With 16 connections from the start: else all wait until the first answer says that they cannot share one. A
transfer ends within 60 s."""
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_SAMPLE_SECONDS = 0.02


class Skipped(Exception):
    """Why a scenario cannot be measured here, though nothing is wrong."""


@dataclass(slots=True)
class Bench:
    """Where measurements are collected, and how often to repeat."""

    runs: int
    scratch: Path
    values: defaultdict[Promise, list[float]] = field(default_factory=lambda: defaultdict(list))

    def record(self, promise: Promise, value: float) -> None:
        self.values[promise].append(value)

    def record_traffic(self, mount: Mount, of: str) -> None:
        """What the archive has been asked for since ``mount`` began."""
        counters = status(mount.path)["counters"]
        self.record(Promise(f"… requests sent, {of}", ""), counters["requests"])
        received = counters["bytes_from_archive"] + counters["bytes_from_buckets"]
        self.record(Promise(f"… bytes received, {of}", "MB"), received / 1e6)

    @contextmanager
    def mounted(self, *options: str | Path, cache: str) -> Iterator[Mount]:
        """A mount whose cache directory, contents included, is called ``cache``: a new name is a cold start."""
        everything = ("--cache-dir", self.scratch / cache, *options)
        with mounted(self.scratch / "idc", *everything, state_dir=self.scratch / "state") as mount:
            yield mount


# --- the daemon -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process, in MiB."""

    resident: float
    anonymous: float
    """Its own, without mapped files, whose pages are the kernel's."""


def memory_of(pid: int) -> Memory:
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    kib = {words[0]: int(words[1]) for words in lines if words[0] in ("VmRSS:", "RssAnon:")}
    return Memory(kib["VmRSS:"] / 1024, kib["RssAnon:"] / 1024)


@contextmanager
def memory_watched(pid: int) -> Iterator[list[Memory]]:
    """What the process takes, looked at again and again while the block runs and at its end."""
    seen: list[Memory] = []
    over = Event()

    def watch() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            seen.append(memory_of(pid))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    seen.append(memory_of(pid))


def processor_seconds(pid: int) -> float:
    """What a process has used of all processors so far, with those of its processes that have ended.

    It tells the same on a machine that has other work too.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def forget_peak(pid: int) -> None:
    """Let ``peak_mib`` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """The most memory that a process has held since it began, or since ``forget_peak``, in MiB; 0 once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


# --- reading ----------------------------------------------------------------------------------------------------------


def seconds_of(command: Sequence[str | Path]) -> float:
    started = time.perf_counter()
    run(command)
    return time.perf_counter() - started


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
    """Read files one by one from start to end, 1 MiB at a time; returns how many bytes they have."""
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


def seconds_to_first_byte(path: Path) -> float:
    """Of a file: to open it and read one byte."""
    started = time.perf_counter()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = os.read(descriptor, 1)
        seconds = time.perf_counter() - started
    finally:
        os.close(descriptor)
    if not found:
        raise Failure(f"{path} is empty")
    return seconds


def seconds_to_load(series: Path) -> float:
    """SimpleITK: scan a directory, then read its series."""
    started = time.perf_counter()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    slices = reader.Execute().GetSize()[2]
    seconds = time.perf_counter() - started
    if slices != len(list(series.iterdir())):
        raise Failure(f"SimpleITK found only {slices} slices in {series}")
    return seconds


def drop_page_cache() -> None:
    """Forget what the kernel keeps of files, so that the next read is from disk.

    :raises Skipped: if that is not for us to do.
    """
    os.sync()  # what is not written yet stays
    try:
        DROP_CACHES.write_text("3\n")
    except OSError as error:
        raise Skipped(f"the kernel's page cache cannot be dropped here: {error.strerror}") from None


# --- other clients ----------------------------------------------------------------------------------------------------


def instance_url(url: str, file: Path) -> str:
    """Where the archive at ``url`` has the instance that a file of a mount stands for."""
    study, series = file.parts[-3:-1]
    return f"{url}/studies/{study}/series/{series}/instances/{file.stem}"


def fetch_all(url: str, files: Sequence[Path]) -> tuple[int, float]:
    """Bytes and seconds of the plainest httpx loop over the instances that ``files`` stand for."""
    size = 0
    headers = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
    started = time.perf_counter()
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
        for file in files:
            response = client.get(instance_url(url, file))
            response.raise_for_status()
            size += len(response.content)
    return size, time.perf_counter() - started


def seconds_to_curl(url: str, files: Sequence[Path], config: Path) -> float:
    """curl over the same instances with 16 parallel connections, all of it thrown away; ``config`` is written."""
    config.write_text("".join(f'url = "{instance_url(url, file)}"\noutput = "/dev/null"\n' for file in files))
    told = ("--silent", "--show-error", "--write-out", "%{http_code}\n")
    started = time.perf_counter()
    output = run([*CURL, *told, "--header", f"Accept: {ACCEPT}", "--config", str(config)])
    seconds = time.perf_counter() - started
    statuses = output.split()
    if statuses != ["200"] * len(files):
        raise Failure(f"curl got {statuses.count('200')} of {len(files)} instances")
    return seconds

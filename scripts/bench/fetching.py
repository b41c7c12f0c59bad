"""Scenarios of what nobody has read before: from an archive nearby, and from one that is 40 ms away."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from scripts.bench.measuring import (
    ACCEPT,
    Bench,
    fetch_all,
    instance_url,
    processor_seconds,
    seconds_to_curl,
    seconds_to_first_byte,
    seconds_to_load,
    seconds_to_read,
)
from scripts.bench.table import Promise
from scripts.delay import delayed
from scripts.harness import Failure, Mount
from tests.data import ct_series, write_index
from tests.orthanc import Orthanc
from tests.twin.client import Twin

DELAY_SECONDS = 0.04
FIRST_BYTES = 15
"""Series of which the first byte of a file is read."""

COLD = Promise("cold read of 300 slices from Orthanc, against bare httpx", "×", at_most=2)
COLD_LISTED = Promise("… with mount's listing of the series", "×")
COLD_SPEED = Promise("… in figures, without the listing", "MB/s")
BARE_SPEED = Promise("bare httpx loop over the same URLs", "MB/s")
FAR = Promise("cold read of 300 slices 40 ms away, against curl with 16 connections", "×", at_most=1.5)
FAR_LISTED = Promise("… with the mount's listing of them", "×")
FAR_SECONDS = Promise("… in figures, without the listing", "s")
FAR_PROCESSOR = Promise("… processor time of the daemon for it", "s")
FAR_CURL = Promise("curl with 16 connections, the same URLs", "s")
ITK = Promise("SimpleITK's scan and read of them, cold, against local disk + that curl", "×", at_most=3)
ITK_SECONDS = Promise("… SimpleITK in time", "s")
ITK_LOCAL = Promise("SimpleITK's scan and read of them on the local disk", "s")
FIRST_BYTE = Promise("first byte of a cold file 40 ms away, beyond the bare request's", "ms", at_most=15)
FIRST_BYTE_BARE = Promise("… the bare request's", "ms")


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
                files, listing = _listed(mount.path)
                through_mount = seconds_to_read(files)
            size, bare = fetch_all(orthanc.url, files)
            bench.record(COLD, through_mount / bare)
            bench.record(COLD_LISTED, (through_mount + listing) / bare)
            bench.record(COLD_SPEED, size / through_mount / 1e6)
            bench.record(BARE_SPEED, size / bare / 1e6)


def far(bench: Bench) -> None:
    """Read, and load with SimpleITK, 300 slices that nobody has read before from 40 ms away; beside it, curl."""
    source = bench.scratch / "far"
    ct_series(source / "series")
    index = write_index(source, bench.scratch / "far.parquet")
    config = bench.scratch / "far.curl"
    with _far_archive(source) as url:
        options = ("--archive", url, "--index", index)
        with bench.mounted(*options, cache="far-listed") as mount:
            files, _ = _listed(mount.path)
        seconds_to_curl(url, files, config)  # once in vain: the first who asks pays for what the server keeps
        for number in range(bench.runs):
            curl = seconds_to_curl(url, files, config)
            with bench.mounted(*options, cache=f"far-read-{number}") as mount:
                _record_read(bench, mount, curl)
            curl = seconds_to_curl(url, files, config)
            local = seconds_to_load(source / "series")
            with bench.mounted(*options, cache=f"far-load-{number}") as mount:
                _record_load(bench, mount, curl, local)


def first_byte(bench: Bench) -> None:
    """Open files of different series that nobody has read before, 40 ms away; beside it, the bare request."""
    source = bench.scratch / "first-byte"
    for number in range(FIRST_BYTES):
        ct_series(source / f"series-{number}", 2, description=f"Series {number}")  # of one, the index knows the size
    index = write_index(source, bench.scratch / "first-byte.parquet")
    with _far_archive(source) as url:
        for number in range(bench.runs):
            with bench.mounted("--archive", url, "--index", index, cache=f"first-byte-{number}") as mount:
                files = [min(series.iterdir()) for series in sorted(mount.path.glob("*/*/*/*"))]
                for file, bare in zip(files, _seconds_of_bare_requests(url, files), strict=True):
                    through_mount = seconds_to_first_byte(file)
                    bench.record(FIRST_BYTE, (through_mount - bare) * 1e3)
                    bench.record(FIRST_BYTE_BARE, bare * 1e3)
                bench.record_traffic(mount, f"first bytes of {len(files)} files")


@contextmanager
def _far_archive(source: Path) -> Iterator[str]:
    """The address of an archive of the files in ``source``, 40 ms away.

    The twin: it takes a third of Orthanc's time for an instance, so on two cores it is less in the way.
    """
    with Twin(data=source) as twin, delayed(twin.url, DELAY_SECONDS) as url:
        yield url


def _listed(mountpoint: Path) -> tuple[list[Path], float]:
    """The files of the only series of a mount, and the seconds that listing them takes."""
    series = next(mountpoint.glob("*/*/*/*"))
    started = time.perf_counter()
    files = sorted(series.iterdir())
    return files, time.perf_counter() - started


def _record_read(bench: Bench, mount: Mount, curl: float) -> None:
    files, listing = _listed(mount.path)
    used = processor_seconds(mount.pid)
    through_mount = seconds_to_read(files)
    used = processor_seconds(mount.pid) - used
    bench.record(FAR, through_mount / curl)
    bench.record(FAR_LISTED, (through_mount + listing) / curl)
    bench.record(FAR_SECONDS, through_mount)
    bench.record(FAR_PROCESSOR, used)
    bench.record(FAR_CURL, curl)
    bench.record_traffic(mount, "read")


def _record_load(bench: Bench, mount: Mount, curl: float, local: float) -> None:
    through_mount = seconds_to_load(next(mount.path.glob("*/*/*/*")))
    bench.record(ITK, through_mount / (local + curl))
    bench.record(ITK_SECONDS, through_mount)
    bench.record(ITK_LOCAL, local)
    bench.record_traffic(mount, "SimpleITK")


def _seconds_of_bare_requests(url: str, files: Sequence[Path]) -> Iterator[float]:
    """Seconds to the first byte of each instance's body, one after another on one connection.

    With the standard library's client: a tenth of a millisecond, where httpx would take two of them.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.connect()
        for file in files:
            started = time.perf_counter()
            connection.request("GET", urlsplit(instance_url(url, file)).path, headers={"Accept": ACCEPT})
            response = connection.getresponse()
            begun = response.read(1)
            seconds = time.perf_counter() - started
            if response.status != 200 or not begun:
                raise Failure(f"the archive answered {response.status} to a bare request")
            response.read()
            yield seconds
    finally:
        connection.close()

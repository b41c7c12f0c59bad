"""Scenario of what nobody reads whole: a slide of 250 MB in a bucket that is 40 ms away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import openslide

from scripts.bench.fetching import DELAY_SECONDS
from scripts.bench.measuring import Bench, read_all, seconds_of
from scripts.bench.table import Promise
from scripts.delay import delayed
from scripts.harness import NOWHERE, Mount, status
from tests.data import whole_slide, write_index
from tests.data.buckets import object_key, stored_series
from tests.nginx import Nginx
from tests.twin.client import Twin

_READ_BYTES = 1024 * 1024
_CONNECTION_BYTES_PER_SECOND = 30e6
"""What one connection to Google gives."""
_REGION = ((12_000, 12_000), 0, (1_024, 1_024))

MIDDLE = Promise("1 MB in the middle of a slide of 257 MB, 40 ms away: bytes moved", "MB", at_most=8)
MIDDLE_SECONDS = Promise("… the 1 MB in time", "ms")
HEADER = Promise("dcmdump of its header: bytes moved", "MB", at_most=16)
HEADER_SECONDS = Promise("… dcmdump in time", "ms")
OPENSLIDE = Promise("OpenSlide opens it and reads 1,024 × 1,024 pixels: bytes moved", "MB", at_most=32)
OPENSLIDE_SECONDS = Promise("… OpenSlide in time", "ms")
WHOLE = Promise("all of it in order, 30 MB/s a connection, against curl with one", "×", at_most=1)
WHOLE_SECONDS = Promise("… all of it in time", "s")
WHOLE_CURL = Promise("… curl's", "s")


def slide(bench: Bench) -> None:
    """Read places of a slide of 257 MB from a bucket 40 ms away, and all of it; beside that, curl."""
    source = bench.scratch / "slide"
    largest = whole_slide(source / "series")[0]
    index = write_index(source, bench.scratch / "slide.parquet")
    with Nginx(source) as nginx, delayed(f"{nginx.bucket_url}/{{bucket}}", DELAY_SECONDS) as buckets:
        for number in range(bench.runs):
            for what, read, moved, seconds in (
                ("middle", _read_middle, MIDDLE, MIDDLE_SECONDS),
                ("header", _dump_header, HEADER, HEADER_SECONDS),
                ("region", _read_region, OPENSLIDE, OPENSLIDE_SECONDS),
            ):
                with bench.mounted(*_options(index, buckets), cache=f"slide-{what}-{number}") as mount:
                    _record(bench, mount, _file(mount, largest), read, moved, seconds)
    with (
        Twin(data=source, bytes_per_second=_CONNECTION_BYTES_PER_SECOND) as twin,
        delayed(twin.bucket_url("{bucket}"), DELAY_SECONDS) as buckets,
    ):
        for number in range(bench.runs):
            with bench.mounted(*_options(index, buckets), cache=f"slide-whole-{number}") as mount:
                _record_whole(bench, _file(mount, largest), _object_url(source, buckets, largest))


def _options(index: Path, buckets: str) -> tuple[str | Path, ...]:
    return "--archive", NOWHERE, "--index", index, "--content", "bucket", "--bucket", buckets


def _file(mount: Mount, original: Path) -> Path:
    (path,) = mount.path.rglob(original.name)
    path.stat()
    return path


def _object_url(source: Path, buckets: str, largest: Path) -> str:
    """The address of the largest object."""
    ((series, _),) = stored_series(source)
    return f"{buckets.replace('{bucket}', series.aws_bucket)}/{object_key(series, largest.stem)}"


def _record(
    bench: Bench, mount: Mount, file: Path, read: Callable[[Path], None], moved: Promise, seconds: Promise
) -> None:
    before = status(mount.path)["counters"]["bytes_from_buckets"]
    started = time.perf_counter()
    read(file)
    spent = time.perf_counter() - started
    bench.record(moved, (status(mount.path)["counters"]["bytes_from_buckets"] - before) / 1e6)
    bench.record(seconds, spent * 1e3)


def _read_middle(file: Path) -> None:
    with file.open("rb", buffering=0) as stream:
        os.pread(stream.fileno(), _READ_BYTES, file.stat().st_size // 2)


def _dump_header(file: Path) -> None:
    seconds_of(["dcmdump", "-q", "+st", "0028,0011", "+P", "PatientID", file])


def _read_region(file: Path) -> None:
    with openslide.OpenSlide(str(file)) as slide_file:
        slide_file.read_region(*_REGION)


def _record_whole(bench: Bench, file: Path, url: str) -> None:
    curl = seconds_of(["curl", "-q", "-sSf", "--noproxy", "*", "-o", "/dev/null", url])
    started = time.perf_counter()
    read_all([file])
    seconds = time.perf_counter() - started
    bench.record(WHOLE, seconds / curl)
    bench.record(WHOLE_SECONDS, seconds)
    bench.record(WHOLE_CURL, curl)

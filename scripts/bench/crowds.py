"""Scenario of many readers at once: how much memory the daemon takes for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from scripts.bench.measuring import BIG_FRAMES, READ_BYTES, Bench, memory_watched
from scripts.bench.table import Promise
from tests.data import ct_series, multiframe, write_index
from tests.twin.client import Twin

READERS = 64
CACHE_MIB = 64

READERS_RSS = Promise("VmRSS without the memory cache, 64 readers of one file of 252 MB", "MiB", at_most=150)
READERS_ANON = Promise("… RssAnon, memory cache of 64 MiB included, 64 readers", "MiB")
FILES_RSS = Promise("VmRSS without the memory cache, 300 files open and read at once", "MiB", at_most=150)
FILES_ANON = Promise("… RssAnon, memory cache of 64 MiB included, 300 files", "MiB")


class Span(NamedTuple):
    """Bytes [start, stop) of a file."""

    path: Path
    start: int
    stop: int


def memory(bench: Bench) -> None:
    """Let 64 readers read one large file, and 300 files be open at once; the most memory that the daemon takes."""
    source = bench.scratch / "memory"
    big = multiframe(source / "big", BIG_FRAMES)
    slices = ct_series(source / "series")
    index = write_index(source, bench.scratch / "memory.parquet")
    size, slice_size = big.stat().st_size, slices[0].stat().st_size
    share = -(-size // READERS)
    with Twin(data=source) as twin:
        options = ("--archive", twin.url, "--index", index, "--memory-cache", f"{CACHE_MIB}MiB")
        for number in range(bench.runs):
            with bench.mounted(*options, cache=f"readers-{number}") as mount:
                (file,) = (mount.path / "big").rglob("*.dcm")
                spans = [Span(file, start, min(start + share, size)) for start in range(0, size, share)]
                _record(bench, mount.pid, spans, READERS_RSS, READERS_ANON)
                bench.record_traffic(mount, "64 readers")
            with bench.mounted(*options, cache=f"files-{number}") as mount:
                spans = [Span(file, 0, slice_size) for file in (mount.path / "series").rglob("*.dcm")]
                _record(bench, mount.pid, spans, FILES_RSS, FILES_ANON)
                bench.record_traffic(mount, "300 files")


def _record(bench: Bench, pid: int, spans: Sequence[Span], resident: Promise, anonymous: Promise) -> None:
    with memory_watched(pid) as seen:
        read_together(spans)
    bench.record(resident, max(memory.resident for memory in seen) - CACHE_MIB)
    bench.record(anonymous, max(memory.anonymous for memory in seen))


def read_together(spans: Sequence[Span]) -> None:
    """Open all files, then read all spans, then close the files; each by a thread of its own."""
    with ThreadPoolExecutor(len(spans)) as pool, ExitStack() as stack:

        def open_one(span: Span) -> int:
            descriptor = os.open(span.path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            return descriptor

        def read_one(span: Span, descriptor: int) -> None:
            for offset in range(span.start, span.stop, READ_BYTES):
                os.pread(descriptor, min(READ_BYTES, span.stop - offset), offset)

        descriptors = list(pool.map(open_one, spans))
        list(pool.map(read_one, spans, descriptors))

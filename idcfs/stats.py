"""Counters and gauges, by name: what the mount has done, for ``/.status.json`` and for tests.

Counters only grow; gauges are asked for when somebody looks. The names are part of what idcfs promises: programs read
them. Everything happens in the one thread of the event loop, so a plain dictionary is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

COUNTERS = {
    "requests": "HTTP requests sent, retries included",
    "qido_requests": "requests for listings",
    "wado_requests": "requests for contents, by WADO-RS",
    "bucket_requests": "requests to the buckets, for lists and contents",
    "retries": "requests that repeated one without a good answer",
    "bytes_from_archive": "received from the DICOMweb server: what a quota counts",
    "bytes_from_buckets": "received from the buckets",
    "bucket_downloads": "contents, or ranges of them, that came from a bucket",
    "series_drifted": "series that are not as the index says",
    "downloads": "fetches of a file, or a range of it",
    "downloads_cancelled": "fetches that were stopped since nobody read on",
    "hits": "pieces of 1 MiB blocks that a read found at hand",
    "misses": "pieces of blocks that a read had to wait for",
    "disk_hits": "blocks that came from the disk cache",
    "disk_damaged": "blocks on disk that were damaged, and fetched again",
    "disk_unkept": "blocks that could not be kept on disk: see the log",
    "prefetched": "files fetched before they were asked for",
    "prefetched_used": "files fetched ahead that were opened then",
    "fast_failures": "requests not sent, since the server was away",
    "errors": "calls that failed, other than for a missing name",
}
"""Counters, with what they count in words for people, each without the others: Prometheus shows one at a time.
Bytes are those of bodies, as they came over the wire."""
OPTIONAL_GAUGES = {"circuits_open": "servers not asked at present: away, or quota spent"}
"""Gauges for which there may be nobody to answer: they are 0 then."""
GAUGES = OPTIONAL_GAUGES | {
    "cache_bytes": "contents in memory",
    "disk_cache_bytes": "contents on disk, of all mounts that share it",
    "disk_cache_capacity": "what contents on disk may take; 0: nothing is kept",
    "unwritten_bytes": "contents that wait to be written to disk",
    "open_files": "files open now",
    "open_directories": "directories open now",
    "files_in_use": "files that are open or being fetched",
    "running_downloads": "fetches that run now",
    "prefetching": "fetches that run before anybody has asked",
    "tasks": "tasks of the event loop; some run as long as the mount",
}
"""Gauges, in words for people."""

DETAILS = ("downloads", "circuits")
"""Lists of what is behind some gauges: what runs now, and whether each server is asked."""
Detail = dict[str, str | int | bool | None]
"""One thing of such a list, by the names that JSON has for it."""


class Stats:
    """Counters that grow and gauges that are read when asked."""

    def __init__(self) -> None:
        self._counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self._gauges: dict[str, list[Callable[[], int]]] = {name: [] for name in OPTIONAL_GAUGES}
        self._details: dict[str, list[Callable[[], list[Detail]]]] = {name: [] for name in DETAILS}

    def count(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to the counter ``name``, which must be one of ``COUNTERS``."""
        if name not in self._counters:
            raise KeyError(name)
        self._counters[name] += amount

    def gauge(self, name: str, read: Callable[[], int]) -> None:
        """Let ``read`` answer for the gauge ``name``; where several do, it is their sum."""
        self._gauges.setdefault(name, []).append(read)

    def detail(self, name: str, read: Callable[[], list[Detail]]) -> None:
        """Let ``read`` tell the list ``name``, one of ``DETAILS``; where several do, one after the other."""
        self._details[name].append(read)

    def details(self) -> dict[str, list[Detail]]:
        """Every list as it is now."""
        return {name: [one for read in reads for one in read()] for name, reads in self._details.items()}

    def __getitem__(self, name: str) -> int:
        return self._read(name) if name in self._gauges else self._counters[name]

    def snapshot(self) -> dict[str, int]:
        """Every counter and gauge as it stands now."""
        return dict(self._counters) | {name: self._read(name) for name in self._gauges}

    def line(self) -> str:
        """All of it on one line, for a log: ``name=value …``, and which servers are not asked."""
        numbers = [f"{name}={value}" for name, value in self.snapshot().items()]
        away = [f"{one['archive']} is not asked: {one['why']}" for one in self.details()["circuits"] if one["open"]]
        return "; ".join([" ".join(numbers), *away])

    def _read(self, name: str) -> int:
        return sum(read() for read in self._gauges[name])

"""Counters and gauges, by name: what the mount has done, for ``/.status.json`` and for tests.

Counters only grow; gauges are asked for when somebody looks. The names are part of what idcfs promises: programs read
them. Everything happens in the one thread of the event loop, so a plain dictionary is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

COUNTERS = (
    "requests",  # HTTP requests sent, retries included
    "qido_requests",  # … of which searches
    "wado_requests",  # … of which retrievals of instances or metadata
    "bucket_requests",  # … of which listings, headers and contents from the public buckets
    "retries",  # … of which repeated one that got no good answer
    "bytes_from_archive",  # bytes of response bodies as they came over the wire
    "bucket_downloads",  # bodies, of instances or ranges of them, that came from a bucket
    "series_drifted",  # series that are not as the index says: other numbers of instances, or of bytes
    "downloads",  # fetches of an instance that were started
    "downloads_cancelled",  # … of which were stopped because nobody read on
    "hits",  # blocks that a read found at hand: in the cache, or in what is arriving
    "misses",  # blocks that a read had to wait for
    "disk_hits",  # blocks that came from the disk cache
    "disk_damaged",  # blocks of the disk cache that were not what had been written, and so were fetched again
    "disk_unkept",  # blocks that could not be kept on disk: it is full, cannot be used, or hangs
    "prefetched",  # instances that were fetched before anybody asked
    "prefetched_used",  # … of which were opened then
    "fast_failures",  # requests that were not sent because the archive was known to be away
    "errors",  # calls that ended with an error other than "no such name"
)
SHARED_GAUGES = ("circuits_open",)  # archives that are not asked at present: each answers for itself


class Stats:
    """Counters that grow and gauges that are read when asked."""

    def __init__(self) -> None:
        self._counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self._gauges: dict[str, list[Callable[[], int]]] = {name: [] for name in SHARED_GAUGES}

    def count(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to the counter ``name``, which must be one of ``COUNTERS``."""
        if name not in self._counters:
            raise KeyError(name)
        self._counters[name] += amount

    def gauge(self, name: str, read: Callable[[], int]) -> None:
        """Let ``read`` answer for the gauge ``name``; where several do, it is their sum."""
        self._gauges.setdefault(name, []).append(read)

    def __getitem__(self, name: str) -> int:
        return self._read(name) if name in self._gauges else self._counters[name]

    def snapshot(self) -> dict[str, int]:
        """Every counter and gauge as it stands now."""
        return dict(self._counters) | {name: self._read(name) for name in self._gauges}

    def _read(self, name: str) -> int:
        return sum(read() for read in self._gauges[name])

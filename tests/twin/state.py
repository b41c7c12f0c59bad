"""What changes while the twin runs: the knobs in force, what is left of their one-off faults, and the counters."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from tests.twin.knobs import DEFAULTS, Knobs, parse_knobs

REMEMBERED_REQUESTS = 1_000
"""How many of the last requests the counters tell in full."""


class State:
    """One per process; only the event loop touches it."""

    def __init__(self, knobs: Knobs = DEFAULTS) -> None:
        self._first_knobs = knobs
        self.knobs = knobs
        self.fail_left: deque[int] = deque(knobs.fail_next)
        self.refuse_left = knobs.refuse_next
        self.quota_used = 0
        self.connections: set[Any] = set()
        """Connections that carried a request other than those to the twin's own controls."""
        self.in_flight = 0
        self.reset_counters()

    def set_knobs(self, values: Mapping[str, Any]) -> None:
        """Puts ``values`` over the knobs in force; a one-off fault named in them starts anew."""
        self.knobs = parse_knobs(values, self.knobs)
        if "fail_next" in values:
            self.fail_left = deque(self.knobs.fail_next)
        if "refuse_next" in values:
            self.refuse_left = self.knobs.refuse_next
        if "quota_bytes" in values:
            self.quota_used = 0

    def reset_knobs(self) -> None:
        """Back to the knobs the process was started with."""
        self.knobs = self._first_knobs
        self.fail_left = deque(self.knobs.fail_next)
        self.refuse_left = self.knobs.refuse_next
        self.quota_used = 0

    def reset_counters(self) -> None:
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.bytes_sent = 0
        self.aborted = 0
        self.connections_high_water = len(self.connections)
        self.in_flight_high_water = self.in_flight
        self.last: deque[dict[str, Any]] = deque(maxlen=REMEMBERED_REQUESTS)

    def counters(self) -> dict[str, Any]:
        """Everything that is counted, for JSON."""
        return {
            "requests": dict(self.requests),
            "statuses": dict(self.statuses),
            "bytes_sent": self.bytes_sent,
            "aborted": self.aborted,
            "connections_open": len(self.connections),
            "connections_high_water": self.connections_high_water,
            "in_flight": self.in_flight,
            "in_flight_high_water": self.in_flight_high_water,
            "last": list(self.last),
        }

    def request_begins(self, connection: Any, record: dict[str, Any]) -> None:
        self.requests[record["kind"]] += 1
        self.last.append(record)
        self.connections.add(connection)
        self.in_flight += 1
        self.connections_high_water = max(self.connections_high_water, len(self.connections))
        self.in_flight_high_water = max(self.in_flight_high_water, self.in_flight)

    def request_ends(self) -> None:
        self.in_flight -= 1

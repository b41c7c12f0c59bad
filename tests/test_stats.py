"""Counters and gauges."""

from __future__ import annotations

import pytest

from idcfs.stats import COUNTERS, OPTIONAL_GAUGES, Stats


def test_counters_grow_and_gauges_are_asked() -> None:
    stats, level = Stats(), [5]
    stats.gauge("open_files", lambda: level[0])
    stats.count("hits")
    stats.count("hits", 2)
    stats.count("misses", 0)
    level[0] = 6
    assert (stats["hits"], stats["misses"], stats["open_files"]) == (3, 0, 6)
    nothing = dict.fromkeys((*COUNTERS, *OPTIONAL_GAUGES), 0)
    assert stats.snapshot() == nothing | {"hits": 3, "open_files": 6}


def test_several_may_answer_for_a_gauge() -> None:
    stats = Stats()
    for level in (0, 1, 1):
        stats.gauge("circuits_open", lambda level=level: level)  # type: ignore[misc]
    assert stats["circuits_open"] == stats.snapshot()["circuits_open"] == 2


def test_a_counter_that_nobody_promised_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Stats().count("hit")

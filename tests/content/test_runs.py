"""How far ahead of a reader is fetched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.content.runs import Runs, Window, gaps
from idcfs.settings import GIB, KIB, MIB

PLENTY = 20 * GIB


def ahead(runs: Runs, start: int, end: int) -> int:
    """Blocks ahead of what is read."""
    return runs.read(start, end).stop - -(-end // MIB)


def test_nothing_is_fetched_ahead_of_who_has_read_little() -> None:
    runs = Runs(PLENTY, 24)
    assert [ahead(runs, at, at + 128 * KIB) for at in range(0, 3 * MIB - 128 * KIB, 128 * KIB)] == [0] * 23


def test_who_reads_on_has_as_much_ahead_as_he_has_read_up_to_16_mib() -> None:
    runs = Runs(PLENTY, 24)
    found = [(at + MIB, runs.read(at, at + MIB)) for at in range(100 * MIB, 140 * MIB, MIB)]
    for end, window in found:
        read = end - 100 * MIB
        assert window.stop * MIB <= end + min(read, 16 * MIB)
        if read >= 3 * MIB:
            assert window.stop * MIB > end + min(read, 16 * MIB) - window.step * MIB
    assert [window.step for _, window in found][2:16] == [1, 2, 2, 2, 2, *[4] * 9]


def test_a_seek_begins_anew() -> None:
    runs = Runs(PLENTY, 24)
    for at in range(0, 40 * MIB, MIB):
        runs.read(at, at + MIB)
    assert ahead(runs, 500 * MIB, 501 * MIB) == 0
    assert ahead(runs, 40 * MIB, 41 * MIB) >= 12  # the other one has not gone


def test_pieces_a_little_out_of_order_are_in_order() -> None:
    runs = Runs(PLENTY, 24)
    for at in range(0, 16, 2):
        runs.read((at + 1) * MIB, (at + 2) * MIB)
        runs.read(at * MIB, (at + 1) * MIB)
    assert ahead(runs, 16 * MIB, 17 * MIB) >= 12


def test_of_very_many_readers_those_who_read_last_are_remembered() -> None:
    runs = Runs(PLENTY, 24)
    for number in range(200):
        runs.read(number * 100 * MIB, number * 100 * MIB + 4 * MIB)
    assert len(runs._runs) == 64
    assert ahead(runs, 199 * 100 * MIB + 4 * MIB, 199 * 100 * MIB + 5 * MIB) == 5
    assert ahead(runs, 4 * MIB, 5 * MIB) == 0


@pytest.mark.parametrize(("capacity", "most"), [(0, 0), (24 * MIB, 0), (72 * MIB, 2), (240 * MIB, 9), (PLENTY, 16)])
def test_it_goes_no_further_than_the_cache_can_keep_for_all(capacity: int, most: int) -> None:
    runs = Runs(capacity, 24)
    assert max(ahead(runs, at, at + MIB) for at in range(0, 60 * MIB, MIB)) <= most
    assert (most < 2) == (not any(ahead(runs, at, at + MIB) for at in range(60 * MIB, 70 * MIB, MIB)))


def test_many_readers_of_one_instance_share_what_the_cache_can_keep() -> None:
    runs = Runs(640 * MIB, 24)
    found = [
        ahead(runs, reader * 100 * MIB + at, reader * 100 * MIB + at + MIB)
        for at in range(0, 20 * MIB, MIB)
        for reader in range(32)
    ]
    assert max(found[-32:]) <= 9
    assert sum(found[-32:]) > 0


def test_clearing_begins_anew() -> None:
    runs = Runs(PLENTY, 24)
    runs.read(0, 10 * MIB)
    runs.clear()
    assert ahead(runs, 10 * MIB, 11 * MIB) == 0


@given(there=st.sets(st.integers(0, 40)), start=st.integers(0, 20), length=st.integers(0, 20), step=st.integers(1, 4))
def test_gaps_are_what_is_not_there_and_nothing_else(there: set[int], start: int, length: int, step: int) -> None:
    pieces = list(gaps(start, Window(start + length, step), there.__contains__))
    blocks = [block for first, stop in pieces for block in range(first, stop)]
    assert blocks == [block for block in range(start, start + length) if block not in there]
    assert all(0 < stop - first <= step for first, stop in pieces)

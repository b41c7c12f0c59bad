"""Sizes in listings: they add up to the index's, change only in ways that are announced, and drift is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.namespace import listing
from idcfs.namespace.listing import ROUND_BYTES, UNKNOWN_BYTES, Listing
from idcfs.settings import MAX_INSTANCE_BYTES
from tests.namespace.listed import Archive, listing_of, listings_of, numbered, series, uids
from tests.namespace.making import patient

GIB = 2**30


def blocks(size: int) -> int:
    return -(-size // 512)


def check_sizes(one: Listing, total_bytes: int, known: dict[int, int]) -> None:
    """The rules of sizes, whatever is known."""
    left = max(0, total_bytes - sum(known.values()))
    unknown = [ordinal for ordinal in range(len(one)) if ordinal not in known]
    for ordinal, exact in known.items():
        assert one.size(ordinal) == (exact, blocks(exact), True)
        assert one.exact_size(ordinal) == exact
    for ordinal in unknown:
        size = one.size(ordinal)
        assert one.exact_size(ordinal) is None
        assert not size.exact
        assert size.size >= ROUND_BYTES
        assert size.size % ROUND_BYTES == 0
        assert size.size * len(unknown) >= left
        assert (size.size - ROUND_BYTES) * len(unknown) < max(left, 1)
    on_disk = sum(one.size(ordinal).blocks for ordinal in range(len(one)))
    assert on_disk == sum(map(blocks, known.values())) + (blocks(left) if unknown else 0)


# --- sizes -----------------------------------------------------------------------------------------------------------


@patient
@given(
    st.integers(2, 9),
    st.integers(1, 100 * GIB),
    st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, GIB))),
)
def test_a_series_is_as_large_as_the_index_says_whatever_is_learnt_and_forgotten(
    count: int, total_bytes: int, events: list[tuple[int, int | None]]
) -> None:
    one = listing_of(count, total_bytes)
    known: dict[int, int] = {}
    check_sizes(one, total_bytes, known)
    for number, size in events:
        ordinal = number % count
        if size is None:
            one.forget(ordinal)
            known.pop(ordinal, None)
        else:
            one.learn(ordinal, size)
            known[ordinal] = size
        check_sizes(one, total_bytes, known)


def test_the_one_instance_of_a_series_is_as_large_as_the_series() -> None:
    assert listing_of(1, 123_457).size(0) == (123_457, 242, True)


def test_a_size_that_no_instance_has_is_not_believed() -> None:
    """Whoever looks through the blocks of such a file would take for ever."""
    assert listing_of(1, MAX_INSTANCE_BYTES).exact_size(0) == MAX_INSTANCE_BYTES
    assert listing_of(1, MAX_INSTANCE_BYTES + 1).exact_size(0) is None
    remembered = listing_of(2, None, sizes={uids(2)[0]: MAX_INSTANCE_BYTES + 1, uids(2)[1]: 5})
    assert (remembered.exact_size(0), remembered.exact_size(1)) == (None, 5)


def test_one_instance_listed_of_several_says_nothing_of_its_size() -> None:
    assert not Listing(series(2, 900_000), "uuid", uids(1), {}).size(0).exact
    assert not Listing(series(None, 900_000), "uuid", uids(1), {}).size(0).exact


def test_the_index_is_believed_before_a_size_that_was_remembered() -> None:
    assert listing_of(1, 1_000, {uids(1)[0]: 7}).exact_size(0) == 1_000


def test_without_a_sum_sizes_are_guesses_until_learnt() -> None:
    one = listing_of(3, None)
    assert one.size(1) == (UNKNOWN_BYTES, UNKNOWN_BYTES // 512, False)
    one.learn(1, 5)
    assert [one.size(ordinal).exact for ordinal in range(3)] == [False, True, False]


def test_sizes_remembered_earlier_are_exact_from_the_start() -> None:
    one = listing_of(3, 900_000, {"1.2.3.1": 300_001, "1.2.3.99": 7})
    check_sizes(one, 900_000, {1: 300_001})


def test_all_instances_known_is_no_division_by_zero() -> None:
    one = listing_of(2, 900_000, {"1.2.3.0": 1, "1.2.3.1": 2})
    check_sizes(one, 900_000, {0: 1, 1: 2})


# --- sizes that are news ---------------------------------------------------------------------------------------------


def test_a_size_learnt_after_the_listing_was_made_is_announced_once() -> None:
    one = listing_of(3, 900_000, {"1.2.3.0": 7})
    assert not any(one.announce(ordinal) for ordinal in range(3))
    one.learn(0, 7)  # known
    one.learn(1, 8)
    assert [one.announce(ordinal) for ordinal in range(3)] == [False, True, False]
    one.learn(1, 8)
    assert not one.announce(1)
    one.learn(1, 9)
    assert [one.announce(1), one.announce(1)] == [True, False]


def test_a_size_forgotten_and_learnt_is_news_again() -> None:
    one = listing_of(3, 900_000, {"1.2.3.0": 7})
    one.forget(0)
    one.learn(0, 7)
    assert [one.announce(0), one.announce(0)] == [True, False]


def test_the_size_of_a_one_instance_series_is_no_news() -> None:
    assert not listing_of(1, 1_000, {uids(1)[0]: 7}).announce(0)


async def test_remembering_a_size_that_is_known_changes_nothing(tmp_path: Path) -> None:
    async with listings_of(Archive(), tmp_path) as listings:
        one = await listings.get(0, series())
        listings.remember_size(one, 1, 300_001)
        assert one.announce(1)
        listings.remember_size(one, 1, 300_001)
        assert not one.announce(1)
        check_sizes(one, 900_000, {1: 300_001})
    async with listings_of(Archive(uids(1)), tmp_path) as listings:
        only = await listings.get(1, series(1, 1_000, "only"))
        listings.remember_size(only, 0, 1_000)
        assert not only.announce(0)


async def test_what_an_evicted_listing_gave_for_provisional_is_news_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    async with listings_of(Archive(), tmp_path) as listings:
        first = await listings.get(0, numbered(0))
        listings.remember_size(first, 1, 300_001)  # by prefetching, say: nobody has announced it
        await listings.get(1, numbered(1))
        again = await listings.get(0, numbered(0))
        assert again is not first
        assert [again.announce(ordinal) for ordinal in range(3)] == [False, True, False]
    async with listings_of(Archive(), tmp_path) as listings:
        assert not (await listings.get(0, numbered(0))).announce(1)  # another mount's kernel has heard nothing yet


# --- another release -------------------------------------------------------------------------------------------------


async def test_sizes_that_do_not_add_up_are_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        listing = await listings.get(5, series(3, 900_000))
        for ordinal, size in enumerate((300_000, 300_000, 300_001)):
            assert archive.stats["series_drifted"] == 0
            listings.remember_size(listing, ordinal, size)
        listings.remember_size(listing, 0, 300_007)
    assert archive.stats["series_drifted"] == 1
    (told,) = [record.message for record in caplog.records if "another release" in record.message]
    assert told.startswith("series 1.2.3: its instances are not of the 900000 bytes in all that the index gives")


async def test_sizes_that_add_up_or_are_not_all_known_are_no_drift(tmp_path: Path) -> None:
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        for row, (total, sizes) in enumerate([(900_000, (3, 4)), (900_000, (1, 2, 899_997)), (None, (1, 2, 3))]):
            listing = await listings.get(row, replace(numbered(row), total_bytes=total))
            for ordinal, size in enumerate(sizes):
                listings.remember_size(listing, ordinal, size)
    assert archive.stats["series_drifted"] == 0


async def test_sizes_that_a_bucket_tells_are_exact_at_once_and_kept(tmp_path: Path) -> None:
    async with listings_of(Archive(), tmp_path) as listings:
        listing = await listings.get(5, series())
        listings.learn_sizes("uuid", {"1.2.3.0": 7, "1.2.3.2": 9, "1.9": 1})
        listings.learn_sizes("another", {"1.2.3.1": 7})
        assert [listing.exact_size(ordinal) for ordinal in range(3)] == [7, None, 9]
        assert listing.announce(0)
        await listings.sync()
    async with listings_of(Archive(), tmp_path) as listings:
        assert (await listings.get(5, series())).exact_size(2) == 9


async def test_a_size_that_was_proven_is_not_replaced_by_what_a_bucket_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        listing = await listings.get(5, series())
        listings.remember_size(listing, 0, 7)
        listings.learn_sizes("uuid", {"1.2.3.0": 8, "1.2.3.1": 9})
        assert [listing.exact_size(ordinal) for ordinal in range(3)] == [7, 9, None]
        await listings.sync()
    archive.sizes = dict.fromkeys(uids(3), 8)
    for _ in range(2):
        async with listings_of(archive, tmp_path, wants_sizes=True) as listings:
            listing = await listings.get(5, series())
            assert [listing.exact_size(ordinal) for ordinal in range(3)] == [7, 9, 8]
            await listings.sync()
    told = [record.message for record in caplog.records if "listed with" in record.message]
    assert told == [
        "series 1.2.3: instance 1.2.3.0 is of 7 bytes, and listed with 8; 0 others so",
        "series 1.2.3: instance 1.2.3.0 is of 7 bytes, and listed with 8; 1 others so",
    ]


async def test_who_wants_sizes_asks_again_until_the_archive_tells_them(tmp_path: Path) -> None:
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        await listings.get(5, series())
        await listings.sync()
    archive.sizes = dict.fromkeys(uids(3), 300_000)
    for calls in (2, 2):
        async with listings_of(archive, tmp_path, wants_sizes=True) as listings:
            listing = await listings.get(5, series())
            assert listing.exact_size(1) == 300_000
            await listings.sync()
        assert archive.calls == calls


async def test_what_is_in_no_bucket_is_asked_for_once(tmp_path: Path) -> None:
    archive = Archive()
    for _ in range(2):
        async with listings_of(archive, tmp_path, wants_sizes=True) as listings:
            await listings.get(5, replace(series(), bucket=""))
            await listings.sync()
    assert archive.calls == 1


async def test_sizes_that_come_with_the_list_and_do_not_add_up_are_counted_too(tmp_path: Path) -> None:
    archive = Archive(sizes=dict.fromkeys(uids(3), 300_001))
    async with listings_of(archive, tmp_path, wants_sizes=True) as listings:
        await listings.get(5, series())
    assert archive.stats["series_drifted"] == 1

"""Listings of series: their sizes add up to the index's, and they are fetched once and checked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from idcfs.errors import Damaged, Gone, Unreachable
from idcfs.namespace import listing
from idcfs.namespace.catalog import Series
from idcfs.namespace.listing import ROUND_BYTES, UNKNOWN_BYTES, Listing, Listings
from idcfs.namespace.names import instance_name
from idcfs.namespace.sizes import SizeStore
from tests.namespace.making import any_text, assert_legal, hostile, patient

GIB = 2**30


def series(instances: int | None = 3, total_bytes: int | None = 900_000, content: str = "uuid") -> Series:
    return Series("1.2", "1.2.3", instances, total_bytes, content, frozenset())


def uids(count: int) -> list[str]:
    return [f"1.2.3.{number}" for number in range(count)]


def listing_of(count: int, total_bytes: int | None, sizes: dict[str, int] | None = None) -> Listing:
    return Listing(series(count, total_bytes), "uuid", uids(count), sizes or {})


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


# --- names -----------------------------------------------------------------------------------------------------------


@patient
@given(st.lists(hostile(any_text), max_size=20))
def test_whatever_a_server_calls_its_instances_has_a_name_and_none_is_lost(given_uids: list[str]) -> None:
    one = Listing(series(len(given_uids), None), "uuid", given_uids, {})
    assert len(one) == len(set(given_uids))
    assert one.names == sorted(one.names)
    seen = set()
    for ordinal, name in enumerate(one.names):
        assert_legal(name)
        assert one.find(name) == ordinal
        try:
            seen.add(one.instance_uid(ordinal))
        except Damaged:
            seen |= {uid for uid in given_uids if instance_name(uid) == name}
    assert seen == set(given_uids)
    assert one.find(b"absent") is one.find(b"") is one.find(b"\xff") is None


# --- fetching --------------------------------------------------------------------------------------------------------


@dataclass
class Archive:
    """Lists ``answer`` once ``open`` is set; counts how often."""

    answer: Sequence[str] | Exception = field(default_factory=lambda: uids(3))
    calls: int = 0
    open: trio.Event = field(default_factory=trio.Event)

    async def list(self, study_uid: str, series_uid: str, expected: int | None) -> Sequence[str]:
        self.calls += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def listings_of(archive: Archive, tmp_path: Path, *, held: bool = False) -> AsyncIterator[Listings]:
    if not held:
        archive.open.set()
    store = SizeStore(tmp_path / "sizes.sqlite")
    try:
        async with trio.open_nursery() as nursery:
            yield Listings(archive.list, store, nursery, "http://archive")
    finally:
        store.close()


async def test_a_hundred_who_ask_at_once_cost_one_request(tmp_path: Path) -> None:
    archive, answers = Archive(), []

    async def ask() -> None:
        answers.append(await listings.get(5, series()))

    async with listings_of(archive, tmp_path, held=True) as listings, trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        archive.open.set()
    assert archive.calls == 1
    assert len(answers) == 100
    assert all(answer is answers[0] for answer in answers)


async def test_a_listing_is_kept(tmp_path: Path) -> None:
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        assert listings.kept(5) is None
        first = await listings.get(5, series())
        assert listings.kept(5) is first is await listings.get(5, series())
        assert listings.kept(6) is None
    assert archive.calls == 1


@pytest.mark.parametrize("instances", [None, 0])
async def test_an_empty_listing_is_kept_as_well(instances: int | None, tmp_path: Path) -> None:
    archive = Archive([])
    async with listings_of(archive, tmp_path) as listings:
        assert len(await listings.get(5, series(instances))) == 0
        await listings.get(5, series(instances))
    assert archive.calls == 1


async def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    archive = Archive(Unreachable("no route"))
    async with listings_of(archive, tmp_path) as listings:
        with pytest.raises(Unreachable, match="no route"):
            await listings.get(5, series())
        archive.answer = uids(3)
        assert len(await listings.get(5, series())) == 3
    assert archive.calls == 2


async def test_the_listing_longest_unused_makes_room_and_comes_back_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_KEPT", 10)  # room for two listings of three
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        first = await listings.get(0, series())
        await listings.get(1, series())
        listings.remember_size(first, 1, 300_001)
        await listings.get(0, series())
        await listings.get(2, series())
        assert [listings.kept(row) is not None for row in range(3)] == [True, False, True]
        for row in (3, 4):
            await listings.get(row, series())
        assert listings.kept(0) is None
        again = await listings.get(0, series())
        assert again.names == first.names
        assert again.exact_size(1) == 300_001
    assert archive.calls == 6


async def test_a_listing_larger_than_the_room_for_all_is_kept_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_KEPT", 10)
    archive = Archive(uids(50))
    async with listings_of(archive, tmp_path) as listings:
        await listings.get(0, series(50))
        await listings.get(0, series(50))
    assert archive.calls == 1


@pytest.mark.parametrize("changed", [["1.2.3.0", "1.2.3.1", "1.2.3.9"], ["1.2.3.0"], [*uids(3), "1.2.3.9"]])
async def test_a_series_that_changed_while_mounted_is_gone(
    changed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        await listings.get(0, series())
        await listings.get(1, series())
        archive.answer = changed
        with pytest.raises(Gone, match="mount again"):
            await listings.get(0, series())
        archive.answer = list(reversed(uids(3)))  # another order is no change
        assert len(await listings.get(0, series())) == 3


async def test_a_series_that_the_archive_does_not_have_is_gone(tmp_path: Path) -> None:
    async with listings_of(Archive([]), tmp_path) as listings:
        with pytest.raises(Gone, match=r"the index lists 3 instances.*none"):
            await listings.get(5, series(3))


@pytest.mark.parametrize("answer", [uids(2), uids(4), ["1.2.3.0", "1.2.3.1", "1.2.3.1"]])
async def test_another_number_than_the_index_s_is_served_and_logged(
    answer: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listings_of(Archive(answer), tmp_path) as listings:
        one = await listings.get(5, series(3))
    assert one.names == sorted({instance_name(uid) for uid in answer})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"the index lists 3 instances, the archive {len(one)}" in record.getMessage()


async def test_the_number_that_the_index_lists_is_no_reason_to_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listings_of(Archive(), tmp_path) as listings:
        await listings.get(5, series(3))
        await listings.get(6, series(None))
    assert caplog.records == []


async def test_more_instances_than_inode_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_ORDINAL", 2)
    async with listings_of(Archive(), tmp_path) as listings:
        with pytest.raises(Damaged, match="more than inode numbers have room for"):
            await listings.get(5, series())


async def test_sizes_are_remembered_by_content_across_mounts(tmp_path: Path) -> None:
    for total_known in (0, 1, 2):
        async with listings_of(Archive(), tmp_path) as listings:
            one = await listings.get(total_known, series(content="same"))
            assert sum(one.size(ordinal).exact for ordinal in range(3)) == total_known
            listings.remember_size(one, total_known, 300_001)
            assert one.exact_size(total_known) == 300_001
            other = await listings.get(9, series(content="other"))
            assert other.exact_size(total_known) is None


async def test_without_a_content_uuid_sizes_belong_to_the_archive_and_may_be_doubted(tmp_path: Path) -> None:
    async with listings_of(Archive(), tmp_path) as listings:
        one = await listings.get(0, series(content=""))
        assert one.content == "http://archive/1.2/1.2.3"
        listings.remember_size(one, 1, 7)
        listings.forget_size(one, 1)
        listings.forget_size(one, 2)
        assert one.exact_size(1) is None

"""Listings of series: their sizes add up to the index's, and they are fetched once and checked."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from idcfs.archive.choice import Listed
from idcfs.errors import AccessDenied, Damaged, DeadlinePassed, Gone, IdcfsError, QuotaSpent, Refused, Unreachable
from idcfs.namespace import listing
from idcfs.namespace.catalog import Series
from idcfs.namespace.listing import ROUND_BYTES, UNKNOWN_BYTES, Listing, Listings
from idcfs.namespace.names import instance_name
from idcfs.namespace.store import SeriesStore
from idcfs.stats import Stats
from tests.namespace.making import any_text, assert_legal, hostile, patient

GIB = 2**30


def series(instances: int | None = 3, total_bytes: int | None = 900_000, content: str = "uuid") -> Series:
    return Series("1.2", "1.2.3", instances, total_bytes, content, frozenset(), "idc-open-data")


def numbered(row: int, instances: int | None = 3) -> Series:
    return series(instances, content=f"uuid-{row}")


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
    sizes: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    open: trio.Event = field(default_factory=trio.Event)
    stats: Stats = field(default_factory=Stats)

    async def list(self, one: Series) -> Listed:
        self.calls += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return Listed(self.answer, self.sizes)


@asynccontextmanager
async def listings_of(
    archive: Archive, tmp_path: Path, *, held: bool = False, offline: bool = False, wants_sizes: bool = False
) -> AsyncIterator[Listings]:
    if not held:
        archive.open.set()
    store = SeriesStore(tmp_path / "series.sqlite")
    try:
        async with trio.open_nursery() as nursery:
            yield Listings(
                archive.list, store, nursery, "http://archive", archive.stats, wants_sizes=wants_sizes, offline=offline
            )
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
        first = await listings.get(0, numbered(0))
        await listings.get(1, numbered(1))
        listings.remember_size(first, 1, 300_001)
        await listings.get(0, numbered(0))
        await listings.get(2, numbered(2))
        assert [listings.kept(row) is not None for row in range(3)] == [True, False, True]
        for row in (3, 4):
            await listings.get(row, numbered(row))
        assert listings.kept(0) is None
        again = await listings.get(0, numbered(0))
        assert again is not first
        assert again.names == first.names
        assert again.exact_size(1) == 300_001
    assert archive.calls == 5


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
    one, other = (
        numbered(0, None),
        numbered(1, None),
    )  # an index that tells no number, so the archive is asked each time
    async with listings_of(archive, tmp_path) as listings:
        await listings.get(0, one)
        await listings.get(1, other)
        archive.answer = changed
        with pytest.raises(Gone, match="mount again"):
            await listings.get(0, one)
        archive.answer = list(reversed(uids(3)))  # another order is no change
        assert len(await listings.get(0, one)) == 3
        assert archive.calls == 4


async def test_a_series_as_large_as_the_index_says_cannot_change_while_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_KEPT", 4)
    archive = Archive()
    async with listings_of(archive, tmp_path) as listings:
        first = await listings.get(0, numbered(0))
        await listings.get(1, numbered(1))
        archive.answer = uids(4)
        assert listings.kept(0) is None
        assert (await listings.get(0, numbered(0))).names == first.names
    assert archive.calls == 2


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


# --- lists kept on disk ----------------------------------------------------------------------------------------------

AWAY = [Unreachable("no route"), DeadlinePassed("too slow"), QuotaSpent("tomorrow")]
by_name = pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)


async def visited(archive: Archive, tmp_path: Path, one: Series, *, offline: bool = False) -> Listing:
    """The listing that a mount of its own gives."""
    async with listings_of(archive, tmp_path, offline=offline) as listings:
        return await listings.get(5, one)


async def refused(archive: Archive, tmp_path: Path, one: Series, error: IdcfsError) -> None:
    """A mount of its own gives no listing, but ``error``."""
    async with listings_of(archive, tmp_path) as listings:
        with pytest.raises(type(error), match=str(error)):
            await listings.get(5, one)


async def test_a_series_visited_once_is_never_asked_for_again(tmp_path: Path) -> None:
    archive, one = Archive(list(reversed(uids(3)))), series()
    first = await visited(archive, tmp_path, one)
    archive.answer = Unreachable("no route")
    for _ in range(2):
        again = await visited(archive, tmp_path, one)
        assert again.names == first.names == [instance_name(uid) for uid in uids(3)]
    assert archive.calls == 1


async def test_without_a_content_uuid_each_mount_asks_for_a_list_of_the_right_length_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, one = Archive(), series(content="")
    await visited(archive, tmp_path, one)
    archive.answer = ["1.2.3.7", "1.2.3.8", "1.2.3.9"]  # sent again: as many, but others
    names = [instance_name(uid) for uid in archive.answer]
    assert (await visited(archive, tmp_path, one)).names == names
    assert caplog.records == []
    archive.answer = Unreachable("no route")
    assert (await visited(archive, tmp_path, one)).names == names
    (record,) = caplog.records
    assert "shown are the 3 instances listed earlier (no route)" in record.getMessage()
    assert archive.calls == 3


async def test_without_a_content_uuid_a_mount_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    archive = Archive()
    one, other = (Series("1.2", f"1.2.3.{row}", 3, 900_000, "", frozenset()) for row in range(2))
    for number in (1, 2):
        async with listings_of(archive, tmp_path) as listings:
            first = await listings.get(0, one)
            await listings.get(1, other)
            again = await listings.get(0, one)
            assert again is not first
            assert again.names == first.names
        assert archive.calls == 2 * number


async def test_the_largest_series_of_all_is_never_asked_for_again(tmp_path: Path) -> None:
    archive, one = Archive(uids(91_980)), series(91_980)
    first = await visited(archive, tmp_path, one)
    assert (await visited(archive, tmp_path, one)).names == first.names
    assert len(first) == 91_980
    assert archive.calls == 1


async def test_a_list_belongs_to_its_content(tmp_path: Path) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series(content="old"))
    await visited(archive, tmp_path, series(content="new"))
    await visited(archive, tmp_path, series(content=""))
    assert archive.calls == 3


@pytest.mark.parametrize("instances", [None, 2, 4])
async def test_a_list_that_the_index_does_not_confirm_is_asked_for_by_each_mount(
    instances: int | None, tmp_path: Path
) -> None:
    archive, one = Archive(), series(instances)
    await visited(archive, tmp_path, one)
    await visited(archive, tmp_path, one)
    assert archive.calls == 2
    archive.answer = uids(5)
    assert len(await visited(archive, tmp_path, one)) == 5
    archive.answer = Unreachable("no route")
    assert len(await visited(archive, tmp_path, one)) == 5  # the last answer, not the first
    assert archive.calls == 4


@by_name
@pytest.mark.parametrize("instances", [None, 2, 4])
async def test_while_the_archive_is_away_a_list_is_used_that_the_index_does_not_confirm(
    instances: int | None, error: IdcfsError, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, one = Archive(), series(instances)
    first = await visited(archive, tmp_path, one)
    caplog.clear()
    archive.answer = error
    again = await visited(archive, tmp_path, one)
    assert again.names == first.names
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"series 1.2.3 of study 1.2: shown are the 3 instances listed earlier ({error})" in record.getMessage()


async def test_offline_a_list_that_the_index_does_not_confirm_is_no_reason_to_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, one = Archive(), series(None)
    await visited(archive, tmp_path, one)
    archive.answer = Unreachable("offline")
    with caplog.at_level(logging.INFO):
        assert len(await visited(archive, tmp_path, one, offline=True)) == 3
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "shown are the 3 instances listed earlier (offline)" in record.getMessage()


async def test_that_the_archive_is_away_is_told_once_per_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive()
    for row in (0, 1):
        await visited(archive, tmp_path, numbered(row, None))
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    archive.answer = Unreachable("no route")
    async with listings_of(archive, tmp_path) as listings:
        for row in (0, 1, 0, 1):
            assert len(await listings.get(row, numbered(row, None))) == 3
    assert len(caplog.records) == 2
    assert archive.calls == 6


@by_name
async def test_while_the_archive_is_away_a_series_never_visited_cannot_be_listed(
    error: IdcfsError, tmp_path: Path
) -> None:
    await refused(Archive(error), tmp_path, series(), error)


@pytest.mark.parametrize("error", [Gone("410"), AccessDenied("403"), Refused("not JSON"), Damaged("cut off")])
async def test_what_the_archive_does_answer_is_believed_rather_than_a_kept_list(
    error: IdcfsError, tmp_path: Path
) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series(None))
    archive.answer = error
    await refused(archive, tmp_path, series(None), error)


async def test_a_list_of_nothing_is_kept_but_not_shown_where_the_index_lists_something(tmp_path: Path) -> None:
    archive = Archive([])
    for _ in range(2):
        assert len(await visited(archive, tmp_path, series(0))) == 0
    assert archive.calls == 1
    archive.answer = away = Unreachable("no route")
    assert len(await visited(archive, tmp_path, series(None))) == 0
    await refused(archive, tmp_path, series(3), away)


async def test_an_archive_that_lost_a_series_takes_no_kept_list_away(tmp_path: Path) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series(4))
    archive.answer = []
    await refused(archive, tmp_path, series(4), Gone("the archive has none of them"))
    archive.answer = Unreachable("no route")
    assert len(await visited(archive, tmp_path, series(4))) == 3


async def test_repeated_instances_do_not_count(tmp_path: Path) -> None:
    archive = Archive(["1.2.3.0", "1.2.3.1", "1.2.3.1"])
    await visited(archive, tmp_path, series(3))
    await visited(archive, tmp_path, series(3))
    assert archive.calls == 2  # two are not three
    await visited(archive, tmp_path, series(2))
    assert archive.calls == 2


async def test_a_damaged_list_is_asked_for_again(tmp_path: Path) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series())
    with closing(sqlite3.connect(tmp_path / "series.sqlite")) as connection, connection:
        connection.execute("UPDATE listing SET uids = substr(uids, 1, 30)")
    assert len(await visited(archive, tmp_path, series())) == 3
    assert archive.calls == 2
    await visited(archive, tmp_path, series())
    assert archive.calls == 2


async def test_without_a_place_a_series_is_asked_for_once_per_mount(tmp_path: Path) -> None:
    archive = Archive()
    for number in (1, 2):
        async with listings_of(archive, Path("/proc")) as listings:
            for row in range(3):
                await listings.get(row, series())
        assert archive.calls == number


async def test_a_list_of_the_absent_archive_that_changed_when_it_came_back_is_gone_until_the_next_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive()
    await visited(archive, tmp_path, numbered(0, None))
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    async with listings_of(archive, tmp_path) as listings:
        archive.answer = Unreachable("no route")
        assert len(await listings.get(0, numbered(0, None))) == 3
        archive.answer = uids(4)
        assert len(await listings.get(0, numbered(0, None))) == 3  # at hand: not asked for again
        await listings.get(1, numbered(1, None))
        with pytest.raises(Gone, match="mount again"):
            await listings.get(0, numbered(0, None))
    async with listings_of(archive, tmp_path) as listings:
        assert len(await listings.get(0, numbered(0, None))) == 4


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

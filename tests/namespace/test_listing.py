"""Listings of series: each instance has a name, and they are fetched once and checked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from idcfs.errors import Damaged, Gone, Unreachable
from idcfs.namespace import listing
from idcfs.namespace.listing import Listing
from idcfs.namespace.names import instance_name
from tests.namespace.listed import Archive, listings_of, numbered, series, uids
from tests.namespace.making import any_text, assert_legal, hostile, patient


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

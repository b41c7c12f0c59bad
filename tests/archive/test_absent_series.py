"""A series that the archive does not have is not asked for there file by file; one that lacks a file is."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from idcfs import errors
from tests.archive.two_places import Instance, Series, Setup

GONE = errors.Gone("no such instance")


def instances(count: int) -> list[Instance]:
    return [Instance(instance_uid=f"1.2.3.{number}") for number in range(count)]


async def test_after_two_instances_that_are_not_there_the_series_comes_from_its_bucket() -> None:
    setup = Setup()
    setup.wado.error = GONE
    assert [await setup.content(one) for one in instances(40)] == [b"bucket"] * 40
    assert setup.wado.asked == 2
    assert setup.choice.starts_anywhere(Instance(instance_uid="1.2.3.99"))
    assert not setup.choice.starts_anywhere(Instance(series_uid="1.2.4"))


async def test_what_the_archive_lists_it_has_whatever_is_missing_of_it() -> None:
    setup = Setup()
    await setup.choice.search_instances(Series())
    setup.wado.asked, setup.wado.error = 0, GONE
    assert [await setup.content(one) for one in instances(5)] == [b"bucket"] * 5
    setup.wado.error = None
    assert await setup.content(Instance(instance_uid="1.2.3.99")) == b"wado"
    assert setup.wado.asked == 6


async def test_one_missing_instance_is_no_missing_series() -> None:
    setup = Setup()
    one, another, *others = instances(6)
    setup.wado.error = GONE
    assert [await setup.content(one) for _ in range(3)] == [b"bucket"] * 3
    setup.wado.error = None
    assert [await setup.content(other) for other in others] == [b"wado"] * 4
    setup.wado.error = GONE
    assert await setup.content(another) == b"bucket"
    setup.wado.error = None
    assert await setup.content(others[0]) == b"wado"


@pytest.mark.parametrize("answer", [None, errors.Gone("no such series")], ids=["an empty list", "404"])
async def test_a_series_of_which_nothing_is_listed_is_not_asked_for_at_all(answer: errors.Gone | None) -> None:
    setup = Setup()
    setup.wado.uids, setup.wado.error = (), answer
    assert (await setup.choice.search_instances(Series())).uids == ["1.1", "1.2"]
    setup.wado.asked = 0
    setup.wado.error = GONE
    assert [await setup.content(one) for one in instances(5)] == [b"bucket"] * 5
    assert setup.wado.asked == 0


async def test_what_its_bucket_does_not_have_either_is_asked_for_at_the_archive() -> None:
    setup = Setup()
    setup.wado.uids = ()
    await setup.choice.search_instances(Series())
    setup.bucket.error = GONE
    one, other = instances(2)
    assert await setup.content(one) == b"wado"
    setup.bucket.error = None
    assert await setup.content(other) == b"wado"  # it has the series, after all


@pytest.mark.parametrize("error", [errors.Unreachable("down"), errors.AccessDenied("no"), errors.Refused("nonsense")])
async def test_another_failure_says_nothing_of_the_series(error: errors.IdcfsError) -> None:
    setup = Setup()
    setup.wado.error = error
    assert [await setup.content(one) for one in instances(5)] == [b"bucket"] * 5
    assert setup.wado.asked == 5


async def test_after_ten_minutes_the_archive_may_have_it(autojump_clock: MockClock) -> None:
    setup = Setup()
    setup.wado.error = GONE
    first, second, third, fourth = instances(4)
    for one in (first, second, third):
        await setup.content(one)
    setup.wado.error = None
    assert await setup.content(third) == b"bucket"
    await trio.sleep(601)
    assert await setup.content(fourth) == b"wado"

"""Which place is asked when, over two places that say what a test wrote down."""

from __future__ import annotations

from copy import copy
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from idcfs import errors
from idcfs.settings import MIB, Policy
from tests.archive.two_places import FAILURES, TIMEOUT, Body, Instance, Series, Setup


async def test_wado_rs_comes_first() -> None:
    setup = Setup()
    assert await setup.content() == b"wado"
    assert (setup.bucket.asked, setup.stats["bucket_downloads"]) == (0, 0)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
async def test_what_wado_rs_cannot_serve_the_bucket_does(failure: errors.IdcfsError) -> None:
    setup = Setup()
    setup.wado.error = copy(failure)
    assert [await setup.content() for _ in range(3)] == [b"bucket"] * 3
    assert setup.wado.asked == 1  # it is not asked again for the same instance
    assert setup.choice.starts_anywhere(Instance())
    assert setup.stats["bucket_downloads"] == 3


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
async def test_where_neither_can_serve_the_archive_says_why(failure: errors.IdcfsError) -> None:
    setup = Setup()
    setup.wado.error, setup.bucket.error = copy(failure), errors.Gone("not there")
    retrieval = setup.choice.retrieval(Instance())
    with pytest.raises(type(failure)) as raised:
        async with retrieval.fetch():
            pass
    assert not retrieval.goes_elsewhere(raised.value, resumes=False)  # both have been asked
    assert retrieval.last_word(raised.value) is raised.value
    setup.wado.away = errors.QuotaSpent("come back tomorrow")  # and so it is whoever is asked first
    with pytest.raises(type(failure)):
        await setup.content()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
async def test_one_place_alone_is_never_left(failure: errors.IdcfsError) -> None:
    for policy, first, other in (("wado", "wado", "bucket"), ("bucket", "bucket", "wado")):
        setup = Setup(cast("Policy", policy))
        getattr(setup, first).error = copy(failure)
        with pytest.raises(type(failure)):
            await setup.content()
        with pytest.raises(type(failure)):
            await setup.choice.search_instances(Series())
        assert getattr(setup, other).asked == 0
        getattr(setup, first).error = None
        retrieval = setup.choice.retrieval(Instance())
        async with retrieval.fetch():
            assert not retrieval.goes_elsewhere(failure, resumes=False)
        assert retrieval.last_word(failure) is failure


async def test_what_is_too_large_for_the_archive_is_not_asked_of_it() -> None:
    setup = Setup(most=32 * MIB)
    assert await setup.content(Instance(size=32 * MIB)) == b"bucket"
    assert setup.wado.asked == 0
    assert await setup.content(Instance(size=31 * MIB)) == b"wado"
    assert await Setup("wado", most=32 * MIB).content(Instance(size=40 * MIB)) == b"wado"  # it may do, nobody knows


async def test_what_is_in_no_bucket_comes_from_the_archive() -> None:
    for policy in ("auto", "wado"):
        setup = Setup(policy, most=1)
        setup.bucket.holds = False
        assert await setup.content(Instance(size=5)) == b"wado"
        assert not setup.choice.elsewhere(Instance())
        assert (await setup.choice.search_instances(Series())).uids == ["1.1", "1.2"]
        assert setup.bucket.asked == 0


async def test_an_archive_that_is_away_is_asked_only_for_what_the_bucket_has_not() -> None:
    setup = Setup()
    setup.wado.away = errors.QuotaSpent("come back tomorrow")
    assert await setup.content() == b"bucket"
    assert setup.wado.asked == 0
    setup.bucket.error = errors.Gone("not there")
    assert await setup.content() == b"wado"


async def test_the_buckets_come_first_while_somebody_reads_in_bulk() -> None:
    setup = Setup()
    one, other = setup.choice.begin_bulk(), setup.choice.begin_bulk()
    assert await setup.content() == b"bucket"
    one()
    assert await setup.content() == b"bucket"
    other()
    assert await setup.content() == b"wado"
    assert await Setup("wado").content() == b"wado"


async def test_an_instance_moves_and_not_for_ever(autojump_clock: MockClock) -> None:
    setup = Setup()
    assert not setup.choice.starts_anywhere(Instance())
    assert setup.choice.elsewhere(Instance())
    assert setup.choice.starts_anywhere(Instance())
    assert not setup.choice.starts_anywhere(Instance(instance_uid="9"))
    assert await setup.content() == b"bucket"
    await trio.sleep(700)
    assert await setup.content() == b"wado"


async def test_bytes_that_are_wrong_are_had_from_the_other_place_once() -> None:
    setup, wrong = Setup(), errors.Damaged("of another instance")
    one, another = (setup.choice.retrieval(Instance()) for _ in range(2))
    async with one.fetch(), another.fetch():
        assert one.goes_elsewhere(wrong, resumes=False)
        async with one.fetch():
            assert another.goes_elsewhere(wrong, resumes=False)  # as wrong, and found out later
            assert await setup.content() == b"bucket"
            assert not one.goes_elsewhere(errors.Damaged("this too"), resumes=False)  # there is no third place
            assert one.last_word(errors.Damaged("this too")) is wrong
    assert setup.bucket.asked == 2


async def test_what_the_bucket_sends_wrong_in_bulk_the_archive_may_send_right() -> None:
    setup, wrong = Setup(most=32 * MIB), errors.Damaged("of another instance")
    setup.choice.begin_bulk()
    retrieval = setup.choice.retrieval(Instance())
    async with retrieval.fetch():
        assert retrieval.goes_elsewhere(wrong, resumes=False)
    assert await setup.content() == b"wado"
    retrieval = setup.choice.retrieval(Instance(instance_uid="large", size=40 * MIB))
    async with retrieval.fetch():
        assert not retrieval.goes_elsewhere(wrong, resumes=False)
    assert retrieval.last_word(wrong) is wrong


@pytest.mark.parametrize("pause", [0.0, 20.0, 31.0])
async def test_a_body_that_brings_nothing_for_too_long_is_given_up(pause: float, autojump_clock: MockClock) -> None:
    setup = Setup()
    setup.wado.body = Body([bytes(64 * 1024)] * 4, pause)
    if pause <= TIMEOUT:
        assert len(await setup.content()) == 4 * 64 * 1024
    else:
        with pytest.raises(errors.DeadlinePassed, match=r"mock, Instance\(.*: no progress for 30 s"):
            await setup.content()


async def test_a_drip_is_nothing_and_a_slow_reader_is_no_slow_body(autojump_clock: MockClock) -> None:
    setup = Setup()
    setup.wado.body = Body([b"x"] * 100, 1.0)
    with pytest.raises(errors.DeadlinePassed):
        await setup.content()
    setup.wado.body = Body([b"x"] * 20, 1.0)
    async with setup.choice.retrieval(Instance()).fetch() as body:
        async for _ in body:
            await trio.sleep(600)


async def test_a_body_is_waited_for_where_there_is_no_other(autojump_clock: MockClock) -> None:
    setup = Setup("wado")
    setup.wado.body = Body([b"x"] * 3, 500.0)
    assert await setup.content() == b"xxx"


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_a_series_costs_one_search() -> None:
    setup = Setup()
    assert await setup.choice.search_instances(Series()) == (["1.1", "1.2"], {})
    assert (setup.wado.asked, setup.bucket.asked) == (1, 0)


@pytest.mark.parametrize("failure", [*FAILURES, None], ids=lambda error: type(error).__name__)
async def test_what_the_archive_cannot_list_the_bucket_lists(failure: errors.IdcfsError | None) -> None:
    setup = Setup()
    setup.wado.error, setup.wado.uids = copy(failure), ()
    assert await setup.choice.search_instances(Series()) == (["1.1", "1.2"], {"1.1": 7, "1.2": 7})
    setup.bucket.error = errors.Unreachable("nor this")
    with pytest.raises(type(failure) if failure else errors.Gone):
        await setup.choice.search_instances(Series())


async def test_an_empty_series_is_empty() -> None:
    setup = Setup()
    setup.wado.uids = ()
    assert await setup.choice.search_instances(Series(instances=0)) == ([], {})
    assert setup.bucket.asked == 0


async def test_exact_sizes_come_from_the_bucket_and_names_from_the_archive() -> None:
    for policy in ("auto", "wado"):
        setup = Setup(policy, exact_sizes=True)
        setup.wado.uids = ("1.1", "1.9")
        assert await setup.choice.search_instances(Series()) == (["1.1", "1.9"], {"1.1": 7, "1.2": 7})
        setup.bucket.error = errors.Unreachable("away")
        assert await setup.choice.search_instances(Series()) == (["1.1", "1.9"], {})


async def test_the_bucket_alone_needs_no_archive() -> None:
    setup = Setup("bucket")
    assert await setup.choice.search_instances(Series()) == (["1.1", "1.2"], {"1.1": 7, "1.2": 7})
    assert await setup.content() == b"bucket"
    assert setup.wado.asked == 0

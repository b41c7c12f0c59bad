"""How long an instance is, where WADO-RS does not say so: asked of the bucket, and not for ever."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from idcfs import errors
from idcfs.settings import Policy
from tests.archive.two_places import TIMEOUT, Body, Instance, Place, Setup


def telling_none(policy: Policy = "auto") -> Setup:
    """Of answers by WADO-RS that tell no lengths."""
    return Setup(policy, wado=Place(Body([b"wado"])))


async def size_of(setup: Setup, instance: Instance | None = None) -> int | None:
    async with setup.choice.retrieval(instance or Instance()).fetch() as body:
        return body.size


async def test_the_bucket_tells_what_the_answer_does_not() -> None:
    setup = telling_none()
    assert await size_of(setup) == 7
    setup.wado.body = Body([b"wado"], size=4)
    assert await size_of(setup) == 4
    assert setup.bucket.asked == 1


async def test_it_is_not_asked_what_is_known_or_what_it_does_not_hold() -> None:
    setup = telling_none()
    assert await size_of(setup, Instance(size=4)) is None
    setup.bucket.holds = False
    assert await size_of(setup) is None
    assert await size_of(telling_none("wado")) is None
    assert setup.bucket.asked == 0


@pytest.mark.parametrize("error", [errors.Gone("no such file"), errors.Unreachable("nobody there")], ids=str)
async def test_where_it_does_not_know_it_is_asked_once_a_minute(
    error: errors.IdcfsError, autojump_clock: MockClock
) -> None:
    setup = telling_none()
    setup.bucket.error = error
    assert [await size_of(setup) for _ in range(10)] == [None] * 10
    assert setup.bucket.asked == 1
    setup.bucket.error = None
    await trio.sleep(61)
    assert await size_of(setup) == 7


async def test_nobody_waits_for_it_longer_than_a_few_seconds(autojump_clock: MockClock) -> None:
    setup = telling_none()
    setup.bucket.listing_seconds = TIMEOUT
    began = trio.current_time()
    assert [await size_of(setup) for _ in range(10)] == [None] * 10
    assert trio.current_time() - began == pytest.approx(5.0)

"""Single flight: who asks at once shares one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from idcfs.errors import IdcfsError, Unreachable
from idcfs.flight import SingleFlight

Flights = SingleFlight[str, int]


@asynccontextmanager
async def flights() -> AsyncIterator[Flights]:
    async with trio.open_nursery() as nursery:
        yield SingleFlight(nursery)


class Work:
    """Work that waits to be let go, and counts how often it was started."""

    def __init__(self, result: int | Exception = 42) -> None:
        self.result = result
        self.started = 0
        self.go = trio.Event()

    async def __call__(self) -> int:
        self.started += 1
        await self.go.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def collect(call: Callable[[], Awaitable[int]], results: list[int | Exception]) -> None:
    try:
        results.append(await call())
    except IdcfsError as error:
        results.append(error)


@pytest.mark.parametrize("result", [42, Unreachable("no route")])
async def test_all_who_ask_at_once_share_one_answer_or_one_error(result: int | Exception) -> None:
    work, results = Work(result), list[int | Exception]()
    async with flights() as flight, trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(collect, lambda: flight.run("key", work), results)
        await trio.testing.wait_all_tasks_blocked()
        work.go.set()
    assert results == [result] * 100
    assert work.started == 1


async def test_other_keys_are_other_work() -> None:
    work, results = Work(), list[int | Exception]()
    work.go.set()
    async with flights() as flight, trio.open_nursery() as nursery:
        for key in "abc":
            nursery.start_soon(collect, lambda key=key: flight.run(key, work), results)
    assert work.started == len(results) == 3


async def test_the_first_who_asked_may_go_away_without_harm_to_the_others() -> None:
    work, results = Work(), list[int | Exception]()
    async with flights() as flight, trio.open_nursery() as nursery:
        with trio.CancelScope() as impatient:
            async with trio.open_nursery() as first:
                first.start_soon(flight.run, "key", work)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(collect, lambda: flight.run("key", work), results)
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel()
        assert impatient.cancelled_caught
        work.go.set()
    assert results == [42]
    assert work.started == 1


async def test_nothing_is_kept_after_an_answer_or_a_failure() -> None:
    failing, work = Work(Unreachable("no route")), Work()
    failing.go.set()
    work.go.set()
    async with flights() as flight:
        for _ in range(2):
            with pytest.raises(Unreachable):
                await flight.run("key", failing)
        for _ in range(2):
            assert await flight.run("key", work) == 42
    assert failing.started == work.started == 2


async def test_when_the_mount_goes_down_nobody_waits_for_ever() -> None:
    work = Work()
    async with trio.open_nursery() as mount:
        flight: Flights = SingleFlight(mount)

        async def ask() -> None:
            with pytest.raises(RuntimeError, match="going down"):
                await flight.run("key", work)

        async with trio.open_nursery() as callers:
            callers.cancel_scope.shield = True
            callers.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            mount.cancel_scope.cancel()

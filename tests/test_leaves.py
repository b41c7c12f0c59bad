"""The small rooms that others stand on: single flight, deadlines, errors, statistics."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from idcfs import errors
from idcfs.deadline import FLOOR_BYTES, Progress
from idcfs.errors import DeadlinePassed, IdcfsError, Unreachable
from idcfs.flight import SingleFlight
from idcfs.stats import COUNTERS, OPTIONAL_GAUGES, Stats

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


# --- single flight ---------------------------------------------------------------------------------------------------


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


# --- deadlines -------------------------------------------------------------------------------------------------------

TIMEOUT = 60.0


async def drip(progress: Progress, amount: int, seconds: float, times: int) -> None:
    with progress.watch("the instance"):
        for _ in range(times):
            await trio.sleep(seconds)
            progress.advance(amount)


async def test_silence_is_cut_after_the_timeout(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(DeadlinePassed, match="the instance: no progress for 60 s"):
        await drip(Progress(TIMEOUT), 0, 1_000, 1)
    assert trio.current_time() == pytest.approx(autojump_clock.current_time())


@pytest.mark.parametrize("amount", [1, 1_000, FLOOR_BYTES // 61])
async def test_a_drip_below_the_floor_is_cut_when_silence_would_be(
    amount: int, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    with pytest.raises(DeadlinePassed):
        await drip(Progress(TIMEOUT), amount, 1, 10_000)
    assert trio.current_time() - start == pytest.approx(TIMEOUT)


async def test_64_kib_within_each_timeout_may_go_on_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    await drip(Progress(TIMEOUT), FLOOR_BYTES // 59 + 1, 1, 10_000)
    await drip(Progress(TIMEOUT), FLOOR_BYTES, TIMEOUT - 1, 100)
    assert trio.current_time() - start > 15_000


async def test_what_was_left_over_of_one_timeout_is_no_progress_in_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    progress = Progress(TIMEOUT)

    async def receive() -> None:
        with progress.watch("the instance"):
            progress.advance(10 * FLOOR_BYTES)
            await trio.sleep(TIMEOUT - 1)
            progress.advance(FLOOR_BYTES - 1)
            await trio.sleep(2)

    with pytest.raises(DeadlinePassed):
        await receive()


async def stop_and_go(progress: Progress) -> None:
    with progress.watch("the instance"):
        progress.pause()
        progress.restart()
        await trio.sleep_forever()


async def test_the_clock_stands_still_while_paused_and_gives_a_whole_timeout_after(
    autojump_clock: trio.testing.MockClock,
) -> None:
    progress = Progress(TIMEOUT)
    with progress.watch("the instance"):
        await trio.sleep(TIMEOUT - 1)
        progress.pause()
        await trio.sleep(100 * TIMEOUT)
        progress.restart()
        await trio.sleep(TIMEOUT - 1)
    start = trio.current_time()
    with pytest.raises(DeadlinePassed):
        await stop_and_go(progress)
    assert trio.current_time() - start == pytest.approx(TIMEOUT)


async def test_each_watch_has_its_own_timeout(autojump_clock: trio.testing.MockClock) -> None:
    progress = Progress(TIMEOUT)
    for _ in range(3):
        with progress.watch("the instance"):
            await trio.sleep(TIMEOUT - 1)


async def test_what_is_raised_within_goes_through() -> None:
    with pytest.raises(KeyError), Progress(TIMEOUT).watch("the instance"):
        raise KeyError


async def test_a_cancellation_from_outside_is_no_deadline(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as outside:
        await drip(Progress(TIMEOUT), 0, 1_000, 1)
    assert outside.cancelled_caught


# --- errors and statistics -------------------------------------------------------------------------------------------

ERRNOS = {
    errors.NotFound: errno.ENOENT,
    errors.Gone: errno.ESTALE,
    errors.AccessDenied: errno.EACCES,
    errors.QuotaSpent: errno.EDQUOT,
    errors.DeadlinePassed: errno.ETIMEDOUT,
    errors.NotOffered: errno.EOPNOTSUPP,
    errors.Unreachable: errno.EHOSTUNREACH,
    errors.NoConnection: errno.EHOSTUNREACH,
    errors.Damaged: errno.EIO,
    errors.Truncated: errno.EIO,
    errors.WrongSize: errno.EIO,
    errors.Replaced: errno.EIO,
    errors.NoInstance: errno.EIO,
    errors.Refused: errno.EIO,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.NotALink: errno.EINVAL,
    errors.UsageError: errno.EIO,
}


def kinds(root: type[IdcfsError]) -> Iterator[type[IdcfsError]]:
    """Every error below ``root``."""
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_what_a_mount_answers_is_explained_as_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for number in {*ERRNOS.values(), errno.ENOTCONN} - {errno.ENOTDIR, errno.EISDIR, errno.EINVAL}:
        assert errors.meaning_of(number)
        assert f"| {os.strerror(number)} |" in readme
    assert errors.meaning_of(errno.ENOSPC) == ""


@pytest.mark.parametrize("kind", list(kinds(IdcfsError)))
def test_each_cause_has_its_errno(kind: type[IdcfsError]) -> None:
    assert errors.errno_of(kind("what happened")) == ERRNOS[kind]


def test_a_cause_without_a_word_of_its_own_is_an_input_output_error() -> None:
    assert errors.errno_of(IdcfsError("anything")) == errno.EIO


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

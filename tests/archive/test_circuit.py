"""When an archive is not asked, and how it is found to be back: against a clock that jumps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs import errors
from idcfs.archive.circuit import FAILURES_IN_A_ROW, RENEWAL_SECONDS, Circuit
from idcfs.errors import IdcfsError
from idcfs.stats import Stats

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Archive:
    """An archive behind a circuit: it fails with ``error``, and counts who asked it."""

    def __init__(self, error: IdcfsError | None = None, now: Callable[[], datetime] | None = None) -> None:
        self.stats = Stats()
        self.error = error
        self.asked = 0
        self.circuit = Circuit("the archive", self.stats, now or (lambda: NOON))

    async def ask(self, path: str = "/x", seconds: float = 0.0) -> None:
        with self.circuit.asking(path):
            self.asked += 1
            await trio.sleep(seconds)
            if self.error is not None:
                raise self.error

    async def fail(self, path: str = "/x") -> IdcfsError:
        with pytest.raises(IdcfsError) as caught:
            await self.ask(path)
        return caught.value

    async def pauses(self, until_seconds: float) -> list[float]:
        """Ask every 0.1 s; the times between those that were let through."""
        moments: list[float] = []
        while trio.current_time() < until_seconds:
            before = self.asked
            await self.fail()
            if self.asked > before:
                moments.append(trio.current_time())
            await trio.sleep(0.1)
        return [after - before for before, after in pairwise(moments)]


Kind = Callable[[str], IdcfsError]
AWAY: list[Kind] = [errors.Unreachable, errors.DeadlinePassed]
AT_ONCE: list[Kind] = [errors.NoConnection, errors.QuotaSpent]


@pytest.mark.parametrize("kind", AT_ONCE)
async def test_what_all_others_would_meet_too_opens_it_at_once(kind: Kind) -> None:
    archive = Archive(error := kind("why"))
    assert await archive.fail() is error
    for _ in range(100):
        again = await archive.fail("/y")
        assert (type(again), again.reported) == (type(error), True)
        assert str(error) in str(again)
    assert archive.asked == 1
    assert (archive.stats["fast_failures"], archive.stats["circuits_open"]) == (100, 1)


@pytest.mark.parametrize("kind", AWAY)
async def test_failures_in_a_row_open_it(kind: Kind) -> None:
    archive = Archive(error := kind("why"))
    for number in range(FAILURES_IN_A_ROW):
        assert archive.circuit.away is None
        assert await archive.fail(f"/{number}") is error
        assert not archive.circuit.is_sound
    assert archive.circuit.away is not None
    await archive.fail("/more")
    assert archive.asked == FAILURES_IN_A_ROW


async def test_one_broken_path_does_not_open_it() -> None:
    archive = Archive(errors.Unreachable("503"))
    for _ in range(100):
        assert not (await archive.fail("/broken")).reported  # the one who asked is told of it
    assert archive.asked == 100
    assert archive.circuit.away is None


@pytest.mark.parametrize("answer", [None, errors.Gone(""), errors.Refused("", 406), errors.AccessDenied("")], ids=repr)
async def test_any_answer_in_between_starts_anew(answer: IdcfsError | None) -> None:
    archive = Archive()
    for _ in range(5):
        archive.error = errors.Unreachable("503")
        for number in range(FAILURES_IN_A_ROW - 1):
            await archive.fail(f"/{number}")
        archive.error = answer
        if answer is None:
            await archive.ask()
        else:
            await archive.fail()
        assert archive.circuit.is_sound
    assert archive.stats["fast_failures"] == 0


@pytest.mark.parametrize("error", [errors.Damaged(""), errors.UsageError("")], ids=repr)
async def test_what_says_nothing_of_the_archive_changes_nothing(error: IdcfsError) -> None:
    archive = Archive(errors.Unreachable("503"))
    await archive.fail()
    archive.error = error
    await archive.fail("/y")
    assert not archive.circuit.is_sound
    assert archive.circuit.away is None


async def test_what_is_more_than_it_can_send_says_nothing_of_it() -> None:
    archive = Archive(errors.Unreachable("500"))
    for number in range(2 * FAILURES_IN_A_ROW):
        with pytest.raises(errors.Unreachable), archive.circuit.asking(f"/{number}", is_telling=False):
            raise errors.Unreachable("500")
    assert archive.circuit.is_sound
    archive.error = None
    await archive.ask()
    with pytest.raises(errors.NoConnection), archive.circuit.asking("/x", is_telling=False):
        raise errors.NoConnection("nobody")
    assert archive.circuit.is_open


async def test_what_is_more_than_it_can_send_does_not_find_out_whether_it_is_back(autojump_clock: MockClock) -> None:
    archive = Archive(errors.NoConnection("nobody"))
    await archive.fail()
    await trio.sleep(100)
    with (
        pytest.raises(errors.NoConnection, match="not asked at present"),
        archive.circuit.asking("/", is_telling=False),
    ):
        pytest.fail("asked")
    archive.error = None
    await archive.ask()


async def test_pauses_double_up_to_a_minute(autojump_clock: MockClock) -> None:
    archive = Archive(errors.NoConnection("nobody there"))
    assert await archive.pauses(400) == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60], abs=0.11)


async def test_pauses_of_a_quota_double_up_to_a_quarter_of_an_hour(autojump_clock: MockClock) -> None:
    archive = Archive(errors.QuotaSpent("it is spent"))
    pauses = await archive.pauses(4_000)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900], abs=0.11)


async def test_a_quota_is_asked_for_soon_after_its_renewal(autojump_clock: MockClock) -> None:
    start = trio.current_time()

    def now() -> datetime:
        return NOON + timedelta(seconds=trio.current_time() - start)

    archive = Archive(errors.QuotaSpent("it is spent", NOON + timedelta(seconds=1500)), now)
    pauses = await archive.pauses(1500 + RENEWAL_SECONDS + 1)
    assert sum(pauses) == pytest.approx(1500 + RENEWAL_SECONDS, abs=0.3)
    assert pauses[:-1] == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 512], abs=0.11)


@pytest.mark.parametrize("kind", AT_ONCE)
async def test_an_answer_closes_it(kind: Kind, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "idcfs")
    archive = Archive(error := kind("why"))
    await archive.pauses(10)
    archive.error = None
    await trio.sleep(60)
    for _ in range(10):
        await archive.ask()
    assert archive.circuit.is_sound
    assert archive.stats["circuits_open"] == 0
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{error}; until it answers, calls fail at once, and one request now and then finds out"),
        ("INFO", "the archive answers again"),
    ]
    archive.error = error
    assert (await archive.pauses(trio.current_time() + 5)) == pytest.approx([1, 2], abs=0.11)  # from the beginning


async def test_a_refusal_is_an_answer_too(autojump_clock: MockClock) -> None:
    archive = Archive(errors.NoConnection("nobody there"))
    await archive.fail()
    await trio.sleep(1)
    archive.error = errors.Gone("not here")
    await archive.fail()
    assert archive.stats["circuits_open"] == 0


async def test_only_one_finds_out_while_the_others_fail_at_once(autojump_clock: MockClock) -> None:
    archive = Archive(errors.NoConnection("nobody there"))
    await archive.fail()
    archive.error = None
    await trio.sleep(1)
    away = [archive.circuit.away]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(archive.ask, "/x", 30.0)
        await trio.sleep(1)
        for _ in range(100):
            assert isinstance(await archive.fail(), errors.NoConnection)
        away.append(archive.circuit.away)
    assert list(map(type, away)) == [type(None), errors.NoConnection]
    assert archive.asked == 2
    await archive.ask()


async def test_who_finds_out_and_goes_away_lets_the_next_one(autojump_clock: MockClock) -> None:
    archive = Archive(errors.NoConnection("nobody there"))
    await archive.fail()
    archive.error = None
    await trio.sleep(1)
    with trio.move_on_after(1) as scope:
        await archive.ask("/x", 30.0)
    assert scope.cancelled_caught
    assert archive.circuit.away is None
    await archive.ask()
    assert archive.stats["circuits_open"] == 0


@pytest.mark.parametrize("answer", [None, errors.Unreachable("503")], ids=repr)
async def test_who_had_asked_before_it_opened_says_nothing_new(
    answer: IdcfsError | None, autojump_clock: MockClock
) -> None:
    archive = Archive(errors.QuotaSpent("it is spent"))

    async def ask_before() -> None:
        with suppress(IdcfsError), archive.circuit.asking("/before"):
            await trio.sleep(0.5)
            if answer is not None:
                raise answer

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_before)
        await wait_all_tasks_blocked()
        await archive.fail()
    assert archive.stats["circuits_open"] == 1
    assert answer is None or answer.reported
    assert await archive.pauses(4) == pytest.approx([2], abs=0.11)  # neither closed nor put off


async def test_no_connection_for_one_is_not_enough_where_others_were_answered_meanwhile(
    autojump_clock: MockClock,
) -> None:
    archive = Archive()

    async def fail_slowly() -> None:
        with suppress(IdcfsError), archive.circuit.asking("/slow"):
            await trio.sleep(10)
            raise errors.NoConnection("no room for more")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_slowly)
        await trio.sleep(1)
        await archive.ask()
    assert archive.circuit.away is None
    assert not archive.circuit.is_sound


async def test_what_is_remembered_keeps_no_frames() -> None:
    archive = Archive(errors.NoConnection("nobody there"))
    await archive.fail()
    away = archive.circuit.away
    assert away is not None
    assert away.__traceback__ is None
    assert archive.circuit._error is not None
    assert archive.circuit._error.__traceback__ is None


async def test_once_it_is_reset_everybody_asks_again_at_once(autojump_clock: MockClock) -> None:
    archive = Archive(errors.QuotaSpent("spent", until=NOON + timedelta(hours=12)))
    await archive.fail()
    archive.circuit.reset()
    assert archive.circuit.away is None
    assert archive.circuit.is_sound
    assert archive.stats["circuits_open"] == 0
    archive.error = None
    await archive.ask()
    assert archive.asked == 2


async def test_a_probe_that_was_under_way_when_it_was_reset_does_not_open_it_again(autojump_clock: MockClock) -> None:
    archive = Archive(errors.NoConnection("nobody there"))
    await archive.fail()
    await trio.sleep(5)

    async def probe() -> None:
        with suppress(IdcfsError):
            await archive.ask("/probe", seconds=10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe)
        await wait_all_tasks_blocked()
        assert archive.circuit.away is not None
        archive.circuit.reset()
    assert archive.circuit.away is None

"""One instance: its size, its checks, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from idcfs.content.instance import Instance
from idcfs.errors import Damaged, DeadlinePassed, Gone, IdcfsError, Refused, Truncated, Unreachable
from idcfs.settings import KIB, MIB
from tests.content.scripted import JPEG, TIMEOUT, Script, dicom, instance, part10, reading, sound

ONE = instance()
SIZE = 3 * MIB + 12_345
DATA = dicom("1.2.3", SIZE)
BROKEN = Truncated("the connection broke")


async def test_an_announced_size_is_known_with_the_file_meta(autojump_clock: MockClock) -> None:
    slow = sound(DATA, chunks=(100,), chunk_seconds=1.0, stalls_at=4 * KIB)
    async with reading(slow) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.size(ONE) == SIZE
        assert setup.source.delivered["1.2.3"] == 200
        setup.reader.close(ONE)


async def test_without_announcement_only_the_end_shows_it() -> None:
    async with reading(Script(DATA)) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.size(ONE) == SIZE
        assert setup.source.delivered["1.2.3"] == SIZE
        assert await setup.rest(ONE, SIZE) == DATA
        setup.reader.close(ONE)
        assert setup.source.fetches["1.2.3"] == 1


async def test_what_tells_no_length_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idcfs.content.arrival.MAX_UNTOLD_BYTES", 2 * MIB)
    async with reading(Script(DATA)) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Damaged, match="no length is told, and there seems to be no end"):
            await setup.reader.size(ONE)
        setup.reader.close(ONE)
    async with reading(sound(DATA)) as setup:
        setup.reader.open(ONE)
        assert await setup.rest(ONE, SIZE) == DATA
        setup.reader.close(ONE)


async def test_a_size_asked_for_later_ends_standing_still(autojump_clock: MockClock) -> None:
    data = dicom("1.2.3", 8 * MIB)
    async with reading(Script(data), read_ahead_bytes=1 * MIB) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, 8 * MIB, 0, 10) == data[:10]
        await trio.sleep(1)
        assert setup.source.delivered["1.2.3"] < 3 * MIB
        assert await setup.reader.size(ONE) == 8 * MIB
        assert setup.source.fetches["1.2.3"] == 1
        setup.reader.close(ONE)


async def test_a_size_known_beforehand_is_no_proof() -> None:
    async with reading([Script(DATA)]) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Damaged):
            await setup.reader.read(ONE, SIZE + 1, SIZE, 1)
        assert await setup.reader.size(ONE) == SIZE
        setup.reader.close(ONE)


WRONG = {
    "of another instance": (sound(dicom("9.9", SIZE)), "sent instance 9.9"),
    "transcoded": (sound(dicom("1.2.3", SIZE, JPEG)), "not the stored bytes"),
    "without transfer syntax": (sound(part10("1.2.3", "") + bytes(1000)), "none"),
    "HTML": (sound(b"<html>" * 1000), "not a DICOM file"),
    "HTML, no size announced": (Script(b"<html>"), "not a DICOM file"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("chunk", [1, 100, 64 * KIB])
async def test_a_wrong_body_is_damaged_and_not_a_byte_is_handed_out(name: str, chunk: int) -> None:
    script, message = WRONG[name]
    script = Script(script.data, script.announced, chunks=(chunk,))
    outcomes: list[IdcfsError] = []

    async def expect(call: Callable[..., Awaitable[object]], *arguments: object) -> None:
        with pytest.raises(Damaged, match=message) as caught:
            await call(ONE, *arguments)
        outcomes.append(caught.value)

    size = len(script.data)
    async with reading(script) as setup:
        setup.reader.open(ONE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, setup.reader.size)
            for offset in range(5):
                nursery.start_soon(expect, setup.reader.read, size, offset, 5)
        assert setup.source.fetches["1.2.3"] == 1
        assert setup.memory.size == 0
        setup.reader.close(ONE)
    assert len(outcomes) == 6


@pytest.mark.parametrize("announced", [None, 0])
async def test_an_empty_body_is_damaged(announced: int | None) -> None:
    async with reading(Script(b"", announced)) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Damaged, match="not a DICOM file"):
            await setup.reader.size(ONE)
        with pytest.raises(Damaged, match="has 0 bytes where 9"):
            await setup.reader.read(ONE, 9, 0, 9)
        setup.reader.close(ONE)


async def test_a_file_whose_file_meta_names_no_instance_is_what_its_dataset_says() -> None:
    data = b"\0" * 128 + b"DICM" + b"\x08\0\x05\0CS\0\0" + b"\x08\0\x18\0UI\x06\x001.2.3\0" + bytes(5000)
    async with reading(sound(data)) as setup:
        assert await setup.whole(Instance("content", "1.1", "1.2", "1.2.3")) == data
    async with reading(sound(data.replace(b"1.2.3", b"1.2.4"))) as setup:
        with pytest.raises(Damaged, match=r"the archive sent instance \(unnamed\)"):
            await setup.whole(Instance("content", "1.1", "1.2", "1.2.3"))


@pytest.mark.parametrize("known", [SIZE - 1, SIZE + 1, SIZE - 2 * MIB, SIZE + 2 * MIB])
@pytest.mark.parametrize("announced", [True, False])
async def test_another_size_than_expected_is_never_a_short_read(known: int, announced: bool) -> None:
    async with reading(sound(DATA) if announced else Script(DATA)) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Damaged):
            await setup.reader.read(ONE, known, 0, known)
        setup.reader.close(ONE)


@pytest.mark.parametrize("known", [SIZE - 1, SIZE + 1, SIZE - 2 * MIB - 1, SIZE + MIB])
async def test_a_wrong_size_is_noticed_in_the_cache_too(known: int) -> None:
    async with reading(sound(DATA)) as setup:
        assert await setup.whole(ONE) == DATA
        with pytest.raises(Damaged):
            await setup.reader.read(ONE, known, known - 10, 10)


@pytest.mark.parametrize("by", [-1, 1, -70_000, 70_000])
async def test_another_length_than_announced(by: int) -> None:
    async with reading(Script(DATA, announced=SIZE + by)) as setup:
        setup.reader.open(ONE)
        size = await setup.reader.size(ONE)
        with pytest.raises(Damaged):
            await setup.reader.read(ONE, size, size - 200_000, 200_000)
        setup.reader.close(ONE)


@pytest.mark.parametrize("announced", [SIZE, None])
@pytest.mark.parametrize("breaks_at", [0, 1, 300, 64 * KIB, MIB - 1, MIB, MIB + 1, SIZE - 1, SIZE])
async def test_a_broken_body_is_resumed(autojump_clock: MockClock, breaks_at: int, announced: int | None) -> None:
    broken = Script(DATA, announced, breaks_at=breaks_at, break_error=BROKEN)
    async with reading([broken, Script(DATA, announced, chunks=(70_001,))]) as setup:
        assert await setup.whole(ONE) == DATA
        assert setup.source.fetches["1.2.3"] == 2
        assert setup.stats["downloads"] == 1


async def test_a_body_that_breaks_further_on_each_time_is_resumed_each_time(autojump_clock: MockClock) -> None:
    broken: list[Script] = [Script(DATA, SIZE, breaks_at=at * 500_000, break_error=BROKEN) for at in range(1, 7)]
    async with reading([*broken, sound(DATA)]) as setup:
        assert await setup.whole(ONE) == DATA
        assert setup.source.fetches["1.2.3"] == 7


async def test_a_body_that_always_breaks_at_the_same_byte_is_given_up(autojump_clock: MockClock) -> None:
    async with reading(Script(DATA, SIZE, breaks_at=2 * MIB + 5, break_error=BROKEN)) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, SIZE, 2 * MIB, 5) == DATA[2 * MIB : 2 * MIB + 5]
        with pytest.raises(Truncated, match="broke"):
            await setup.reader.read(ONE, SIZE, 2 * MIB, 6)
        assert setup.source.fetches["1.2.3"] == 3
        setup.reader.close(ONE)


async def test_a_body_that_gains_a_byte_each_time_is_given_up_too(autojump_clock: MockClock) -> None:
    broken: list[Script] = [Script(DATA, SIZE, breaks_at=at, break_error=BROKEN) for at in range(1000, 1100)]
    async with reading(broken) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Truncated):
            await setup.reader.read(ONE, SIZE, 0, SIZE)
        assert setup.source.fetches["1.2.3"] < 10
        setup.reader.close(ONE)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("second", [dicom("1.2.3", SIZE, JPEG), DATA[: MIB - 5], dicom("9.9", SIZE)])
async def test_a_second_body_of_other_bytes_is_not_patched_on(
    autojump_clock: MockClock, second: bytes, announced: bool
) -> None:
    first = Script(DATA, SIZE if announced else None, breaks_at=MIB, break_error=BROKEN)
    async with reading([first, sound(second) if announced else Script(second)]) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Damaged):
            await setup.reader.read(ONE, SIZE, 0, SIZE)
        setup.reader.close(ONE)


@pytest.mark.parametrize("error", [Gone("gone"), Unreachable("down"), Refused("no", 406), Damaged("bad boundary")])
@pytest.mark.parametrize("at", [None, 100, 2 * MIB])
async def test_other_errors_are_the_readers_and_the_next_read_asks_again(error: IdcfsError, at: int | None) -> None:
    fails = Script(DATA, SIZE, refusal=error) if at is None else Script(DATA, SIZE, breaks_at=at, break_error=error)
    async with reading([fails, sound(DATA)]) as setup:
        setup.reader.open(ONE)
        with pytest.raises(type(error)) as caught:
            await setup.reader.read(ONE, SIZE, SIZE - 10, 10)
        assert (str(caught.value), vars(caught.value)) == (str(error), vars(error))
        assert await setup.rest(ONE, SIZE) == DATA
        assert setup.source.fetches["1.2.3"] == setup.stats["downloads"] == 2
        setup.reader.close(ONE)


async def test_a_bug_is_damaged_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with reading([Script(DATA, refusal=ZeroDivisionError("oops")), sound(DATA)]) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Damaged, match="see the log"):
            await setup.reader.size(ONE)
        assert await setup.reader.size(ONE) == SIZE
        setup.reader.close(ONE)
    assert "oops" in caplog.text


async def test_old_and_new_bytes_of_a_replaced_instance_are_not_mixed(autojump_clock: MockClock) -> None:
    other = DATA[:5000] + b"new" + DATA[5003:]
    async with reading([sound(DATA), sound(other), sound(other)], finish_bytes=0) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, SIZE, 0, 4096) == DATA[:4096]
        await trio.sleep(1)  # the first blocks arrive
        setup.reader.close(ONE)
        await trio.sleep(1)
        setup.reader.open(ONE)
        with pytest.raises(Damaged, match="other bytes than it sent before"):
            await setup.reader.read(ONE, SIZE, SIZE - 10, 10)
        setup.reader.close(ONE)
        assert await setup.whole(ONE) == other


async def test_a_size_that_no_file_can_have_is_damage() -> None:
    async with reading(Script(DATA, announced=10**20)) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Damaged, match="more than any instance has"):
            await setup.reader.size(ONE)
        setup.reader.close(ONE)


HTML = sound(b"<html>" * 1000)
UNSOUND = {
    "refused": Script(DATA, refusal=Refused("no", 406)),
    "away": Script(DATA, refusal=Unreachable("down")),
    "HTML": HTML,
    "of another instance": sound(dicom("9.9", SIZE)),
    "transcoded, of another size": sound(dicom("1.2.3", SIZE + 99, JPEG)),
    "broken before it is proven": sound(DATA, chunks=(10,), breaks_at=100, break_error=Damaged("bad boundary")),
    "broken at once": sound(DATA, breaks_at=0, break_error=BROKEN),
    "broken at its end": sound(DATA, breaks_at=SIZE, break_error=Damaged("no closing boundary")),
    "broken in the middle": sound(DATA, breaks_at=2 * MIB + 5, break_error=Damaged("bad chunk")),
    "longer than announced": Script(DATA + b"more", SIZE),
}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("name", UNSOUND)
async def test_what_one_place_cannot_serve_another_does(
    autojump_clock: MockClock, name: str, fixed: bool, ranges: bool
) -> None:
    one = replace(ONE, is_fixed=fixed)
    async with reading(UNSOUND[name], places=[sound(DATA, ranges=ranges)]) as setup:
        assert await setup.whole(one) == DATA
        assert setup.source.fetches["1.2.3"] == 2
        assert setup.stats["downloads"] == len(setup.source.reasons) == 1


async def test_what_came_before_it_was_proven_is_forgotten_with_its_size() -> None:
    async with reading(HTML, places=[HTML, Script(DATA)]) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.size(ONE) == SIZE
        setup.reader.close(ONE)


async def test_what_has_been_handed_out_of_the_first_place_has_to_be_the_same_in_the_second(
    autojump_clock: MockClock,
) -> None:
    other = DATA[:5000] + b"new" + DATA[5003:]
    async with reading(UNSOUND["broken in the middle"], places=[sound(other)]) as setup:
        with pytest.raises(Damaged, match="other bytes than it sent before"):
            await setup.whole(ONE)
        assert len(setup.source.reasons) == 1
        assert setup.memory.size == 0


async def test_no_more_than_three_places_are_tried() -> None:
    async with reading(HTML, places=[HTML] * 9) as setup:
        with pytest.raises(Damaged, match="not a DICOM file"):
            await setup.reader.size(ONE)
        assert setup.source.fetches["1.2.3"] == 3
        assert len(setup.source.reasons) == 2


async def test_where_there_is_no_other_place_it_fails_as_it_would() -> None:
    async with reading(HTML) as setup:
        with pytest.raises(Damaged, match="not a DICOM file"):
            await setup.reader.size(ONE)
        assert [type(reason) for reason in setup.source.reasons] == [Damaged]


async def test_another_place_is_no_reason_to_wait_longer(autojump_clock: MockClock) -> None:
    slow = Script(DATA, open_seconds=TIMEOUT - 10, refusal=Unreachable("down"))
    async with reading(slow, places=[slow, slow]) as setup:
        before = trio.current_time()
        with pytest.raises(DeadlinePassed):
            await setup.reader.size(ONE)
        assert trio.current_time() - before <= TIMEOUT + 2

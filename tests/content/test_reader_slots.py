"""Many instances and few connections: who gets a slot, who gives one up, and who waits."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs.content.instance import Instance
from idcfs.content.seams import SEAM_BYTES
from idcfs.errors import DeadlinePassed, Gone, IdcfsError, Truncated
from idcfs.settings import KIB, MIB
from tests.content.scripted import TIMEOUT, Huge, Script, Setup, dicom, instance, part10, read_all, reading, sound

ONE = instance()
SIZE = 8 * MIB - 4_321
DATA = dicom("1.2.3", SIZE)
UIDS = [f"1.2.{number}" for number in range(300)]
BIG = Huge(part10("1.2.3"), 50 * MIB)


async def test_a_slow_reader_blocks_nobody(autojump_clock: MockClock) -> None:
    async with reading(sound(DATA)) as setup, trio.open_nursery() as nursery:

        async def slow() -> None:
            setup.reader.open(ONE)
            for offset in range(0, SIZE, MIB):
                await trio.sleep(1000)
                assert await setup.reader.read(ONE, SIZE, offset, 10) == DATA[offset : offset + 10]
            setup.reader.close(ONE)

        nursery.start_soon(slow)
        await trio.sleep(1500)
        before = trio.current_time()
        await read_all(setup, ONE, DATA)
        assert trio.current_time() - before < 1


async def test_an_error_of_one_touches_no_other(autojump_clock: MockClock) -> None:
    scripts: dict[str, Script | list[Script]] = {uid: sound(dicom(uid, MIB), chunk_seconds=0.1) for uid in UIDS[:8]}
    scripts[UIDS[3]] = Script(b"", refusal=Gone("gone"))
    scripts[UIDS[5]] = sound(dicom(UIDS[5], MIB), stalls_at=MIB // 2)
    outcomes: dict[str, object] = {}

    async def outcome(uid: str) -> None:
        try:
            outcomes[uid] = await setup.whole(instance(uid)) == dicom(uid, MIB)
        except IdcfsError as error:
            outcomes[uid] = type(error)

    async with reading(scripts) as setup, trio.open_nursery() as nursery:
        for uid in UIDS[:8]:
            nursery.start_soon(outcome, uid)
    assert outcomes == dict.fromkeys(UIDS[:8], True) | {UIDS[3]: Gone, UIDS[5]: DeadlinePassed}


def many(count: int, size: int = 5 * MIB, **how: object) -> dict[str, Script | list[Script]]:
    return {uid: sound(Huge(part10(uid), size), **how) for uid in UIDS[:count]}


async def test_300_open_instances_with_few_slots(autojump_clock: MockClock) -> None:
    async with reading(many(300), max_downloads=4) as setup:
        started = trio.current_time()

        async def header(uid: str) -> None:
            setup.reader.open(instance(uid))
            assert await setup.reader.size(instance(uid)) == 5 * MIB
            assert (await setup.reader.read(instance(uid), 5 * MIB, 0, 300))[:200] == part10(uid)[:200]

        async with trio.open_nursery() as nursery:
            for uid in UIDS:
                nursery.start_soon(header, uid)
        assert trio.current_time() - started < TIMEOUT
        assert setup.source.most_open_bodies <= 4
        assert set(setup.source.fetches.values()) == {1}
        for uid in UIDS[:10]:
            assert (await setup.reader.read(instance(uid), 5 * MIB, 4 * MIB, MIB)) == bytes(MIB)
        for uid in UIDS:
            setup.reader.close(instance(uid))


async def test_the_longest_idle_gives_way_at_once_and_only_as_many_as_needed(autojump_clock: MockClock) -> None:
    async with reading(many(5), max_downloads=3) as setup:
        for uid in UIDS[:3]:
            setup.reader.open(instance(uid))
            await setup.reader.size(instance(uid))
            await trio.sleep(1)
        before = trio.current_time()
        for uid in UIDS[3:5]:
            setup.reader.open(instance(uid))
        async with trio.open_nursery() as nursery:
            for uid in UIDS[3:5]:
                nursery.start_soon(setup.reader.size, instance(uid))
        assert trio.current_time() == before
        await wait_all_tasks_blocked()
        assert setup.stats["downloads_cancelled"] == 2
        assert {key[1] for key, one in setup.reader._downloads.items() if one.running} == set(UIDS[2:5])
        for uid in UIDS[:5]:
            setup.reader.close(instance(uid))


async def test_those_that_become_idle_together_give_up_no_more_slots_than_are_wanted(autojump_clock: MockClock) -> None:
    async with reading(many(5, close_seconds=1.0), max_downloads=4) as setup:
        async with trio.open_nursery() as nursery:
            for uid in UIDS[:5]:
                setup.reader.open(instance(uid))
                nursery.start_soon(setup.reader.size, instance(uid))
        await trio.sleep(10)
        assert setup.stats["downloads_cancelled"] == 1
        for uid in UIDS[:5]:
            setup.reader.close(instance(uid))


async def test_more_sequential_readers_than_slots_do_not_stop_each_other(autojump_clock: MockClock) -> None:
    async def read_on(uid: str) -> None:
        setup.reader.open(instance(uid))
        for offset in range(0, 5 * MIB, 128 * KIB):
            await setup.reader.read(instance(uid), 5 * MIB, offset, 128 * KIB)
            await trio.sleep(0.01)
        setup.reader.close(instance(uid))

    async with reading(many(20), max_downloads=4) as setup:
        async with trio.open_nursery() as nursery:
            for uid in UIDS[:20]:
                nursery.start_soon(read_on, uid)
        assert set(setup.source.fetches.values()) == {1}


async def test_all_slots_busy_and_one_becomes_idle_later(autojump_clock: MockClock) -> None:
    async with reading(many(3, size=3 * MIB, chunk_seconds=0.5), max_downloads=2) as setup:
        for uid in UIDS[:3]:
            setup.reader.open(instance(uid))
        async with trio.open_nursery() as nursery:
            for uid in UIDS[:2]:
                nursery.start_soon(setup.reader.size, instance(uid))
        assert await setup.reader.size(instance(UIDS[2])) == 3 * MIB
        assert setup.stats["downloads_cancelled"] == 1
        for uid in UIDS[:3]:
            setup.reader.close(instance(uid))


async def test_waiting_for_a_slot_is_no_reason_to_give_up_while_others_get_on(autojump_clock: MockClock) -> None:
    scripts = many(2, size=10 * MIB, chunk_seconds=1.0)
    async with reading(scripts, max_downloads=1) as setup, trio.open_nursery() as nursery:
        nursery.start_soon(setup.whole, instance(UIDS[0]))
        await trio.sleep(1)
        before = trio.current_time()
        assert len(await setup.whole(instance(UIDS[1]))) == 10 * MIB
        assert trio.current_time() - before > 2 * TIMEOUT


async def test_waiting_for_a_slot_ends_when_nobody_gets_on(autojump_clock: MockClock) -> None:
    scripts = many(2, size=10 * MIB, stalls_at=0)
    async with reading(scripts, max_downloads=1) as setup, trio.open_nursery() as nursery:
        nursery.start_soon(stalled, setup.whole, instance(UIDS[0]))
        await trio.sleep(1)
        before = trio.current_time()
        await stalled(setup.whole, instance(UIDS[1]))
        assert trio.current_time() - before <= TIMEOUT


async def stalled(read: Callable[[Instance], Awaitable[bytes]], one: Instance) -> None:
    with pytest.raises(DeadlinePassed):
        await read(one)


@pytest.mark.parametrize("seed", range(12))
def test_a_slot_is_not_taken_from_who_is_read_again(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wishes come in one round of the event loop, in whichever order."""
    first, second = (instance(uid) for uid in UIDS[:2])
    size = 8 * MIB

    async def main() -> None:
        scripts: dict[str, Script | list[Script]] = {
            one.instance_uid: sound(dicom(one.instance_uid, size)) for one in (first, second)
        }
        async with reading(scripts, max_downloads=1, read_ahead_bytes=MIB) as setup:
            setup.reader.open(first)
            await setup.reader.read(first, size, 0, 64 * KIB)
            await trio.sleep(1)  # it stands still: others may have the slot

            async def read(one: Instance, offset: int) -> None:
                data = await setup.reader.read(one, size, offset, 64 * KIB)
                assert data == dicom(one.instance_uid, size)[offset : offset + 64 * KIB]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, first, 5 * MIB)
                nursery.start_soon(read, second, 0)
            setup.reader.close(first)

    monkeypatch.setattr("trio._core._run._r", random.Random(seed))
    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_a_download_lingers_from_the_last_close_on(autojump_clock: MockClock) -> None:
    async with reading(sound(BIG), linger_seconds=1.0) as setup:
        for number in range(8):
            setup.reader.open(ONE)
            await setup.reader.read(ONE, len(BIG), number * 2 * MIB, 64 * KIB)
            setup.reader.close(ONE)
            await trio.sleep(0.9)
        assert setup.source.fetches["1.2.3"] == 1
        await trio.sleep(0.2)
        assert setup.source.open_bodies == 0


async def test_who_joins_a_fetch_that_has_waited_long_has_all_the_time(autojump_clock: MockClock) -> None:
    scripts: dict[str, Script | list[Script]] = {
        UIDS[0]: sound(dicom(UIDS[0], 20 * MIB), chunk_seconds=0.5),
        UIDS[1]: sound(dicom(UIDS[1], MIB)),
    }
    async with reading(scripts, max_downloads=1) as setup, trio.open_nursery() as nursery:
        nursery.start_soon(setup.whole, instance(UIDS[0]))
        await trio.sleep(1)
        nursery.start_soon(setup.fetch_ahead, instance(UIDS[1]), None, lambda size: None)
        await trio.sleep(TIMEOUT - 0.1)
        assert await setup.whole(instance(UIDS[1])) == dicom(UIDS[1], MIB)


@pytest.mark.parametrize("finishing", [True, False], ids=["on its last bytes", "fetched ahead"])
async def test_who_reads_does_not_wait_for_what_nobody_reads(autojump_clock: MockClock, finishing: bool) -> None:
    slow = sound(dicom(UIDS[0], MIB), chunks=(SEAM_BYTES, KIB), chunk_seconds=1.0)
    scripts: dict[str, Script | list[Script]] = {UIDS[0]: slow, UIDS[1]: sound(dicom(UIDS[1], MIB))}
    async with reading(scripts, max_downloads=1) as setup, trio.open_nursery() as nursery:
        if finishing:
            setup.reader.open(instance(UIDS[0]))
            await setup.reader.read(instance(UIDS[0]), MIB, 0, 10)
            setup.reader.close(instance(UIDS[0]))
        else:
            nursery.start_soon(fetched_ahead, setup, instance(UIDS[0]))
        await trio.sleep(5)
        before = trio.current_time()
        assert await setup.whole(instance(UIDS[1])) == dicom(UIDS[1], MIB)
        assert trio.current_time() - before < 1


async def fetched_ahead(setup: Setup, one: Instance) -> None:
    with pytest.raises(Truncated):
        await setup.fetch_ahead(one, None, lambda size: None)


async def test_a_download_that_is_over_needs_no_garbage_collector() -> None:
    """300 files of which each last block waits for it are 150 MiB."""
    gc.disable()
    try:
        async with reading(sound(DATA)) as setup:
            setup.reader.open(ONE)
            await setup.reader.read(ONE, SIZE, 0, 10)
            download = weakref.ref(next(iter(setup.reader._downloads[ONE.key].running)))
            await setup.rest(ONE, SIZE)
            await wait_all_tasks_blocked()
            setup.reader.close(ONE)
            await wait_all_tasks_blocked()
            assert download() is None
    finally:
        gc.enable()

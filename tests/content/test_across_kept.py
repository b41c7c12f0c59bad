"""A body that goes on across kept blocks: what is new is neither kept nor handed out beside what it does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from idcfs.content.blocks import Key
from idcfs.content.instance import Instance
from idcfs.errors import IdcfsError, Replaced, Truncated
from idcfs.settings import KIB, MIB
from tests.content.ranged import DATA, ONE, SIZE, ranged
from tests.content.scripted import Script, Setup, dicom, reading, sound

OTHER = DATA[:1000] + dicom("other", SIZE)[1000:]
LAST = SIZE // MIB
STEP = 128 * KIB


async def fill(directory: Path, one: Instance, blocks: range) -> None:
    """Keep these blocks, as an earlier mount would have."""
    async with reading(sound(DATA), directory=directory) as setup:
        for block in blocks:
            setup.tiers.put(one.key, block, DATA[block * MIB : (block + 1) * MIB])


async def until_it_fails(setup: Setup, one: Instance, how: type[IdcfsError] = Replaced) -> bytes:
    """What is read in order, before that ends with an error."""
    got = b""
    while len(got) < SIZE:
        try:
            got += await setup.reader.read(one, SIZE, len(got), STEP)
        except how:
            break
    return got


@pytest.mark.parametrize("is_fixed", [True, False])
@pytest.mark.parametrize("chunk", [64 * KIB, 3 * MIB])
@pytest.mark.parametrize("kept", [range(1, LAST + 1), range(3, 9), range(LAST, LAST + 1)])
async def test_what_was_replaced_is_not_followed_by_what_is_kept(
    tmp_path: Path, kept: range, chunk: int, is_fixed: bool
) -> None:
    one = replace(ONE, is_fixed=is_fixed)
    await fill(tmp_path, one, kept)
    async with reading(sound(OTHER, chunks=(chunk,), chunk_seconds=0.001), directory=tmp_path) as setup:
        setup.reader.open(one)
        got = await until_it_fails(setup, one)
        setup.reader.close(one)
        assert got == OTHER[: len(got)]
        assert len(got) == kept.start * MIB - STEP or (len(got) < kept.start * MIB and chunk > MIB)
        assert not any(setup.tiers.has(one.key, block) for block in range(LAST + 1))
        assert await setup.whole(one) == OTHER


@pytest.mark.parametrize("chunk", [64 * KIB, 100_000, 3 * MIB])
async def test_what_fits_is_read_and_kept(tmp_path: Path, chunk: int) -> None:
    await fill(tmp_path, ONE, range(3, 9))
    async with reading(sound(DATA, chunks=(chunk,)), directory=tmp_path, read_ahead_bytes=0) as setup:
        assert await setup.whole(ONE) == DATA
        assert setup.source.asked == [(0, None)]
        assert await setup.reader.has_all(ONE, SIZE)


@pytest.mark.parametrize("at", [MIB, MIB + 10])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("data", [DATA, OTHER])
async def test_a_body_that_breaks_off_there_is_followed_by_one_that_is_compared(
    tmp_path: Path, at: int, ranges: bool, data: bytes
) -> None:
    await fill(tmp_path, ONE, range(1, 3))
    breaks = sound(DATA, breaks_at=at, break_error=Truncated("broke"))
    later = replace(sound(data), ranges=ranges)
    async with reading([breaks, later], directory=tmp_path) as setup:
        setup.reader.open(ONE)
        if data is DATA:
            assert await setup.rest(ONE, SIZE) == DATA
        else:
            assert len(await until_it_fails(setup, ONE)) < MIB
        setup.reader.close(ONE)


async def test_a_body_that_ends_where_more_is_kept_is_an_error(tmp_path: Path) -> None:
    await fill(tmp_path, ONE, range(3, 4))
    async with reading(Script(OTHER[: 3 * MIB]), directory=tmp_path) as setup:
        setup.reader.open(ONE)
        with pytest.raises(Replaced, match="fewer bytes"):
            await setup.reader.size(ONE)
        setup.reader.close(ONE)


async def test_what_stops_before_it_is_compared_is_not_kept(tmp_path: Path) -> None:
    await fill(tmp_path, ONE, range(1, 3))
    stalls = sound(OTHER, stalls_at=MIB)
    async with reading([stalls, sound(OTHER)], directory=tmp_path) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, SIZE, 0, MIB - 1) == OTHER[: MIB - 1]
        setup.reader.close(ONE)
        await trio.sleep(1)
        assert not setup.tiers.has(ONE.key, 0)
        setup.reader.open(ONE)
        assert len(await until_it_fails(setup, ONE)) < MIB
        setup.reader.close(ONE)


@pytest.mark.parametrize("data", [DATA, OTHER])
@pytest.mark.parametrize("breaks_at", [None, 3 * MIB, 4 * MIB + 10])
async def test_a_stream_that_goes_on_in_ranges_is_compared_with_what_is_kept_where_it_ends(
    tmp_path: Path, breaks_at: int | None, data: bytes
) -> None:
    await fill(tmp_path, ONE, range(4, 6))
    first = ranged(data, breaks_at=breaks_at, break_error=Truncated("broke"), chunk_seconds=0.001)
    async with reading([first, ranged(data)], directory=tmp_path) as setup:
        setup.reader.open(ONE)
        assert await setup.reader.size(ONE) == SIZE
        if data is DATA:
            assert await setup.rest(ONE, SIZE) == DATA
        else:
            got = await until_it_fails(setup, ONE)
            assert len(got) < 4 * MIB
            assert got == OTHER[: len(got)]
        setup.reader.close(ONE)


async def test_a_comparison_keeps_nothing_before_it_is_over(tmp_path: Path) -> None:
    """Of a beginning that is not kept, and a block that is."""
    await fill(tmp_path, ONE, range(7, 8))
    refuses = replace(ranged(OTHER), refusal=IdcfsError("away"))
    async with reading([ranged(OTHER), refuses], directory=tmp_path) as setup:
        with pytest.raises(IdcfsError, match="away"):
            await setup.reader.read(ONE, SIZE, 0, 10)
        assert not setup.tiers.has(ONE.key, 0)


@pytest.mark.parametrize("end", [4 * MIB, 4 * MIB + 1000])
async def test_a_stream_that_is_cut_for_ranges_and_ends_there_is_not_followed_by_what_is_kept(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path, ONE, range(4, LAST + 1))
    async with reading(Script(OTHER[:end], None, chunk_seconds=0.002), directory=tmp_path) as setup:
        monkeypatch.setattr(setup.source, "starts_anywhere", lambda _: bool(setup.source.asked))
        for _ in range(2):
            setup.reader.open(ONE)
            got = await until_it_fails(setup, ONE, IdcfsError)
            setup.reader.close(ONE)
            assert got == OTHER[: len(got)]
            assert not any(setup.tiers.has(ONE.key, block) for block in range(4, LAST + 1))


async def test_of_what_is_compared_only_the_blocks_asked_for_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place may send all from 0 on, although a block far behind was asked for."""
    await fill(tmp_path, ONE, range(30, 31))
    async with reading(sound(DATA), directory=tmp_path) as setup:
        monkeypatch.setattr(setup.source, "starts_anywhere", lambda _: True)
        kept: list[int] = []
        put = setup.tiers.put

        def watched(key: Key, block: int, data: bytes) -> None:
            kept.append(block)
            put(key, block, data)

        monkeypatch.setattr(setup.tiers, "put", watched)
        setup.reader.open(ONE)
        assert await setup.reader.read(ONE, SIZE, 20 * MIB, 10) == DATA[20 * MIB : 20 * MIB + 10]
        setup.reader.close(ONE)
        assert kept[:2] == [30, 0]


async def test_what_is_streamed_from_the_middle_is_not_fetched_in_ranges_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning is kept, and that ranges can be had shows with the first answer only."""
    await fill(tmp_path, ONE, range(2))
    async with reading(ranged(DATA, chunk_seconds=0.01), directory=tmp_path) as setup:
        monkeypatch.setattr(setup.source, "starts_anywhere", lambda _: bool(setup.source.asked))
        setup.reader.open(ONE)
        assert await setup.rest(ONE, SIZE) == DATA
        setup.reader.close(ONE)
        once_more = MIB + 2 * 64 * KIB * len(setup.source.asked)  # the beginning, and where ranges meet
        assert setup.source.delivered["1.2.3"] <= SIZE - 2 * MIB + once_more

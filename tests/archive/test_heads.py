"""What a bucket's file is cannot be told at first: nobody takes it for missing, and it is found out later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
import trio
from trio.testing import MockClock

from idcfs.archive.circuit import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from idcfs.errors import AccessDenied, Damaged, DeadlinePassed, Gone, IdcfsError, Truncated
from tests.archive.s3_in_memory import FOLDER, TIMEOUT, Bucket, Kept, Key, archive_of, content, files

HIT = "1.2.3.2"


async def cut() -> AsyncIterator[bytes]:
    yield bytes(100)
    raise httpx.ReadError("the peer went away")


async def page() -> AsyncIterator[bytes]:
    yield b"<html>busy</html>"


async def drip() -> AsyncIterator[bytes]:
    while True:
        yield b"\0"
        await trio.sleep(1)


def head_of(chunks: AsyncIterator[bytes], size: int) -> httpx.Response:
    return httpx.Response(206, content=chunks, headers={"Content-Range": f"bytes 0-1023/{size}"})


@dataclass
class Flawed(Bucket):
    """The first requests for some objects go wrong."""

    flaw: str = "cut"
    hit: set[str] = field(default_factory=set)
    left: int = 1_000

    def __call__(self, request: httpx.Request) -> httpx.Response:
        key = request.url.path.removeprefix("/idc-open-data/")
        if key not in self.hit or not self.left:
            return super().__call__(request)
        self.asked.append((key, request.headers["range"]))
        self.left -= 1
        match self.flaw:
            case "cut":
                return head_of(cut(), len(self.objects[key]))
            case "drip":
                return head_of(drip(), len(self.objects[key]))
            case "page":
                return httpx.Response(200, html="<html>busy</html>")
            case "page in chunks":
                return httpx.Response(200, content=page())
            case _:
                return httpx.Response(403)


def flawed(flaw: str, left: int = 1_000) -> Flawed:
    """Five objects, of which one goes wrong."""
    stored = files(5)
    return Flawed(stored, flaw=flaw, hit={list(stored)[2]}, left=left)


FLAWS: list[tuple[str, type[IdcfsError]]] = [
    ("cut", Truncated),
    ("page", Damaged),
    ("page in chunks", Damaged),
    ("denied", AccessDenied),
]


@pytest.mark.parametrize(("flaw", "error"), FLAWS)
async def test_a_file_that_could_not_be_told_is_not_missing(
    flaw: str, error: type[IdcfsError], autojump_clock: MockClock
) -> None:
    server, key = flawed(flaw), Key(instances=5)
    async with archive_of(server) as setup:
        with pytest.raises(error, match="not known of all its files"):
            await setup.archive.sizes(key)  # nor is a list shown that lacks it
        with pytest.raises(error):
            await content(setup, Key(instances=5, instance_uid=HIT))
        assert set(await setup.archive.sizes(key, in_part=True)) == {f"1.2.3.{n}" for n in (0, 1, 3, 4)}
        server.left = 0
        await trio.sleep(FIRST_PAUSE_SECONDS)
        server.asked.clear()
        assert await content(setup, Key(instances=5, instance_uid=HIT)) == server.objects[next(iter(server.hit))]
        assert [asked for asked, _ in server.asked] == [*server.hit] * 2  # the head and the content, of that one alone
        assert len(await setup.archive.sizes(key)) == 5
        assert len(setup.told[FOLDER]) == 5


async def test_one_broken_connection_is_not_even_noticed() -> None:
    server = flawed("cut", left=1)
    async with archive_of(server) as setup:
        assert len(await setup.archive.sizes(Key(instances=5))) == 5
    assert (server.listings, len(server.asked)) == (1, 6)


async def test_what_is_known_is_served_meanwhile_without_a_request(autojump_clock: MockClock) -> None:
    server = flawed("denied")
    async with archive_of(server) as setup:
        await setup.inventory.objects(Key(instances=5))
        await trio.sleep(1_000)
        server.asked.clear()
        for number in (0, 1, 3, 4):
            assert await content(setup, Key(instances=5, instance_uid=f"1.2.3.{number}"))
        assert (server.listings, len(server.asked)) == (1, 4)


async def test_it_is_asked_again_no_more_often_than_an_archive_that_is_away(autojump_clock: MockClock) -> None:
    server = flawed("denied")
    async with archive_of(server) as setup:
        for _ in range(100):
            with pytest.raises(AccessDenied):
                await content(setup, Key(instances=5, instance_uid=HIT))
        assert server.listings == 1
        for _ in range(3_000):
            with pytest.raises(AccessDenied):
                await content(setup, Key(instances=5, instance_uid=HIT))
            await trio.sleep(0.1)
    assert server.listings == pytest.approx(1 + 6 + (300 - 63) / LONGEST_PAUSE_SECONDS, abs=1)  # 1, 2, 4, … 60, 60


async def test_what_cannot_be_told_for_long_is_not_listed(autojump_clock: MockClock) -> None:
    server = flawed("denied")
    async with archive_of(server) as setup:
        for _ in range(2):
            with pytest.raises(AccessDenied):
                await setup.archive.sizes(Key(instances=5))
            await trio.sleep(LONGEST_PAUSE_SECONDS)
        assert len(await setup.archive.sizes(Key(instances=5))) == 4
    assert server.listings == 3


async def test_a_list_that_lacked_one_is_asked_for_again(autojump_clock: MockClock) -> None:
    server = Bucket(files(5))
    lacking = server.objects.popitem()
    key = Key(instances=5, instance_uid="1.2.3.4")
    async with archive_of(server) as setup:
        for _ in range(10):
            with pytest.raises(Gone):
                await content(setup, key)
        assert (server.listings, len(server.asked)) == (1, 4)
        server.objects.update([lacking])
        await trio.sleep(FIRST_PAUSE_SECONDS)
        assert await content(setup, key) == lacking[1]
    assert (server.listings, len(server.asked)) == (2, 6)


async def test_a_file_that_is_certainly_no_instance_is_not_asked_about_again(autojump_clock: MockClock) -> None:
    server = Bucket({**files(2), f"{FOLDER}/y.dcm": b"no DICOM at all" * 100})
    async with archive_of(server) as setup:
        for _ in range(5):
            assert len(await setup.archive.sizes(Key(instances=3))) == 2
            await trio.sleep(LONGEST_PAUSE_SECONDS)
    assert (server.listings, len(server.asked)) == (5, 3)


async def test_heads_that_drip_keep_no_other_series_from_being_mapped(autojump_clock: MockClock) -> None:
    stored = files(60)
    other = {name.replace(FOLDER, "other"): data for name, data in files(3).items()}
    server = Flawed({**stored, **other}, flaw="drip", hit=set(stored))
    async with archive_of(server, Kept()) as setup:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                with pytest.raises(DeadlinePassed, match="its first 1024 bytes did not come within 15 s"):
                    await setup.inventory.objects(Key())

            nursery.start_soon(fail)
            await trio.sleep(1)
            assert len(await setup.inventory.objects(Key(content="other"))) == 3
        assert trio.current_time() - began <= TIMEOUT / 2 + 1
        server.left = 0
        assert len(await setup.inventory.objects(Key())) == 60

"""What is known of a bucket's files: kept as it comes, and asked for once by all who want it at the same time."""

from __future__ import annotations

import httpx
import pytest
import trio

from idcfs.errors import Unreachable
from tests.archive.s3_in_memory import FOLDER, Bucket, Kept, Key, archive_of, content, files

KEPT = f"mock/{FOLDER}"


class Dying(Bucket):
    """Serves so many heads, and nothing any more."""

    heads = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(".dcm") and len(self.asked) >= self.heads:
            raise httpx.ConnectError("down")
        return super().__call__(request)


@pytest.mark.parametrize("count", [60, 300])
async def test_the_next_mount_asks_about_the_files_that_are_not_known_yet(count: int) -> None:
    server, kept, key = Dying(files(count)), Kept(), Key(instances=count)
    server.heads = count * 2 // 3
    async with archive_of(server, kept) as setup:
        with pytest.raises(Unreachable):
            await setup.inventory.objects(key)
    known = len(kept.lines[KEPT])
    assert server.heads - max(24, known // 8) <= known <= server.heads
    again = Bucket(server.objects)
    async with archive_of(again, kept) as setup:
        found = await setup.inventory.objects(key)
        assert {(f"{FOLDER}/{one.name}", one.size) for one in found.values()} == {
            (name, len(data)) for name, data in server.objects.items()
        }
        assert found["1.2.3.7"].size == 2_007
    assert (again.listings, len(again.asked)) == (1, count - known)
    async with archive_of(never := Bucket({}), kept) as setup:
        assert len(await setup.inventory.objects(key)) == count
    assert never.listings == 0


async def test_a_file_that_is_listed_otherwise_than_before_is_asked_about_again() -> None:
    server, kept = Bucket(files(40)), Kept()
    async with archive_of(server, kept) as setup:
        await setup.inventory.objects(Key(instances=41))
    first, second, *_ = server.objects
    server.objects[first], server.objects[second] = server.objects[second], server.objects[first]
    server.asked.clear()
    async with archive_of(server, kept) as setup:
        found = await setup.inventory.objects(Key(instances=41))
    assert {key for key, _ in server.asked} == {first, second}
    assert {f"{FOLDER}/{found[uid].name}" for uid in ("1.2.3.0", "1.2.3.1")} == {first, second}
    assert f"{FOLDER}/{found['1.2.3.0'].name}" == second


@pytest.mark.parametrize("listed", [24, 48, 49])
async def test_a_part_never_passes_for_the_whole(listed: int) -> None:
    """The index knows of 48, and among 60 files there may be two of one instance."""
    server, kept, key = Dying(files(60)), Kept(), Key(instances=48)
    server.heads = listed
    async with archive_of(server, kept) as setup:
        with pytest.raises(Unreachable):
            await setup.inventory.objects(key)
    assert len(kept.lines.get(KEPT, ())) != 48
    async with archive_of(Bucket(server.objects), kept) as setup:
        assert len(await setup.inventory.objects(key)) == 60


async def test_who_wants_the_file_of_a_one_instance_series_at_the_same_time_waits_for_one_list() -> None:
    class Slow(Bucket):
        async def __call__(self, request: httpx.Request) -> httpx.Response:  # type: ignore[override]
            await trio.testing.wait_all_tasks_blocked()
            return super().__call__(request)

    server = Slow(files(1))
    (data,) = server.objects.values()
    got: list[bytes] = []
    async with archive_of(server) as setup:

        async def read() -> None:
            got.append(await content(setup, Key(instances=1)))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(read)
    assert got == [data] * 8
    assert server.listings == 1

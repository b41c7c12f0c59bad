"""The buckets against an S3 in memory: whole lists or an error, the right file for each instance, just the bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from xml.sax.saxutils import escape

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from idcfs.archive.objects import ListedObject, parse_page
from idcfs.errors import Damaged, DeadlinePassed, Gone, IdcfsError, Refused
from idcfs.settings import AWS, GCS
from tests.archive.s3_in_memory import FOLDER, TIMEOUT, Bucket, Kept, Key, archive_of, content, files, page_of
from tests.content.scripted import dicom
from tests.namespace.making import patient


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("page_keys", [1, 7, 1_000])
async def test_every_file_is_found_by_its_instance_whatever_the_page(count: int, page_keys: int) -> None:
    stored = files(count)
    server = Bucket({f"{FOLDER}/": b"", **stored}, page_keys=page_keys)
    async with archive_of(server) as setup:
        found = await setup.inventory.objects(Key())
        assert {f"{FOLDER}/{one.name}" for one in found.values()} == set(stored)
        for number, data in enumerate(stored.values()):
            key = Key(instance_uid=f"1.2.3.{number}")
            assert found[key.instance_uid].size == len(data)
            assert await content(setup, key) == data
    assert setup.told == {FOLDER: {f"1.2.3.{n}": len(data) for n, data in enumerate(stored.values())}}
    heads = [asked for asked in server.asked if asked[1] == "bytes=0-1023"]
    assert len(heads) == count


async def test_a_short_list_is_asked_for_again_by_the_next_mount() -> None:
    server, kept = Bucket(files(5)), Kept()
    for _ in range(2):
        async with archive_of(server, kept) as setup:
            assert len(await setup.inventory.objects(Key(instances=6))) == 5
    assert server.listings == 2
    async with archive_of(server, kept) as setup:
        await setup.inventory.objects(Key(instances=5))
    assert kept.lines


async def test_no_more_heads_are_asked_for_at_once_than_downloads_run() -> None:
    most = open_now = 0

    class Slow(Bucket):
        async def __call__(self, request: httpx.Request) -> httpx.Response:  # type: ignore[override]
            nonlocal most, open_now
            if not request.url.path.endswith(".dcm"):
                return super().__call__(request)
            open_now += 1
            most = max(most, open_now)
            await trio.sleep(0.01)
            open_now -= 1
            return super().__call__(request)

    stored = files(60)
    other = {name.replace(FOLDER, "other"): data for name, data in stored.items()}
    async with archive_of(Slow({**stored, **other})) as setup, trio.open_nursery() as nursery:
        nursery.start_soon(setup.inventory.objects, Key())
        nursery.start_soon(setup.inventory.objects, Key(content="other"))
    assert most == 24


async def test_what_the_files_are_is_asked_once_even_across_mounts() -> None:
    server, kept = Bucket(files(5)), Kept()
    async with archive_of(server, kept) as setup, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(setup.inventory.objects, Key(instances=5))
    assert (server.listings, len(server.asked)) == (1, 5)
    async with archive_of(server, kept) as setup:
        assert (
            await content(setup, Key(instance_uid="1.2.3.4", instances=5), 10, 20) == list(files(5).values())[4][10:20]
        )
    assert (server.listings, len(server.asked)) == (1, 6)


async def test_the_file_of_a_one_instance_series_needs_no_asking_what_it_is() -> None:
    server = Bucket(files(1))
    (data,) = server.objects.values()
    async with archive_of(server) as setup:
        for _ in range(3):
            assert await content(setup, Key(instances=1), 100, 200) == data[100:200]
    assert server.listings == 1
    assert [asked for _, asked in server.asked] == ["bytes=100-199"] * 3


async def test_of_several_files_where_the_index_says_one_each_is_asked() -> None:
    stored = files(2)
    async with archive_of(Bucket(stored)) as setup:
        assert await content(setup, Key(instance_uid="1.2.3.1", instances=1)) == list(stored.values())[1]


async def test_a_file_meta_beyond_the_first_kilobyte_is_read_on() -> None:
    padding = b"\x02\x00\x01\x00OB\x00\x00" + (5_000).to_bytes(4, "little") + bytes(5_000)
    data = bytes(128) + b"DICM" + padding + dicom("1.2.3.0", 2_000)[132:]
    async with archive_of(Bucket({f"{FOLDER}/a.dcm": data, f"{FOLDER}/b.dcm": dicom("1.2.3.1", 2_000)})) as setup:
        assert set(await setup.inventory.objects(Key())) == {"1.2.3.0", "1.2.3.1"}


async def test_a_bucket_without_ranges_is_read_whole() -> None:
    stored = files(2)
    async with (
        archive_of(Bucket(stored, knows_ranges=False)) as setup,
        setup.archive.fetch(Key(instance_uid="1.2.3.1"), 100, 200) as body,
    ):
        assert (body.start, body.stop) == (0, None)
        assert b"".join([chunk async for chunk in body]) == list(stored.values())[1]


async def test_a_range_to_beyond_the_end_is_one_to_the_end() -> None:
    server = Bucket(files(1))
    (data,) = server.objects.values()
    async with archive_of(server) as setup:
        assert await content(setup, Key(instances=1), 1_000, len(data) + 50_000) == data[1_000:]


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Bucket({}), Gone),
        (Bucket({f"{FOLDER}/": b""}), Gone),
        (Bucket({f"{FOLDER}/a.dcm": b"no DICOM" * 100}), Damaged),
        (Bucket(files(3), page=b"<html>sign in</html>"), Refused),
        (Bucket(files(3), page=b"<ListBucketResult><Contents>"), Refused),
        (Bucket(files(3), page=b'<?xml version="1.0" encoding="rot13"?><ListBucketResult/>'), Gone),
        (Bucket(files(3), page='<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult/>'.encode("utf-16")), Refused),
        (Bucket(files(3), page=b"\xff<ListBucketResult/>"), Refused),
        (Bucket(files(3), page=b"<!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult/>"), Refused),
        (Bucket(files(3), page=page_of([], more=True)), Refused),
        (Bucket(files(3), page=page_of([(f"{FOLDER}/a.dcm", 2**63)])), Gone),
        (Bucket(files(3), page_keys=2, tokens=False), Refused),
        (Bucket(files(3), page=page_of([("a.dcm", 5)], more=True, token="again")), Refused),
        (Bucket(files(3), sizes=dict.fromkeys(files(3), 7)), Damaged),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_an_error_and_not_a_short_list(server: Bucket, expected: type[IdcfsError]) -> None:
    async with archive_of(server) as setup:
        with pytest.raises(expected):
            await content(setup, Key())
    assert not setup.kept.lines


async def test_what_has_shown_itself_wrong_is_asked_for_anew_by_the_next_mount() -> None:
    stored = files(3)
    server, kept, key = Bucket(dict(stored)), Kept(), Key(instances=3)
    async with archive_of(server, kept) as setup:
        assert await content(setup, key)
        assert kept.lines[f"mock/{FOLDER}"]
        gone = server.objects.pop(next(iter(stored)))
        for _ in range(2):
            with pytest.raises(Gone):
                await content(setup, key)
        assert not kept.lines[f"mock/{FOLDER}"]
    assert server.listings == 1
    server.objects[f"{FOLDER}/another.dcm"] = gone
    async with archive_of(server, kept) as setup:
        assert await content(setup, key) == gone


async def test_a_list_that_lies_about_sizes_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    stored = files(3)
    lies = {name: len(data) + 1 for name, data in stored.items()}
    first, *_ = lies
    async with archive_of(Bucket(stored, sizes={first: lies[first]})) as setup:
        assert set(await setup.inventory.objects(Key(instances=3))) == {"1.2.3.1", "1.2.3.2"}
        assert not setup.kept.lines
    assert "and is listed with 2001" in caplog.text
    async with archive_of(Bucket(stored, sizes=lies)) as setup:
        with pytest.raises(Damaged):
            await content(setup, Key(instances=3))


async def test_what_comes_in_chunks_is_as_long_as_it_is_listed() -> None:
    """Its end alone proves nothing: a server that ends it too early ends it well."""
    stored = files(2)

    class Chunked(Bucket):
        def _object(self, data: bytes, asked: str | None) -> httpx.Response:
            async def chunks() -> AsyncIterator[bytes]:
                yield data[: len(data) // 2]

            return super()._object(data, asked) if asked else httpx.Response(200, content=chunks())

    async with archive_of(Chunked(stored)) as setup, setup.archive.fetch(Key(instance_uid="1.2.3.1")) as body:
        assert body.size == 2_001


async def test_of_two_files_that_claim_to_be_one_instance_neither_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    server = Bucket({**files(2), f"{FOLDER}/zz.dcm": dicom("1.2.3.1", 5_000)})
    async with archive_of(server) as setup:
        assert set(await setup.inventory.objects(Key(instances=3))) == {"1.2.3.0"}
        with pytest.raises(Gone):
            await content(setup, Key(instance_uid="1.2.3.1", instances=3))
        assert not setup.kept.lines
    assert "of 1 instances there are several files" in caplog.text


@pytest.mark.parametrize("new_keys", [False, True])
async def test_a_list_without_an_end_is_refused(new_keys: bool) -> None:
    class Endless(Bucket):
        def _page(self, prefix: str, token: str | None) -> bytes:
            keys = [(f"{prefix}{self.listings * new_keys}-{number}.dcm", 5) for number in range(1_000)]
            return page_of(keys, more=True, token=f"{self.listings}")

    server = Endless({})
    async with archive_of(server) as setup:
        with pytest.raises(Refused, match="no end to its list"):
            await setup.inventory.objects(Key(instances=10))
    assert server.listings <= 12


async def test_nobody_waits_longer_than_the_timeout_for_what_makes_no_progress(autojump_clock: MockClock) -> None:
    class Slow(Bucket):
        async def __call__(self, request: httpx.Request) -> httpx.Response:  # type: ignore[override]
            await trio.sleep(20)
            return super().__call__(request)

    server = Slow(files(60))
    async with archive_of(server) as setup:
        began = trio.current_time()
        with pytest.raises(DeadlinePassed):
            await setup.inventory.objects(Key())
        assert trio.current_time() - began == pytest.approx(TIMEOUT)
        await trio.sleep(100)  # what was waited for goes on
        assert len(await setup.inventory.objects(Key())) == 60
    assert server.listings == 1


@pytest.mark.parametrize(
    "key",
    [
        Key(content=""),
        Key(bucket=""),
        Key(content="../other"),
        Key(content="a/b"),
        Key(content="a\nb"),
        Key(bucket="evil.example/x"),
        Key(bucket="..", content=FOLDER),
        Key(instance_uid="9.9"),
    ],
    ids=str,
)
async def test_what_the_index_does_not_place_is_not_asked_for(key: Key) -> None:
    server = Bucket(files(2))
    async with archive_of(server) as setup:
        with pytest.raises(Gone):
            await content(setup, key)
    assert server.listings == (1 if key.instance_uid == "9.9" else 0)


async def test_names_that_are_no_files_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    odd = {f"{FOLDER}/../x.dcm": b"1", f"{FOLDER}/a b.dcm": b"1", f"{FOLDER}/readme.txt": b"1", f"{FOLDER}/z.dcm": b""}
    async with archive_of(Bucket({**files(2), **odd})) as setup:
        assert set(await setup.inventory.objects(Key())) == {"1.2.3.0", "1.2.3.1"}
    assert "4 objects are no files" in caplog.text


async def test_a_file_that_names_no_instance_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    odd = {f"{FOLDER}/x.dcm": dicom("not a uid", 2_000), f"{FOLDER}/y.dcm": b"no DICOM at all" * 100}
    async with archive_of(Bucket({**files(1), **odd})) as setup:
        assert set(await setup.inventory.objects(Key())) == {"1.2.3.0"}
    assert caplog.text.count("is passed over") == 2


async def test_who_goes_away_does_not_take_the_map_from_the_others() -> None:
    server = Bucket(files(30))
    async with archive_of(server) as setup:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(setup.inventory.objects, Key())
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert len(await setup.inventory.objects(Key())) == 30
    assert server.listings == 1


def test_the_mirror_calls_two_buckets_otherwise() -> None:
    assert AWS.of("idc-open-data").base_url == "https://idc-open-data.s3.amazonaws.com"
    assert AWS.of("idc-open-data-two").base_url == "https://idc-open-data-two.s3.amazonaws.com"
    assert GCS.of("idc-open-data").base_url == "https://storage.googleapis.com/idc-open-data"
    assert GCS.of("idc-open-data-cr").base_url == "https://storage.googleapis.com/idc-open-cr"
    assert GCS.of("idc-open-data-two").base_url == "https://storage.googleapis.com/idc-open-idc1"


@patient
@given(st.lists(st.tuples(st.text(), st.integers() | st.text())), st.booleans(), st.text(max_size=5))
def test_whatever_a_page_holds_is_a_file_or_passed_over(
    entries: list[tuple[str, int | str]], more: bool, token: str
) -> None:
    try:
        page = parse_page(page_of(entries, more=more, token=escape(token)), "a/", "mock")
    except Refused:
        return
    assert len(page.objects) + page.passed_over + sum(key == "a/" for key, _ in entries) == len(entries)
    for one in page.objects:
        assert re.fullmatch(r"[0-9A-Za-z_-]{1,200}\.dcm", one.name)
        assert one.size > 0


@patient
@given(st.binary())
def test_whatever_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        parse_page(body, "a/", "mock")


def test_google_says_it_in_another_namespace() -> None:
    body = page_of([("a/b.dcm", 5)]).replace(
        b"http://s3.amazonaws.com/doc/2006-03-01/", b"http://doc.s3.amazonaws.com/2006-03-01"
    )
    assert parse_page(body, "a/", "mock") == ([ListedObject("b.dcm", 5)], 0, None)

"""QIDO-RS against servers with the habits that were met in the wild, WADO-RS against bodies that may not be whole."""

from __future__ import annotations

import gzip
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from idcfs import errors
from idcfs.archive.dicomweb import MAX_STALE_PAGES, MULTIPART, SINGLE_PART, DicomwebArchive, SeriesRecord, StudyRecord
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.archive.scripted import Reply, http, raw, serving, transport_to

Item = dict[str, Any]


@dataclass(frozen=True)
class Key:
    study_uid: str = "1.2"
    series_uid: str = "1.2.3"
    instance_uid: str = "1.2.3.4"
    size: int | None = None


def item(**values: Any) -> Item:
    tags = {
        "patient": "00100020",
        "study": "0020000D",
        "series": "0020000E",
        "instance": "00080018",
        "count": "00201209",
    }
    return {tags[name]: {"vr": "UI", "Value": [value]} for name, value in values.items()}


def instances(count: int) -> list[Item]:
    return [item(study="1.2", series="1.2.3", instance=f"1.2.3.{number}") for number in range(count)]


@dataclass
class Qido:
    """A server: items by path, and its habits."""

    items: dict[str, list[Item]]
    cap: int = 10**9
    largest_limit: int = 10**9
    ignores_offset: bool = False
    refuses: dict[str, int] = field(default_factory=dict)
    empty: Callable[[], httpx.Response] = lambda: httpx.Response(204)
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, limit, offset = request.url.path, int(request.url.params["limit"]), int(request.url.params["offset"])
        self.asked.append((path, limit, offset))
        if limit > self.largest_limit or path in self.refuses:
            return httpx.Response(self.refuses.get(path, 400), json={"error": "not so"})
        start = 0 if self.ignores_offset else offset
        page = self.items.get(path, [])[start : start + min(limit, self.cap)]
        return httpx.Response(200, json=page) if page else self.empty()


@asynccontextmanager
async def archive_of(handler: Callable[[httpx.Request], Any], limit: int = 10) -> AsyncIterator[DicomwebArchive]:
    settings = ArchiveSettings(name="mock", base_url="http://mock", page_limit=limit)
    async with Transport(settings, TransportSettings(), Stats(), wire=httpx.MockTransport(handler)) as transport:
        yield DicomwebArchive(transport, settings)


INSTANCES = "/studies/1.2/series/1.2.3/instances"


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25, 30])
@pytest.mark.parametrize("cap", [3, 10, 10**9])
async def test_every_instance_is_listed_whatever_the_page(count: int, cap: int) -> None:
    server = Qido({INSTANCES: instances(count)}, cap=cap)
    async with archive_of(server) as archive:
        found = await archive.search_instances("1.2", "1.2.3", None)
    assert found == sorted(f"1.2.3.{number}" for number in range(count))


async def test_a_short_page_that_reaches_the_expectation_saves_the_next_query() -> None:
    server = Qido({INSTANCES: instances(7)})
    async with archive_of(server) as archive:
        await archive.search_instances("1.2", "1.2.3", 7)
    assert server.asked == [(INSTANCES, 10, 0)]


async def test_a_full_page_that_reaches_the_expectation_may_not_be_the_last() -> None:
    server = Qido({INSTANCES: instances(12)})
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 10)) == 12


async def test_more_than_the_expectation_on_a_short_page_is_not_the_end() -> None:
    server = Qido({INSTANCES: instances(10)}, cap=3)
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 2)) == 10


@pytest.mark.parametrize(("cap", "expected"), [(10**9, 25), (10**9, None), (4, 25)])
async def test_a_listing_cut_by_a_server_that_ignores_the_offset_is_refused(cap: int, expected: int | None) -> None:
    server = Qido({INSTANCES: instances(25)}, cap=cap, ignores_offset=True)
    async with archive_of(server) as archive:
        with pytest.raises(errors.Refused, match=rf"ignore offset, {min(cap, 10)} of (25|an unknown number) listed"):
            await archive.search_instances("1.2", "1.2.3", expected)
    assert len(server.asked) == 2 + MAX_STALE_PAGES


@pytest.mark.parametrize("limit", [10, 100])
async def test_a_server_that_ignores_the_offset_but_sends_everything_is_believed(
    limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with archive_of(lambda _: httpx.Response(200, json=instances(25)), limit) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 25)) == 25
        assert not caplog.records
        assert len(await archive.search_instances("1.2", "1.2.3", None)) == 25
    assert "ignore offset; 25 items" in caplog.text


@pytest.mark.parametrize("expected", [None, 25])
@pytest.mark.parametrize("between", [instances(10), [{}] * 10, [*instances(10)[::-1], *instances(10), *instances(10)]])
async def test_pages_without_anything_new_are_not_the_end(between: list[Item], expected: int | None) -> None:
    server = Qido({INSTANCES: [*instances(10), *between, *instances(25)[10:]]})
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", expected)) == 25


@pytest.mark.parametrize(("expected", "most"), [(3, 10_012), (None, 20_000)])
async def test_a_listing_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, expected: int | None, most: int
) -> None:
    monkeypatch.setattr("idcfs.archive.dicomweb.MAX_ITEMS", 20_000)

    def handler(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        assert offset <= most
        return httpx.Response(200, json=[item(instance=f"1.{number}") for number in range(offset, offset + 5_000)])

    async with archive_of(handler, 5_000) as archive:
        with pytest.raises(errors.Refused, match=f"more than {most:,} items"):
            await archive.search_instances("1.2", "1.2.3", expected)


async def test_the_padding_of_uids_is_taken_off() -> None:
    padded = [item(instance="1.2.3.0\0"), item(instance="1.2.3.1 "), item(instance="1.2.3.1")]
    async with archive_of(Qido({INSTANCES: padded})) as archive:
        assert await archive.search_instances("1.2", "1.2.3") == ["1.2.3.0", "1.2.3.1"]


async def test_repeated_items_are_listed_once() -> None:
    server = Qido({INSTANCES: instances(4) + instances(6)})
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", None)) == 6


@pytest.mark.parametrize(("largest", "asked"), [(200, [1000, 200, 200]), (100, [1000, 200, 100, 100])])
async def test_a_refused_limit_is_lowered_and_remembered(largest: int, asked: list[int]) -> None:
    server = Qido({INSTANCES: instances(5), "/studies": [item(study="1.2")]}, largest_limit=largest)
    async with archive_of(server, limit=1000) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 5)) == 5
        await archive.search_instances("1.2", "1.2.3", 5)
    assert [limit for _, limit, _ in server.asked] == asked


async def test_a_refusal_that_comes_late_still_finds_the_limit(autojump_clock: MockClock) -> None:
    server = Qido({INSTANCES: instances(5)}, largest_limit=100)
    delays = [1, 2, 3]
    found: list[int] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        await trio.sleep(delays.pop(0) if delays else 0)
        return server(request)

    async with archive_of(handler, limit=1000) as archive, trio.open_nursery() as nursery:

        async def search() -> None:
            found.append(len(await archive.search_instances("1.2", "1.2.3", 5)))

        for _ in range(3):
            nursery.start_soon(search)
    assert found == [5] * 3


async def test_a_refusal_that_is_not_about_the_limit_stays_one() -> None:
    server = Qido({}, largest_limit=0)
    async with archive_of(server, limit=1000) as archive:
        with pytest.raises(errors.Refused, match="not so") as caught:
            await archive.search_studies()
    assert caught.value.status == 400
    assert [limit for _, limit, _ in server.asked] == [1000, 200, 100]


@pytest.mark.parametrize("empty", [httpx.Response(204), httpx.Response(200, json=[]), httpx.Response(200)])
async def test_nothing_found_is_an_empty_list(empty: httpx.Response) -> None:
    async with archive_of(Qido({}, empty=lambda: empty)) as archive:
        assert await archive.search_studies() == []
        assert await archive.search_series() == []
        assert await archive.search_instances("1.2", "1.2.3", None) == []


async def test_one_object_is_one_item() -> None:
    async with archive_of(lambda _: httpx.Response(200, json=instances(1)[0])) as archive:
        assert await archive.search_instances("1.2", "1.2.3", None) == ["1.2.3.0"]


@pytest.mark.parametrize("answer", [["1.2.3"], "1.2.3", 7, [None], [[]]])
async def test_anything_else_is_refused(answer: object) -> None:
    async with archive_of(lambda _: httpx.Response(200, json=answer)) as archive:
        with pytest.raises(errors.Refused):
            await archive.search_studies()


@pytest.mark.parametrize(
    "bad",
    [{}, {"00080018": {}}, {"00080018": {"Value": []}}, {"00080018": 7}, item(instance="../x"), item(instance=12)],
)
async def test_items_without_a_usable_uid_are_passed_over_and_reported(
    bad: Item, caplog: pytest.LogCaptureFixture
) -> None:
    server = Qido({INSTANCES: [bad, *instances(2)]})
    async with archive_of(server) as archive:
        assert await archive.search_instances("1.2", "1.2.3", None) == ["1.2.3.0", "1.2.3.1"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def fields(record: SeriesRecord) -> tuple[str, str, str, int | None]:
    return record.patient_id, record.study_uid, record.series_uid, record.instance_count


async def test_studies_keep_every_patient_they_stand_under() -> None:
    listed = [
        item(study="1.2", patient="A"),
        item(study="1.2", patient="B"),
        item(study="1.2", patient="A"),
        item(study="3"),
    ]
    async with archive_of(Qido({"/studies": listed})) as archive:
        found = await archive.search_studies()
    assert found == [StudyRecord("A", "1.2"), StudyRecord("B", "1.2"), StudyRecord("", "3")]


async def test_series_come_with_patient_and_count() -> None:
    listed = [
        item(patient="A", study="1", series="1.1", count=7),
        item(patient="A", study="1", series="1.2", count="8"),
        item(patient="B", study="2", series="2.1", count="many"),
        item(patient="B", study="2", series="2.1", count=9),
    ]
    server = Qido({"/series": listed})
    async with archive_of(server) as archive:
        found = await archive.search_series()
    assert list(map(fields, found)) == [("A", "1", "1.1", 7), ("A", "1", "1.2", 8), ("B", "2", "2.1", None)]
    assert {path for path, _, _ in server.asked} == {"/series"}


async def test_patients_that_series_lack_are_taken_from_their_studies() -> None:
    listed = [item(study="1", series="1.1"), item(patient="X", study="1", series="1.2"), item(study="9", series="9.1")]
    async with archive_of(Qido({"/series": listed, "/studies": [item(patient="A", study="1")]})) as archive:
        found = await archive.search_series()
    assert [record.patient_id for record in found] == ["A", "X", ""]


@pytest.mark.parametrize("status", [400, 404, 501])
async def test_a_server_that_cannot_list_all_series_is_asked_study_by_study(status: int) -> None:
    server = Qido(
        {
            "/studies": [item(patient="A", study="1"), item(patient="B", study="2"), item(patient="C", study="3")],
            "/studies/1/series": [item(series="1.1", count=2), item(study="1", series="1.2")],
            "/studies/2/series": [item(study="2", series="2.1")],
        },
        refuses={"/series": status},
    )
    async with archive_of(server) as archive:
        found = await archive.search_series()
    assert list(map(fields, found)) == [("A", "1", "1.1", 2), ("A", "1", "1.2", None), ("B", "2", "2.1", None)]


async def test_the_count_is_no_part_of_a_series_identity() -> None:
    assert SeriesRecord("A", "1", "1.1", 2) == SeriesRecord("A", "1", "1.1", 3)


async def test_metadata() -> None:
    paths: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(200, json=[{"00080018": {}}])

    async with archive_of(handler) as archive:
        assert await archive.series_metadata("1.2", "1.2.3") == [{"00080018": {}}]
    assert paths == ["/studies/1.2/series/1.2.3/metadata"]


@pytest.mark.parametrize("uid", ["", "..", "%2e%2e", "1/2", "1.2 ", "1.2\n", ".1", "a", "٣", "1" * 65])
async def test_what_is_no_uid_never_reaches_the_archive(uid: str) -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(500)

    async with archive_of(handler) as archive:
        for key in (Key(study_uid=uid), Key(series_uid=uid), Key(instance_uid=uid)):
            with pytest.raises(errors.Refused, match="no DICOM UID"):
                await fetched(archive, key)
        for call in (archive.search_instances(uid, "1", None), archive.series_metadata("1", uid)):
            with pytest.raises(errors.Refused, match="no DICOM UID"):
                await call
    assert requests == []


# Bodies, over a real socket.

CONTENT = bytes(range(256)) * 1000
TYPE = 'Content-Type: multipart/related; type="application/dicom"; boundary=b-0\r\n'
DICOM = "Content-Type: application/dicom\r\n"


def part(content: bytes = CONTENT, length: int | None = None, kind: str = DICOM) -> bytes:
    announced = "" if length is None else f"Content-Length: {length}\r\n"
    return f"--b-0\r\n{kind}{announced}\r\n".encode() + content + b"\r\n"


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def fetched(archive: DicomwebArchive, key: Key = Key()) -> tuple[int | None, bytes]:
    async with archive.fetch(key) as body:
        size = body.size
        return size, b"".join([chunk async for chunk in body])


WHOLE = part(length=len(CONTENT)) + b"--b-0--"
MEMBERS = b"".join(
    gzip.compress(piece) for piece in (CONTENT[:1000], b"", b"", CONTENT[1000:2000], CONTENT[2000:], b"")
)
GZIP_CHUNKS = "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("reply", "size"),
    [
        (http(200, WHOLE, TYPE), len(CONTENT)),
        (http(200, part() + b"--b-0--\r\n", TYPE), None),
        (raw(TYPE + "Transfer-Encoding: chunked\r\n", chunked(WHOLE), then="keep"), len(CONTENT)),
        (
            raw(TYPE + "Transfer-Encoding: chunked\r\n", chunked(b"\r\npreamble\r\n" + WHOLE, 7), then="keep"),
            len(CONTENT),
        ),
        (raw(TYPE + "Connection: close\r\n", WHOLE), len(CONTENT)),
        (raw(TYPE + "Connection: close\r\n", part() + b"--b-0--"), None),
        (raw("Content-Type: multipart/related\r\n", WHOLE), len(CONTENT)),
        (http(200, part(kind="", length=len(CONTENT)) + b"--b-0--", TYPE), len(CONTENT)),
        (http(200, part(kind="Content-Type: Application/Octet-Stream\r\n") + b"--b-0--", TYPE), None),
        (http(200, CONTENT, DICOM), len(CONTENT)),
        (http(200, CONTENT, "Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1\r\n"), len(CONTENT)),
        (http(200, CONTENT), len(CONTENT)),
        (raw(DICOM + "Transfer-Encoding: chunked\r\n", chunked(CONTENT), then="keep"), None),
        (http(200, gzip.compress(CONTENT), DICOM + "Content-Encoding: gzip\r\n"), None),
        (http(200, gzip.compress(WHOLE), TYPE + "Content-Encoding: gzip\r\n"), len(CONTENT)),
        (http(200, MEMBERS, DICOM + "Content-Encoding: gzip\r\n"), None),
        (raw(DICOM + GZIP_CHUNKS, chunked(MEMBERS, 7), then="keep"), None),
    ],
)
async def test_whole_bodies(reply: Reply, size: int | None) -> None:
    async with serving(reply) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        assert await fetched(archive) == (size, CONTENT)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (raw(TYPE, WHOLE[:-2]), errors.Truncated),
        (raw(TYPE, part()[:-500]), errors.Truncated),
        (raw(TYPE, b"--b-0\r\nContent-Ty"), errors.Truncated),
        (raw(TYPE), errors.Truncated),
        (raw(TYPE + f"Content-Length: {len(WHOLE)}\r\n", WHOLE[:5000]), errors.Truncated),
        (raw(TYPE + "Transfer-Encoding: chunked\r\n", chunked(WHOLE)[:5000]), errors.Truncated),
        (raw(DICOM + "Content-Length: 9000\r\n", CONTENT[:8999]), errors.Truncated),
        (raw(DICOM + "Transfer-Encoding: chunked\r\n", chunked(CONTENT)[:-5]), errors.Truncated),
        (http(200, gzip.compress(CONTENT)[:-1], DICOM + "Content-Encoding: gzip\r\n"), errors.Truncated),
        (http(200, MEMBERS[:-1], DICOM + "Content-Encoding: gzip\r\n"), errors.Truncated),
        (http(200, MEMBERS + b"more", DICOM + "Content-Encoding: gzip\r\n"), errors.Truncated),
        (raw(DICOM, CONTENT), errors.Damaged),
        (raw(DICOM + "Content-Length: 99999999999999999999\r\n", CONTENT), errors.Damaged),
        (http(200, part(length=len(CONTENT) - 1) + b"--b-0--", TYPE), errors.Damaged),
        (http(200, part(length=len(CONTENT) + 1) + b"--b-0--", TYPE), errors.Damaged),
        (http(200, part() + WHOLE, TYPE), errors.Damaged),
        (http(200, b"--b-0--", TYPE), errors.Damaged),
        (http(200, part(kind="Content-Type: text/html\r\n") + b"--b-0--", TYPE), errors.Damaged),
        (http(200, b"<html>", "Content-Type: text/html\r\n"), errors.Refused),
        (http(200, b"[]", "Content-Type: application/dicom+json\r\n"), errors.Refused),
        (http(200, b"PK", "Content-Type: application/zip\r\n"), errors.Refused),
        (http(200, CONTENT, DICOM + "Content-Encoding: br\r\n"), errors.Refused),
        (http(206, CONTENT, DICOM), errors.Refused),
        (http(204), errors.Gone),
        (http(404), errors.Gone),
    ],
)
async def test_what_is_not_whole_is_an_error(reply: Reply, kind: type[errors.IdcfsError]) -> None:
    async with serving(reply) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="scripted", base_url=server.url))
        with pytest.raises(kind) as caught:
            await fetched(archive)
    assert type(caught.value) is kind
    assert "scripted/studies/1.2/series/1.2.3/instances/1.2.3.4" in str(caught.value)


def accept_of(head: str) -> str:
    return next(line.removeprefix("Accept: ") for line in head.split("\r\n") if line.startswith("Accept: "))


@pytest.mark.parametrize("status", [400, 406, 415])
@pytest.mark.parametrize("single_part_first", [True, False])
async def test_the_form_that_works_is_learnt_once(status: int, single_part_first: bool) -> None:
    replies = [http(status), http(200, WHOLE, TYPE)]
    async with serving(*replies) as server, transport_to(server.url) as transport:
        settings = ArchiveSettings(name="x", base_url=server.url, single_part_first=single_part_first)
        archive = DicomwebArchive(transport, settings)
        for _ in range(3):
            assert await fetched(archive) == (len(CONTENT), CONTENT)
    first, second = (SINGLE_PART, MULTIPART) if single_part_first else (MULTIPART, SINGLE_PART)
    assert [accept_of(head) for head in server.requests] == [first, second, second, second]


async def test_if_no_form_works_the_first_refusal_is_raised() -> None:
    async with serving(http(406), http(400)) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        with pytest.raises(errors.Refused) as caught:
            await fetched(archive)
    assert caught.value.status == 406
    assert len(server.requests) == 2


async def test_a_missing_instance_is_asked_for_in_one_form_only() -> None:
    async with serving(http(404)) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Gone):
            await fetched(DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url)))
    assert len(server.requests) == 1


async def test_the_size_is_known_before_the_content_has_come() -> None:
    beginning = WHOLE[:300]
    reply = raw(TYPE, *[beginning[at : at + 1] for at in range(300)], then="hang", pause_seconds=0.0001)
    async with serving(reply) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        with trio.fail_after(5):
            async with archive.fetch(Key()) as body:
                assert body.size == len(CONTENT)
                assert await anext(body) == CONTENT[:1]


async def test_leaving_a_fetch_early_stops_the_transfer() -> None:
    head = f"--b-0\r\n{DICOM}Content-Length: {10**9}\r\n\r\n".encode()
    large = raw(TYPE, head, *[bytes(65536)] * 1600)
    async with serving(large) as server, transport_to(server.url, stats := Stats()) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        async with archive.fetch(Key()) as body:
            await anext(body)
        with trio.fail_after(5):
            await server.closed_by_client.wait()
    assert stats["bytes_from_archive"] < 65536 * 100


def ranged(content_range: str, body: bytes, headers: str = DICOM) -> Reply:
    return http(206, body, f"{headers}Content-Range: {content_range}\r\n")


async def test_a_range_is_taken_as_one_only_if_it_says_so() -> None:
    async with serving(ranged("bytes 10-19/1000", b"0123456789")) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        async with archive.fetch(Key(), 10, 20) as body:
            assert (body.start, body.size) == (10, 1000)
            assert b"".join([chunk async for chunk in body]) == b"0123456789"
    assert "range: bytes=10-19\r\n" in server.requests[0].lower()
    assert "multipart" not in server.requests[0]


async def test_a_range_that_would_end_after_the_instance_ends_with_it() -> None:
    async with serving(ranged("bytes 10-14/15", b"01234")) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        async with archive.fetch(Key(), 10, 20) as body:
            assert (body.start, body.stop, body.size) == (10, None, 15)
            assert b"".join([chunk async for chunk in body]) == b"01234"


async def test_the_rest_of_an_instance_is_a_range_without_an_end() -> None:
    async with serving(ranged("bytes 990-999/1000", b"0123456789")) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        async with archive.fetch(Key(), 990) as body:
            assert (body.start, body.size) == (990, 1000)
    assert "range: bytes=990-\r\n" in server.requests[0].lower()


@pytest.mark.parametrize(
    "reply",
    [
        http(200, CONTENT, DICOM),
        ranged("bytes 11-20/1000", b"0123456789"),
        ranged("bytes 10-18/1000", b"012345678"),
        ranged("bytes 10-29/1000", bytes(20)),
        ranged("bytes 10-19/*", b"0123456789"),
        ranged("bytes 10-19/15", b"0123456789"),
        ranged("bytes 10-7/8", b""),
        ranged("pages 10-19/1000", b"0123456789"),
        ranged("bytes 10-19/1000", b"0123456789", "Content-Type: multipart/byteranges; boundary=x\r\n"),
        ranged("bytes 10-19/1000", b"0123456789", f"{DICOM}Content-Encoding: gzip\r\n"),
        http(206, CONTENT, DICOM),
        http(400),
        http(406),
    ],
    ids=str,
)
async def test_what_is_no_such_range_is_fetched_from_the_beginning_and_not_asked_for_again(reply: Reply) -> None:
    whole = http(200, CONTENT, DICOM)
    is_whole = reply == whole
    replies = (whole,) if is_whole else (reply, whole)
    async with serving(*replies) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        for _ in range(2):
            async with archive.fetch(Key(), 10, 20) as body:
                assert (body.start, body.size) == (0, len(CONTENT))
                assert b"".join([chunk async for chunk in body]) == CONTENT
    assert sum("range:" in request.lower() for request in server.requests) == 1
    assert len(server.requests) == (2 if is_whole else 3)


async def test_a_range_of_something_of_another_size_is_no_range_of_it() -> None:
    replies = ranged("bytes 10-19/1000", b"0123456789"), http(200, CONTENT, DICOM)
    async with serving(*replies) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        async with archive.fetch(Key(size=len(CONTENT)), 10, 20) as body:
            assert (body.start, body.size) == (0, len(CONTENT))
        assert not archive.knows_ranges


async def test_a_range_beyond_the_end_is_no_reason_to_give_up_ranges() -> None:
    replies = http(416), http(200, CONTENT, DICOM), ranged("bytes 10-19/1000", b"0123456789")
    async with serving(*replies) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings("x", server.url, single_part_first=True))
        async with archive.fetch(Key(), 5000) as body:
            assert body.start == 0
            assert b"".join([chunk async for chunk in body]) == CONTENT
        async with archive.fetch(Key(), 10, 20) as body:
            assert body.start == 10


async def test_no_range_is_asked_of_a_server_that_knows_multipart_only() -> None:
    multipart = raw(TYPE + f"Content-Length: {len(WHOLE)}\r\n", WHOLE, then="keep")
    async with serving(multipart) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        for start in (0, 10):
            async with archive.fetch(Key(), start) as body:
                assert body.start == 0
                assert b"".join([chunk async for chunk in body]) == CONTENT
    assert len(server.requests) == 2
    assert not any("range:" in request.lower() for request in server.requests)


async def test_who_asks_for_all_learns_whether_a_part_can_be_had() -> None:
    for reply, knows in (
        (ranged(f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}", CONTENT), True),
        (http(200, CONTENT, DICOM), False),
    ):
        async with serving(reply, http(200, CONTENT, DICOM)) as server, transport_to(server.url) as transport:
            archive = DicomwebArchive(transport, ArchiveSettings("x", server.url, single_part_first=True))
            async with archive.fetch(Key()) as body:
                assert (body.start, body.stop, body.size) == (0, None, len(CONTENT))
                assert b"".join([chunk async for chunk in body]) == CONTENT
            assert "range: bytes=0-\r\n" in server.requests[0].lower()
            assert archive.knows_ranges is knows
            assert archive.hope_for_ranges() is knows
            async with archive.fetch(Key()) as body:
                assert body.start == 0
            assert "range:" not in server.requests[1].lower()


async def test_static_files_are_asked_for_ranges_though_they_were_asked_for_multipart() -> None:
    replies = http(200, CONTENT, DICOM), ranged("bytes 10-19/1000", b"0123456789")
    async with serving(*replies) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        async with archive.fetch(Key()) as body:
            assert b"".join([chunk async for chunk in body]) == CONTENT
        assert "multipart" in server.requests[0]
        assert not archive.knows_ranges
        assert archive.hope_for_ranges()
        async with archive.fetch(Key(), 10, 20) as body:
            assert (body.start, body.size) == (10, 1000)

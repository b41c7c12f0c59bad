"""WADO-RS against bodies that may not be whole, over a real socket."""

from __future__ import annotations

import gzip

import pytest
import trio

from idcfs import errors
from idcfs.archive.dicomweb import MULTIPART, SINGLE_PART, DicomwebArchive
from idcfs.settings import ArchiveSettings
from idcfs.stats import Stats
from tests.archive.bodies import CONTENT, DICOM, TYPE, WHOLE, Key, chunked, fetched, part
from tests.archive.scripted import Reply, http, raw, serving, transport_to

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
        (http(200, part(length=len(CONTENT) - 1) + b"--b-0--", TYPE), errors.WrongSize),
        (raw(TYPE, part(length=len(CONTENT) + 1) + b"--b-0--"), errors.WrongSize),
        (
            raw(TYPE + "Transfer-Encoding: chunked\r\n", chunked(part(length=len(CONTENT) + 1) + b"--b-0--")),
            errors.WrongSize,
        ),
        (raw(TYPE, part(length=2**38 + 1) + b"--b-0--"), errors.Damaged),
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


@pytest.mark.parametrize("excess", [1, 10, 10**6])
async def test_no_part_is_believed_to_be_longer_than_its_answer(excess: int) -> None:
    reply = http(200, part(length=len(CONTENT) + excess) + b"--b-0--", TYPE)
    async with serving(reply) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="scripted", base_url=server.url))
        with pytest.raises(errors.Truncated, match="announced a part of"):
            async with archive.fetch(Key()):
                pytest.fail("its size was believed")


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


@pytest.mark.parametrize("start", [0, 10])
async def test_of_what_is_known_to_be_too_large_for_it_an_archive_may_say_anything(start: int) -> None:
    replies = [http(500)] * 8
    async with serving(*replies, http(200, CONTENT, DICOM)) as server, transport_to(server.url) as transport:
        settings = ArchiveSettings(name="x", base_url=server.url, max_response_bytes=len(CONTENT) + 100_000)
        archive = DicomwebArchive(transport, settings)
        for number in range(8):
            large = Key(instance_uid=f"1.{number}", size=50_000_000)
            with pytest.raises(errors.Unreachable):
                async with archive.fetch(large, start):
                    pass
        assert len(server.requests) == 8
        assert await fetched(archive) == (len(CONTENT), CONTENT)


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
        ranged("bytes ١٠-19/1000", b"0123456789"),
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
            archive.hope_for_ranges()
            assert archive.knows_ranges is knows
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
        archive.hope_for_ranges()
        assert archive.starts_anywhere(Key())
        async with archive.fetch(Key(), 10, 20) as body:
            assert (body.start, body.size) == (10, 1000)


@pytest.mark.parametrize("headers", ["Content-Type: text/{}\r\n", f"{DICOM}Content-Encoding: {{}}\r\n"])
async def test_what_a_server_says_it_sends_is_told_no_longer_than_it_helps(headers: str) -> None:
    async with serving(http(200, b"x", headers.format("x" * 50_000))) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings(name="x", base_url=server.url))
        with pytest.raises(errors.Refused, match="xxx…") as caught:
            await fetched(archive)
        assert len(str(caught.value)) < 300

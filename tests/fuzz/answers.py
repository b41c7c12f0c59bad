"""What an archive answers: HTTP, its headers, bodies in their wrapping, errors."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import cast
from unittest.mock import patch

import httpx
import trio

from idcfs.archive.answer import MAX_ERROR_BYTES, Answer
from idcfs.archive.body import InstanceBody, open_body
from idcfs.archive.dicomweb import DicomwebArchive
from idcfs.archive.faults import MAX_MESSAGE_CHARS, Told, Transient, of_answer, retry_after_seconds
from idcfs.archive.multipart import MultipartParser, PartBegin, PartData, PartEnd, boundary_of
from idcfs.archive.transport import Transport
from idcfs.errors import Damaged, IdcfsError, Refused, Truncated
from idcfs.settings import MAX_INSTANCE_BYTES, MIB, PROXY_URL, ArchiveSettings, TransportSettings
from idcfs.stats import Stats

from .given import Given, assert_short, at_once, outcome, pieces

BOUNDARIES = (b"b-0", b"b", None, b"b-0--")
SECRET = "ya29.c2VjcmV0LXNlY3JldA"
PLACEHOLDER = b"@@"
"""Stands for what a server repeats of the login that it was sent."""
ARCHIVES = (
    ArchiveSettings("host", "https://host/dicom-web"),
    ArchiveSettings("proxy", PROXY_URL, has_daily_quota=True, is_idcs=True, single_part_first=True),
    ArchiveSettings("google", "https://host/google", google_login=True, is_idcs=True),
)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTINGS = TransportSettings(max_attempts=1, max_json_bytes=MIB)
MOST_BYTES = 4 * MIB
"""As much is taken of a body that may have no end."""


def multipart(data: bytes) -> None:
    """Which boundary; how long pieces are; the body. However it is cut, it holds the same, and no more than came."""
    given = Given(data)
    boundary = BOUNDARIES[given.number() % len(BOUNDARIES)]
    size, body = given.number() + 1, given.rest()
    whole = outcome(partial(_contents, [body], boundary), Damaged)
    assert whole == outcome(partial(_contents, pieces(body, size), boundary), Damaged)
    if isinstance(whole, list):
        assert sum(map(len, whole)) <= len(body)
        assert _contents([_wrapped(whole)], b"b-0") == whole


def _contents(chunks: Iterable[bytes], boundary: bytes | None) -> list[bytes]:
    parser = MultipartParser(boundary)
    contents: list[bytes] = []
    is_inside = False
    for event in (event for chunk in chunks for event in parser.feed(chunk)):
        match event:
            case PartBegin():
                contents.append(b"")
            case PartData(data):
                assert data
                contents[-1] += data
        assert is_inside is not isinstance(event, PartBegin)
        is_inside = not isinstance(event, PartEnd)
    parser.close()
    return contents


def _wrapped(contents: Iterable[bytes]) -> bytes:
    parts = (b"\r\n--b-0\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content) for content in contents)
    return b"".join(parts) + b"\r\n--b-0--"


def boundary(data: bytes) -> None:
    """A Content-Type, as httpx gives it."""
    for text in httpx.Headers([(b"content-type", data)]).values():
        assert boundary_of(text) != b""


class _Stream:
    """A body in memory, as the HTTP parser would hand it out: an httpx stream that waits for nothing."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


def _answer(status: int, headers: httpx.Headers, chunks: Iterable[bytes]) -> Answer:
    response = httpx.Response(status, headers=headers, request=httpx.Request("GET", "https://host/"))
    response.stream = cast("httpx.AsyncByteStream", _Stream(chunks))
    return Answer(response, "host/x", Stats(), "bytes_from_archive")


def body(data: bytes) -> None:
    """Flags; what was asked for; headers up to an empty line; the body: the instance, or an error, whatever is said."""
    given = Given(data)
    flags, start, stop, size = given.number(), given.number(), given.number(2), given.number() + 1
    stop = stop if flags & 1 else 0
    head, _, content = given.rest().partition(b"\n\n")
    headers = httpx.Headers([(name, value) for name, _, value in (line.partition(b":") for line in head.split(b"\n"))])
    answer = _answer(206 if flags & 2 else 200, headers, pieces(content, size))
    opened = outcome(
        lambda: at_once(open_body(answer, start, stop or None, any_type=bool(flags & 4))), Refused, Damaged
    )
    if isinstance(opened, type):
        return
    assert opened.size is None or 0 <= opened.size <= MAX_INSTANCE_BYTES
    assert (opened.start, opened.stop or stop) in ((start, stop), (0, stop))
    found = outcome(lambda: _read(opened), Damaged, Refused)
    if isinstance(found, bytes) and "multipart/" in headers.get("content-type", "").lower() and not flags & 2:
        assert opened.size in (None, len(found))


def _read(opened: InstanceBody) -> bytes:
    found = b""
    while len(found) < MOST_BYTES:
        try:
            found += at_once(cast("_Stream", opened).__anext__())
        except StopAsyncIteration:
            break
    return found


def packed(data: bytes) -> None:
    """How it is said to be packed; how long pieces are; the body. It comes in bounded pieces, the same however cut."""
    given = Given(data)
    encoding = ("gzip", "deflate", "identity", "br", "x-gzip", "GZIP ")[given.number() % 6]
    size, content = given.number() + 1, given.rest()
    whole, cut = ([content] if content else []), list(pieces(content, size))
    found = [outcome(partial(_unpacked, encoding, chunks), Refused, Truncated) for chunks in (whole, cut)]
    assert found[0] == found[1]
    if isinstance(found[0], bytes) and encoding in ("gzip", "x-gzip") and content:
        assert found[0] == b"".join(_members(content))[:MOST_BYTES]


def _unpacked(encoding: str, chunks: Iterable[bytes]) -> bytes:
    answer = _answer(200, httpx.Headers({"content-encoding": encoding}), chunks)
    found = b""
    while len(found) < MOST_BYTES:
        try:
            piece = at_once(cast("_Stream", answer).__anext__())
        except StopAsyncIteration:
            break
        assert len(piece) <= MIB
        found += piece
    return found[:MOST_BYTES]


def _members(content: bytes) -> Iterator[bytes]:
    """As zlib alone unpacks it."""
    while content:
        member = zlib.decompressobj(zlib.MAX_WBITS | 32)
        yield member.decompress(content, MOST_BYTES)
        content = member.unused_data


def error(data: bytes) -> None:
    """Which archive; the status; Retry-After and Content-Type, a line each; the body: one line, without the login."""
    given = Given(data)
    archive, status = ARCHIVES[given.number() % len(ARCHIVES)], given.number(2) % 1000
    retry_after, kind, said = [*given.rest().split(b"\n", 2), b"", b""][:3]
    headers = httpx.Headers([(b"retry-after", retry_after), (b"content-type", kind)])
    said = said[:MAX_ERROR_BYTES].replace(PLACEHOLDER, SECRET.encode())
    told = Told(status, headers, said, "host/x", archive, 60.0, NOW, f"Bearer {SECRET}")
    assert 0.0 <= retry_after_seconds(headers["retry-after"], NOW) < 1e12
    fault = of_answer(told)
    fault = fault.error if isinstance(fault, Transient) else fault
    assert isinstance(fault, IdcfsError)
    assert SECRET not in str(fault)
    assert_short(str(fault))
    assert "\n" not in str(fault)
    assert len(str(fault)) < MAX_MESSAGE_CHARS + 300


class _Wire:
    """What a connection brings, whatever is asked; in place of trio's stream."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = pieces(data, size)

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return next(self._pieces, b"")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    @property
    def socket(self) -> _Wire:
        return self

    def is_readable(self) -> bool:
        return True


def response(data: bytes) -> None:
    """What is asked; how long pieces are; all that comes over each connection, HTTP or not."""
    given = Given(data)
    what, size, content = given.number() % 4, given.number() + 1, given.rest()
    with (
        patch.object(trio, "open_tcp_stream", _opener(content, size)),
        patch.object(httpx.AsyncHTTPTransport, "handle_async_request", _refuse),  # where a redirect leads elsewhere
    ):
        outcome(partial(trio.run, partial(_ask, what)), IdcfsError)


def _opener(content: bytes, size: int) -> object:
    async def open_tcp_stream(host: str, port: int) -> _Wire:
        await trio.lowlevel.checkpoint()
        assert (host, port) == ("host", 80)
        return _Wire(content, size)

    return open_tcp_stream


async def _refuse(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
    assert request.url.scheme in ("http", "https")
    raise httpx.ConnectError("there is no network")


class _Asked:
    study_uid, series_uid, instance_uid, size = "1.2", "1.2.3", "1.2.3.4", None


async def _ask(what: int) -> None:
    archive = ArchiveSettings("host", "http://host/dicom-web", single_part_first=what == 1)
    async with Transport(archive, SETTINGS, Stats()) as transport:
        server = DicomwebArchive(transport, archive)
        if what < 3:
            start, stop = ((0, None), (0, None), (4, 8))[what]
            async with server.fetch(_Asked(), start, stop) as opened:
                taken = 0
                async for chunk in opened:
                    taken += len(chunk)
                    if taken > MOST_BYTES:
                        break
        else:
            await server.search_instances("1.2", "1.2.3")

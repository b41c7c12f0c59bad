"""An answer is one when its body begins: an archive that sends headers alone is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import trio
from trio.testing import MockClock

from idcfs import errors
from idcfs.archive.circuit import FAILURES_IN_A_ROW
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.archive.scripted import DROP, Reply, body_of, http, raw, serving, transport_to


async def nothing() -> AsyncIterator[bytes]:
    await trio.sleep(1_000)
    yield b""


async def a_byte_late() -> AsyncIterator[bytes]:
    await trio.sleep(59)
    yield b"1"
    await trio.sleep(59)
    yield b"2"


def answering(chunks: Callable[[], AsyncIterator[bytes]]) -> Transport:
    wire = httpx.MockTransport(lambda _: httpx.Response(200, content=chunks()))
    return Transport(ArchiveSettings("mock", "http://mock"), TransportSettings(), Stats(), wire=wire)


async def test_bodies_that_never_begin_open_the_circuit(autojump_clock: MockClock) -> None:
    async with answering(nothing) as transport:
        for number in range(FAILURES_IN_A_ROW):
            assert transport.away is None
            began = trio.current_time()
            with pytest.raises(errors.DeadlinePassed):
                await body_of(transport, f"/{number}")
            assert trio.current_time() - began == 60
        assert isinstance(transport.away, errors.DeadlinePassed)


async def test_a_body_that_begins_late_is_an_answer_and_the_caller_watches_the_rest(autojump_clock: MockClock) -> None:
    async with answering(a_byte_late) as transport:
        for number in range(FAILURES_IN_A_ROW):
            assert await body_of(transport, f"/{number}") == b"12"
        assert transport.away is None


@pytest.mark.parametrize("before", [b"", b"12345"])
async def test_what_breaks_off_is_told_who_reads_however_early(before: bytes) -> None:
    cut = Reply([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + before], "close")
    async with serving(cut) as server, transport_to(server.url) as transport:
        async with transport.stream("/x", "*/*") as answer:
            if before:
                assert await anext(answer) == before
            with pytest.raises(errors.Truncated):
                await anext(answer)
        assert (transport.away, len(server.requests)) == (None, 1)


async def test_an_empty_body_is_a_whole_one() -> None:
    async with serving(http(200), raw("Content-Length: 3\r\n", b"abc"), DROP) as server:
        async with transport_to(server.url) as transport:
            assert await body_of(transport) == b""
            assert await body_of(transport) == b"abc"
        assert server.connections == 1


async def test_who_stops_waiting_for_the_first_byte_leaves_no_connection_behind() -> None:
    headers = Reply([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"], "hang")
    async with serving(headers, http(200, b"[1]")) as server, transport_to(server.url, max_connections=1) as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body_of, transport)
            while not server.requests:  # noqa: ASYNC110
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert await body_of(transport) == b"[1]"

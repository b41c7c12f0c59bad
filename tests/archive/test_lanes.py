"""Connections are reused, last one first, and none is kept that nobody needs."""

from __future__ import annotations

import httpx
import pytest
import trio
import trio.testing

from idcfs.archive.lanes import Lanes
from idcfs.archive.transport import Transport

from .scripted import http, raw, serving, transport_to


class Clients:
    """Makes clients and knows which of them are closed."""

    def __init__(self) -> None:
        self.made: list[httpx.AsyncClient] = []

    def build(self) -> httpx.AsyncClient:
        self.made.append(httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(200))))
        return self.made[-1]

    @property
    def closed(self) -> list[bool]:
        return [client.is_closed for client in self.made]


async def test_the_one_given_back_last_is_lent_first(autojump_clock: trio.testing.MockClock) -> None:
    clients = Clients()
    lanes = Lanes(3, 1.0, clients.build)
    lent = [await lanes.take() for _ in range(3)]
    for client in lent:
        lanes.give_back(client)
    assert await lanes.take() is lent[2]
    assert await lanes.take() is lent[1]
    assert clients.made == lent


async def test_no_more_are_lent_than_there_may_be(autojump_clock: trio.testing.MockClock) -> None:
    lanes = Lanes(1, 1.0, Clients().build)
    client = await lanes.take()
    with trio.move_on_after(1) as waiting:
        await lanes.take()
    assert waiting.cancelled_caught
    lanes.give_back(client)
    assert await lanes.take() is client  # the one who gave up waiting has not used up a place


async def test_what_nobody_needs_any_more_is_closed_bit_by_bit(autojump_clock: trio.testing.MockClock) -> None:
    clients = Clients()
    lanes = Lanes(4, 1.0, clients.build)
    for client in [await lanes.take() for _ in range(4)]:
        lanes.give_back(client)
        await trio.sleep(0.1)
    for closed in range(1, 4):
        await trio.sleep(0.9)
        lanes.give_back(await lanes.take())
        assert sum(clients.closed) == closed
    assert not clients.closed[3]  # it is in use
    await lanes.aclose()
    assert all(clients.closed)


async def test_a_client_that_cannot_be_made_uses_up_no_place() -> None:
    clients = Clients()
    builders = [clients.build]

    def build() -> httpx.AsyncClient:
        return builders.pop()() if builders else failing()

    def failing() -> httpx.AsyncClient:
        raise OSError(24, "Too many open files")

    lanes = Lanes(2, 1.0, build)
    client = await lanes.take()
    for _ in range(3):
        with pytest.raises(OSError, match="Too many"):
            await lanes.take()
    lanes.give_back(client)
    assert await lanes.take() is client


async def test_requests_at_once_have_a_connection_each_and_later_ones_none_of_their_own() -> None:
    async with serving(http(200, b"[]")) as server, transport_to(server.url, max_connections=3) as transport:
        for _ in range(4):
            async with trio.open_nursery() as nursery:
                for _ in range(9):
                    nursery.start_soon(transport.get_json, "/studies")
        assert (len(server.requests), server.connections) == (36, 3)


async def test_answers_dropped_half_way_leave_their_places_to_others() -> None:
    endless = raw("Content-Length: 100\r\n", b"x", then="hang")
    async with serving(endless) as server, transport_to(server.url, max_connections=2) as transport:
        for _ in range(5):
            with trio.move_on_after(0.05):
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(_hold, transport)
        with trio.fail_after(5):
            async with transport.stream("/a", "*/*"), transport.stream("/b", "*/*"):
                pass


async def _hold(transport: Transport) -> None:
    async with transport.stream("/studies", "*/*"):
        await trio.sleep_forever()

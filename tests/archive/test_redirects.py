"""Where an archive may not lead on to, with whatever login."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from idcfs import errors
from idcfs.archive.redirects import is_local
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats

OUTSIDE = ("https://archive.example/dicomWeb", "http://archive.example", "https://192.0.2.1:8443", "http://10.0.0.1")
LOCAL = (
    "169.254.169.254",  # of clouds' metadata servers
    "[fd00:ec2::254]",
    "[fd00:ec2::254%1]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "[fd20:ce::254%25eth0]",  # RFC 6874
    "168.63.129.16",
    "[::ffff:168.63.129.16]",
    "100.100.100.200",
    "1684301000",
    "[fd00:c1::a9fe:a9fe]",
    "[fe80::1]",
    "127.0.0.1:8042",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
)


@asynccontextmanager
async def redirecting(base: str, *places: str) -> AsyncIterator[tuple[Transport, list[str]]]:
    """A way to an archive that leads to each of these places in turn, and what was asked for."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if len(asked) > len(places):
            return httpx.Response(200, json=["there"])
        return httpx.Response(307, headers={"Location": places[len(asked) - 1]})

    archive, settings = ArchiveSettings("mock", base), TransportSettings(max_attempts=1)
    async with Transport(archive, settings, Stats(), wire=httpx.MockTransport(handler)) as transport:
        yield transport, asked


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("base", OUTSIDE)
async def test_nobody_outside_leads_to_this_machine(base: str, host: str) -> None:
    async with redirecting(base, f"{base.partition(':')[0]}://{host}/latest/meta-data") as (transport, asked):
        with pytest.raises(errors.Refused, match=r"redirects to \S+, which is for this machine alone"):
            await transport.get_json("/x")
    assert asked == [f"{base}/x"]


async def test_nor_by_way_of_another() -> None:
    places = ("https://other.example/", "https://127.0.0.1/")
    async with redirecting("https://archive.example", *places) as (transport, asked):
        with pytest.raises(errors.Refused, match="this machine alone"):
            await transport.get_json("/x")
    assert len(asked) == 2


@pytest.mark.parametrize("place", ["http://archive.example/x", "http://other.example/x"])
async def test_what_is_asked_for_safely_is_not_had_from_anybody(place: str) -> None:
    async with redirecting("https://archive.example", place) as (transport, asked):
        with pytest.raises(errors.Refused, match=r"redirects from https:// to http://"):
            await transport.get_json("/x")
    assert len(asked) == 1


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://archive.example/x", "unix:/run/docker.sock"])
async def test_what_is_no_http_is_not_asked(place: str) -> None:
    async with redirecting("https://archive.example", place) as (transport, asked):
        with pytest.raises(errors.Refused, match=r"redirects to \w+, which is not HTTP|names no other place"):
            await transport.get_json("/x")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("base", "place"),
    [
        ("http://archive.example", "https://archive.example/x"),
        ("https://archive.example", "https://other.example/x"),
        ("https://pacs.example", "https://10.0.0.1/x"),
        ("http://localhost:8042", "http://127.0.0.1:8042/x"),
        ("http://127.0.0.1", "http://[::1]/x"),
        ("http://127.0.0.1", "http://192.0.2.1/x"),
    ],
)
async def test_any_other_place_is_asked(base: str, place: str) -> None:
    async with redirecting(base, place) as (transport, asked):
        assert await transport.get_json("/x") == ["there"]
    assert asked == [f"{base}/x", place]


@pytest.mark.parametrize(
    "host", ["archive.example", "8.8.8.8", "10.1.2.3", "2001:db8::1", "localhost.example", "", "1.2"]
)
def test_what_is_not_local(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    ("place", "is_away"),
    [
        ("http://gone.example/x", False),
        ("http://archive.example:8042/x", False),
        ("/other", True),
        ("http://ARCHIVE.example:80/other", True),
    ],
)
async def test_another_server_that_cannot_be_reached_tells_nothing_of_the_archive(place: str, is_away: bool) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/one":
                return httpx.Response(307, headers={"Location": place})
            case "/another":
                return httpx.Response(200, json=["there"])
        raise httpx.ConnectError("refused")

    archive, settings = ArchiveSettings("mock", "http://archive.example"), TransportSettings(max_attempts=1)
    async with Transport(archive, settings, Stats(), wire=httpx.MockTransport(handler)) as transport:
        with pytest.raises(errors.Unreachable, match=r"^mock/one \(redirected to \S+\) cannot be reached: ") as caught:
            await transport.get_json("/one")
        assert isinstance(caught.value, errors.NoConnection) == (transport.away is not None) == is_away
        if not is_away:
            assert await transport.get_json("/another") == ["there"]

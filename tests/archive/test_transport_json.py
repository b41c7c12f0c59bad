"""Answers in JSON: compressed, without end, cut off, slow."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import trio

from idcfs import errors
from idcfs.archive.answer import _Inflater
from idcfs.settings import MIB
from idcfs.stats import Stats
from tests.archive.scripted import JSON_TYPE, OK, Reply, http, raw, serving, transport_to


async def test_json_and_its_request() -> None:
    async with serving(OK) as server, transport_to(server.url + "/root", stats := Stats()) as transport:
        assert await transport.get_json("/studies", {"limit": 3}) == [{"a": 1}]
    [head] = server.requests
    assert head.startswith("GET /root/studies?limit=3 HTTP/1.1\r\n")
    for line in ("Accept: application/dicom+json", "Accept-Encoding: gzip", "User-Agent: idcfs/"):
        assert f"\r\n{line}" in head
    assert (stats["requests"], stats["qido_requests"], stats["wado_requests"], stats["retries"]) == (1, 1, 0, 0)
    assert stats["bytes_from_archive"] == 10


@pytest.mark.parametrize("reply", [http(204), http(200, b""), http(200, b" \n")])
async def test_nothing_is_none(reply: Reply) -> None:
    async with serving(reply) as server, transport_to(server.url) as transport:
        assert await transport.get_json("/studies") == []


async def test_compressed_json_is_unpacked_and_counted_as_sent() -> None:
    packed = gzip.compress(json.dumps(["x" * 3_000_000]).encode())
    reply = http(200, packed, JSON_TYPE + "Content-Encoding: gzip\r\n")
    async with serving(reply) as server, transport_to(server.url, stats := Stats()) as transport:
        assert await transport.get_json("/studies") == ["x" * 3_000_000]
    assert stats["bytes_from_archive"] == len(packed)


async def test_json_compressed_in_several_members_is_whole() -> None:
    packed = b"".join(map(gzip.compress, [b"[1", b"", b", 2", b", 3]"]))
    async with (
        serving(http(200, packed, "Content-Encoding: gzip\r\n")) as server,
        transport_to(server.url) as transport,
    ):
        assert await transport.get_json("/studies") == [1, 2, 3]


def test_what_follows_a_member_is_not_kept_twice() -> None:
    inflater = _Inflater("gzip", "x")
    inflater.give(gzip.compress(bytes(MIB)) + gzip.compress(bytes(3 * MIB)))
    assert [len(inflater.take()) for _ in range(5)] == [MIB] * 4 + [0]
    inflater.finish()
    for _ in range(100):
        inflater.give(gzip.compress(b""))
        assert inflater.take() == b""
    assert not inflater._stream.unused_data


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_json_without_end_is_refused(encoding: str) -> None:
    zeros = gzip.compress(bytes(9 * MIB)) if encoding == "gzip" else bytes(MIB)
    endless = raw(f"Content-Encoding: {encoding}\r\nConnection: close\r\n", *[zeros] * 999)
    async with serving(endless) as server, transport_to(server.url, stats := Stats(), max_json_bytes=MIB) as transport:
        with trio.fail_after(10), pytest.raises(errors.Refused, match="more than 1,048,576 bytes"):
            await transport.get_json("/studies")
    assert len(server.requests) == 1
    assert stats["bytes_from_archive"] < 9 * MIB


BOMBS = [b"[" + b"{}," * (4 * MIB) + b"{}]", b"[" + b"[]," * (5 * MIB) + b"[]]", b"[" + b"1.5," * (9 * MIB) + b"2]"]


@pytest.mark.parametrize("bomb", BOMBS, ids=["objects", "lists", "numbers"])
async def test_json_that_would_fill_the_memory_is_refused(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idcfs.archive.dicomjson.json.loads", None)
    async with serving(http(200, bomb)) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Refused, match="more values than an answer can need"):
            await transport.get_json("/studies")
    assert len(server.requests) == 1


async def test_of_large_json_one_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps("x" * 5 * MIB).encode()
    at_once = most = 0
    parse = json.loads

    def loads(*args: Any, **kwargs: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        found = parse(*args, **kwargs)
        assert transport._large.locked()
        at_once -= 1
        return found

    monkeypatch.setattr("idcfs.archive.dicomjson.json.loads", loads)
    async with (
        serving(http(200, text)) as server,
        transport_to(server.url) as transport,
        trio.open_nursery() as nursery,
    ):
        for _ in range(4):
            nursery.start_soon(transport.get_json, "/studies")
    assert most == 1


async def test_large_json_does_not_stop_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"a": {"b": number}} for number in range(150_000)]
    body = json.dumps(items).encode()
    ticks = parsing = 0
    parse = json.loads

    def loads(*args: Any, **kwargs: Any) -> Any:
        nonlocal parsing
        before = ticks
        found = parse(*args, **kwargs)
        parsing += ticks - before
        return found

    monkeypatch.setattr("idcfs.archive.dicomjson.json.loads", loads)
    async with (
        serving(http(200, body)) as server,
        transport_to(server.url) as transport,
        trio.open_nursery() as nursery,
    ):

        async def tick() -> None:
            nonlocal ticks
            while True:
                await trio.sleep(0.001)
                ticks += 1

        nursery.start_soon(tick)
        assert await transport.get_json("/studies") == items
        nursery.cancel_scope.cancel()
    assert parsing > 2


async def test_compressed_json_that_ends_early_is_truncated() -> None:
    reply = http(200, gzip.compress(b"[1, 2, 3]" * 99)[:-9], "Content-Encoding: gzip\r\n")
    async with serving(reply) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Truncated):
            await transport.get_json("/studies")


@pytest.mark.parametrize("body", [b"<html>", b"[1, 2", b"\xff\xfe", b"[" * 100_000])
async def test_what_is_not_json_is_refused(body: bytes) -> None:
    async with serving(http(200, body)) as server, transport_to(server.url) as transport:
        with pytest.raises(errors.Refused):
            await transport.get_json("/studies")


async def test_json_that_breaks_off_is_asked_for_again() -> None:
    async with serving(raw("Content-Length: 9\r\n", b"[1"), OK) as server, transport_to(server.url) as transport:
        assert await transport.get_json("/studies") == [{"a": 1}]


async def test_json_that_drips_is_cut_off() -> None:
    drip = raw("Content-Length: 1000\r\n", *[b"x"] * 1000, pause_seconds=0.02)
    async with serving(drip) as server, transport_to(server.url, timeout_seconds=0.2) as transport:
        with trio.fail_after(5), pytest.raises(errors.DeadlinePassed, match="no progress"):
            await transport.get_json("/x")


async def test_slow_json_that_makes_progress_may_take_longer_than_the_timeout() -> None:
    text = json.dumps("x" * 800_000).encode()
    chunks = [text[start : start + 80_000] for start in range(0, len(text), 80_000)]
    slow = raw(f"Content-Length: {len(text)}\r\n", *chunks, pause_seconds=0.1)
    async with serving(slow) as server, transport_to(server.url, timeout_seconds=0.5) as transport:
        started = trio.current_time()
        assert await transport.get_json("/x") == "x" * 800_000
        assert trio.current_time() - started > 0.5

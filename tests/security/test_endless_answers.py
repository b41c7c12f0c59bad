"""Answers that never come to their point, and servers that are not who they say: an error in time, whatever comes."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trustme

from idcfs.errors import IdcfsError, NoConnection
from tests.archive.scripted import OK, Reply, serving, transport_to

MANY = 20_000
"""Repetitions: more than any bound lets in."""
LONGEST_TURN_SECONDS = 3.0
"""Far more than a bounded answer takes, and a machine that others use as well; what is not bounded takes longer."""
ANSWER = b"HTTP/1.1 200 OK\r\n"
CHUNKED = ANSWER + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "status line": [b"HTTP/1.1 200 ", *[b"O" * 1000] * MANY],
    "headers": [ANSWER, *[b"X-Header: y\r\n" * 100] * MANY],
    "one header": [ANSWER + b"X: ", *[b"y" * 1000] * MANY],
    "informational answers": [b"HTTP/1.1 103 Early Hints\r\nLink: </y>\r\n\r\n" * 20] * MANY,
    "chunk extension": [CHUNKED + b"5;", *[b"x" * 1000] * MANY],
    "chunk size": [CHUNKED, *[b"0" * 1000] * MANY],
    "trailers": [CHUNKED + b"2\r\n[]\r\n0\r\n", *[b"X: y\r\n" * 100] * MANY],
    "single bytes": [CHUNKED + b"1\r\n[\r\n", *[b"1\r\n[\r\n" * 100] * MANY],
    "silence": [ANSWER],
}


@pytest.mark.parametrize("chunks", ENDLESS.values(), ids=ENDLESS)
async def test_what_has_no_end_is_an_error_and_others_have_their_turns(chunks: list[bytes]) -> None:
    turns = [trio.current_time()]

    async def take_turns() -> None:
        while True:
            await trio.sleep(0.01)
            turns.append(trio.current_time())

    async with (
        serving(Reply(chunks, "hang")) as server,
        transport_to(server.url, timeout_seconds=0.5, max_attempts=1, max_json_bytes=100_000) as transport,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(take_turns)
        with trio.fail_after(20), pytest.raises(IdcfsError):
            await transport.get_json("/x")
        turns.append(trio.current_time())
        nursery.cancel_scope.cancel()
    assert max(after - before for before, after in pairwise(turns)) < LONGEST_TURN_SECONDS


@pytest.mark.parametrize(
    ("name", "valid_days", "said"),
    [
        ("archive.example", (-1, 1), "doesn't match|not valid for"),
        ("127.0.0.1", (-2, -1), "expired"),
        ("127.0.0.1", (1, 2), "not yet valid"),
    ],
    ids=["another's name", "expired", "not yet valid"],
)
async def test_a_certificate_that_is_not_the_servers_own_or_not_of_today_is_refused(
    name: str, valid_days: tuple[int, int], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    begin, end = (now + timedelta(days=days) for days in valid_days)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_before=begin, not_after=end).configure_cert(tls)
    async with serving(OK, tls=tls) as server, transport_to(server.url) as transport:
        with pytest.raises(NoConnection, match=f"cannot be reached safely: .*({said})"):
            await transport.get_json("/x")
    assert server.requests == []

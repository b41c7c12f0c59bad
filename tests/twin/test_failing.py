"""The twin itself: its refusals, its damage and its delays are those that were asked for."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.twin.asking import SINGLE, SLICES, Instance, get, parts, series_of, uids
from tests.twin.client import Twin
from tests.waiting import eventually

# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 404, 410])
def test_missing(client: httpx.Client, twin: Twin, ct: Instance, status: int) -> None:
    twin.set(missing=[ct[0].rpartition("/")[2]], missing_status=status)
    assert get(client, ct[0]).status_code == status
    assert len(uids(client.get(series_of(ct) + "/instances"))) == SLICES


def test_failures_in_turn(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(fail_next=[503, 0, 429], retry_after="2", fail_body="array")
    responses = [get(client, ct[0]) for _ in range(4)]
    assert [response.status_code for response in responses] == [503, 200, 429, 200]
    assert responses[0].headers["retry-after"] == "2"
    assert responses[0].json()[0]["error"]["code"] == 503
    twin.set(fail_always=500, fail_body="empty")
    assert (get(client, ct[0]).status_code, get(client, ct[0]).content) == (500, b"")


def test_knobs_for_some_paths_only(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(match=ct[0], fail_always=403)
    assert get(client, ct[0]).status_code == 403
    assert client.get("/studies").status_code == 200


def test_tokens_and_quota(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(bearer_tokens=["good"])
    assert get(client, ct[0]).status_code == 401
    assert get(client, ct[0], Authorization="Bearer good").status_code == 200
    twin.set(bearer_tokens=[], quota_bytes=len(ct[1]) + 1)
    assert [get(client, ct[0], SINGLE).status_code for _ in range(3)] == [200, 200, 429]
    refused = get(client, ct[0])
    assert refused.status_code == 429
    assert refused.headers["content-type"].startswith("text/html")
    twin.set(quota_bytes=None)
    usage = httpx.get(f"{twin.host_url}/quota_usage", trust_env=False).json()
    assert usage["bytes_used"] >= 0


def test_a_platform_caps_bodies(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(max_response_bytes=5_000)
    assert get(client, ct[0]).status_code == 500
    twin.set(max_response_action="cut")
    with pytest.raises(httpx.RemoteProtocolError, match="received 5000 bytes"):
        get(client, ct[0])


def test_connections_that_die(client: httpx.Client, twin: Twin) -> None:
    twin.set(refuse_next=2)
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            client.get("/studies")
    assert client.get("/studies").status_code == 200
    twin.set(keepalive_seconds=0.1)
    client.get("/studies")
    time.sleep(0.4)
    assert twin.counters()["connections_open"] == 0


# -- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_bodies_cut_by_the_connection(
    client: httpx.Client, twin: Twin, ct: Instance, framing: str, ending: str
) -> None:
    twin.set(truncate_after_bytes=3_000, truncate_ending=ending, framing=framing)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        get(client, ct[0])


def test_bodies_cut_where_framing_does_not_tell(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(truncate_after_bytes=3_000, framing="close")
    assert len(get(client, ct[0]).content) == 3_000
    twin.set(truncate_ending="clean", framing="length")
    assert len(get(client, ct[0]).content) == 3_000
    twin.set(truncate_ending="boundary")
    (part,) = parts(get(client, ct[0]))
    assert ct[1].startswith(part)
    assert 2_000 < len(part) < 3_000


@pytest.mark.parametrize("corrupt", ["other_instance", "flip", "zero_preamble", "html", "empty"])
def test_corruption(client: httpx.Client, twin: Twin, ct: Instance, files: dict[str, Path], corrupt: str) -> None:
    twin.set(corrupt=corrupt)
    response = get(client, ct[0], SINGLE)
    assert response.status_code == 200
    changed = sum(a != b for a, b in zip(response.content, ct[1], strict=False))
    expected = {
        "other_instance": response.content in [path.read_bytes() for path in files.values()] and changed > 0,
        "flip": changed == 1 and response.content[1000] == 255 - ct[1][1000],
        "zero_preamble": response.content[128:] == ct[1][128:] and response.content[:128] == bytes(128),
        "html": response.headers["content-type"].startswith("text/html"),
        "empty": response.content == b"",
    }
    assert expected[corrupt]


# -- time ---------------------------------------------------------------------------------------------------------


def test_latency_and_throttle(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(latency_seconds=0.2)
    began = time.monotonic()
    client.get("/studies")
    assert time.monotonic() - began >= 0.2
    twin.set(latency_seconds=0, bytes_per_second=len(ct[1]) * 4)
    began = time.monotonic()
    assert get(client, ct[0], SINGLE).content == ct[1]
    assert time.monotonic() - began > 0.15


def test_stall_and_drip(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    for knob in ("stall_after_bytes", "drip_after_bytes"):
        twin.reset()
        twin.set(**{knob: 2_000})
        received: list[bytes] = []
        with (
            client.stream("GET", ct[0], headers={"Accept": SINGLE}, timeout=0.5) as response,
            pytest.raises(httpx.ReadTimeout),
        ):
            received.extend(response.iter_raw())
        assert b"".join(received) == ct[1][:2_000]
        assert eventually(lambda: twin.counters()["aborted"] == 1)

"""The knobs by which the twin misleads and refuses: lengths, ranges, redirects, quotas and buckets."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pydicom
import pytest

from tests.data import ct_series
from tests.data.buckets import object_key, stored_series
from tests.twin.asking import SINGLE, STAR
from tests.twin.client import Twin
from tests.waiting import eventually

S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return ct_series(tmp_path_factory.mktemp("knobs") / "ct", 3, 64)


@pytest.fixture(scope="module")
def module_twin(files: list[Path]) -> Iterator[Twin]:
    with Twin(data=files[0].parent) as twin:
        yield twin


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10, trust_env=False, headers={"Accept": SINGLE, "Accept-Encoding": "identity"}) as client:
        yield client


@pytest.fixture
def content(files: list[Path]) -> bytes:
    return files[0].read_bytes()


@pytest.fixture
def instance(twin: Twin, files: list[Path]) -> str:
    """URL of the first slice."""
    ((series, _),) = stored_series(files[0].parent)
    return f"{twin.url}/studies/{series.study_uid}/series/{series.series_uid}/instances/{files[0].stem}"


@pytest.fixture
def stored(twin: Twin, files: list[Path]) -> str:
    """URL of the first slice in the bucket."""
    ((series, _),) = stored_series(files[0].parent)
    return f"{twin.bucket_url()}/{object_key(series, files[0].stem)}"


@pytest.fixture(params=["instance", "stored"])
def url(request: pytest.FixtureRequest) -> str:
    """The first slice, from the archive and from the bucket."""
    found: str = request.getfixturevalue(request.param)
    return found


def test_a_length_that_is_too_large(twin: Twin, client: httpx.Client, url: str, content: bytes) -> None:
    twin.set(length_error=10)
    with pytest.raises(httpx.RemoteProtocolError, match=f"received {len(content)} bytes, expected {len(content) + 10}"):
        client.get(url)


def test_a_length_that_is_too_small(twin: Twin, url: str, content: bytes) -> None:
    twin.set(length_error=-10)
    path = url.removeprefix(twin.host_url)
    with socket.create_connection(("127.0.0.1", twin.port), timeout=10) as raw, raw.makefile("rb") as answer:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: twin\r\nAccept: {SINGLE}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = answer.read().partition(b"\r\n\r\n")
    assert f"content-length: {len(content) - 10}".encode() in head
    assert body == content


def test_multipart_bodies_that_mislead(twin: Twin, client: httpx.Client, instance: str, content: bytes) -> None:
    twin.set(part_length_error=7)
    assert f"Content-Length: {len(content) + 7}".encode() in client.get(instance, headers={"Accept": STAR}).content
    twin.set(part_length_error=0, closing_boundary=False)
    assert client.get(instance, headers={"Accept": STAR}).content.endswith(content)


@pytest.mark.parametrize(
    ("style", "status", "told", "start", "stop"),
    [
        ("right", 206, "bytes 100-199/{size}", 100, 200),
        ("shifted", 206, "bytes 99-199/{size}", 99, 200),
        ("short", 206, "bytes 100-149/{size}", 100, 150),
        ("resized", 206, "bytes 100-199/{more}", 100, 200),
        ("bare", 206, None, 0, None),
        ("ignored", 200, None, 0, None),
    ],
)
def test_ranges_that_mislead(
    twin: Twin,
    client: httpx.Client,
    url: str,
    content: bytes,
    style: str,
    status: int,
    told: str | None,
    start: int,
    stop: int | None,
) -> None:
    twin.set(ranges=True, range_style=style)
    answer = client.get(url, headers={"Range": "bytes=100-199"})
    assert (answer.status_code, answer.content) == (status, content[start:stop])
    label = told and told.format(size=len(content), more=len(content) + 1)
    assert answer.headers.get("content-range") == label


def test_ranges_that_slip_from_some_byte_on(twin: Twin, client: httpx.Client, url: str, content: bytes) -> None:
    twin.set(ranges=True, range_style="slipped", slip_offset=100)
    for start, brought in ((99, 99), (100, 93), (150, 143)):
        answer = client.get(url, headers={"Range": f"bytes={start}-199"})
        assert answer.headers["content-range"] == f"bytes {start}-199/{len(content)}"
        assert answer.content == content[brought : brought + 200 - start]


def test_206_unasked(twin: Twin, client: httpx.Client, url: str, content: bytes) -> None:
    twin.set(unasked_206="bare")
    answer = client.get(url)
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (206, content, None)
    twin.set(unasked_206="half")
    answer = client.get(url)
    half = len(content) // 2
    assert (answer.status_code, answer.content) == (206, content[:half])
    assert answer.headers["content-range"] == f"bytes 0-{half - 1}/{len(content)}"


@pytest.mark.parametrize("corrupt", ["flip", "other_instance", "html", "empty", "transcoded"])
def test_damage_is_the_same_in_a_range(
    twin: Twin, client: httpx.Client, url: str, content: bytes, corrupt: str
) -> None:
    twin.set(ranges=True, corrupt=corrupt, corrupt_offset=150)
    whole, middle = client.get(url).content, client.get(url, headers={"Range": "bytes=100-199"}).content
    assert whole != content
    assert middle == (whole if corrupt in ("html", "empty") else whole[100:200])
    if corrupt == "transcoded":
        header, original = pydicom.dcmread(io.BytesIO(whole)), pydicom.dcmread(io.BytesIO(content))
        assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
        assert header.PixelData == original.PixelData


def test_bodies_that_end_at_as_many_tenths_as_their_number(
    twin: Twin, client: httpx.Client, url: str, content: bytes
) -> None:
    twin.set(truncate_tenths=True, truncate_ending="clean")
    assert client.get(url).content == content[: len(content) // 10]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_connections_that_end_before_the_first_byte(twin: Twin, client: httpx.Client, url: str, how: str) -> None:
    twin.set(refuse_always=how)
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError if how == "close" else httpx.ReadError):
            client.get(url)


def test_connections_end_in_mid_answer_when_they_are_told_to(
    twin: Twin, client: httpx.Client, url: str, content: bytes
) -> None:
    twin.set(stall_after_bytes=1_000)
    with client.stream("GET", url) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == content[:1_000]
        twin.hang_up()
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)
    twin.set(stall_after_bytes=None)
    assert client.get(url).content == content


def test_a_silent_archive_notices_that_nobody_waits(twin: Twin, client: httpx.Client, url: str) -> None:
    twin.set(latency_seconds=60)
    with pytest.raises(httpx.ReadTimeout):
        client.get(url, timeout=0.2)
    twin.set(latency_seconds=0)
    assert eventually(lambda: twin.counters()["aborted"] > 0)
    assert twin.counters()["in_flight"] == 0


def test_redirects_to_another_host_and_in_circles(twin: Twin, client: httpx.Client, url: str, content: bytes) -> None:
    here, there = twin.host_url, twin.host_url.replace("127.0.0.1", "localhost")
    twin.set(redirect=307, redirect_to=there)
    answer = client.get(url, follow_redirects=True)
    assert (answer.content, str(answer.url)) == (content, url.replace(here, there) + "?_redirected=1")
    twin.set(redirect_again=True, redirect_to="")
    with pytest.raises(httpx.TooManyRedirects):
        client.get(url, follow_redirects=True)


def test_a_quota_that_ends_in_mid_file(twin: Twin, client: httpx.Client, url: str, content: bytes) -> None:
    twin.set(quota_bytes=len(content) + 100, quota_cuts=True)
    assert client.get(url).content == content
    with pytest.raises(httpx.RemoteProtocolError, match="received 100 bytes"):
        client.get(url)
    assert client.get(url).status_code == 429


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (503, "SlowDown"), (500, "InternalError")])
def test_a_bucket_refuses_in_xml(twin: Twin, client: httpx.Client, stored: str, status: int, code: str) -> None:
    twin.set(match="/bucket/", fail_always=status, fail_body="xml")
    answer = client.get(stored)
    assert (answer.status_code, ElementTree.fromstring(answer.content).findtext("Code")) == (status, code)


def test_objects_that_are_gone_or_not_measured(twin: Twin, client: httpx.Client, stored: str, content: bytes) -> None:
    twin.set(match=".dcm", missing=[stored.rpartition("/")[2].removesuffix(".dcm")])
    answer = client.get(stored)
    assert (answer.status_code, ElementTree.fromstring(answer.content).findtext("Code")) == (404, "NoSuchKey")
    twin.set(missing=[], framing="chunked")
    answer = client.get(stored)
    assert (answer.headers["transfer-encoding"], answer.content) == ("chunked", content)


def test_listings_that_mislead(twin: Twin, client: httpx.Client, stored: str, files: list[Path]) -> None:
    folder = stored.split("/")[-2]
    sizes = [path.stat().st_size for path in files]

    def listing(**knobs: object) -> ElementTree.Element:
        twin.reset()
        twin.set(match="list-type", **knobs)
        answer = client.get(twin.bucket_url(), params={"list-type": "2", "prefix": f"{folder}/"} | token)
        return ElementTree.fromstring(answer.content)

    def told(page: ElementTree.Element) -> list[int]:
        return [int(element.text or "") for element in page.iter(f"{S3}Size")]

    token: dict[str, str] = {}
    assert told(listing()) == [0, *sizes]
    assert told(listing(listing_style="wrong_sizes")) == [0, *(size + 1 for size in sizes)]
    assert told(listing(listing_style="lacking")) == [0, *sizes[:-1]]
    assert all(
        key.text and key.text.startswith("other/") for key in listing(listing_style="other_keys").iter(f"{S3}Key")
    )
    page = listing(listing_style="no_token")
    assert (page.findtext(f"{S3}IsTruncated"), page.findtext(f"{S3}NextContinuationToken")) == ("true", None)
    page = listing(listing_page_keys=2)
    assert len(told(page)) == 2
    token["continuation-token"] = page.findtext(f"{S3}NextContinuationToken", "")
    assert told(listing(listing_page_keys=2)) == sizes[1:]
    assert told(listing(listing_style="loop")) == [0, *sizes]
    with pytest.raises(ElementTree.ParseError):
        listing(truncate_after_bytes=300, truncate_ending="clean")

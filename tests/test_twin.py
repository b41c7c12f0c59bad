"""The twin itself: every knob does what it says, and what it serves is what its formula or its files hold."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pydicom
import pytest

from tests.data import ct_series, multiframe, sample_archive, write_index
from tests.twin.accept import parse_accept
from tests.twin.client import Twin
from tests.twin.knobs import Knobs, parse_knobs

STAR = 'multipart/related; type="application/dicom"; transfer-syntax=*'
SINGLE = "application/dicom; transfer-syntax=*"
SLICES = 12

Instance = tuple[str, bytes]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CT series of 12 slices and one RLE multi-frame instance, by SOPInstanceUID."""
    root = tmp_path_factory.mktemp("twin") / "files"
    paths = [*ct_series(root / "ct", SLICES, 64), multiframe(root / "rle", 4, 64, encapsulated=True, study="frames")]
    return {path.stem: path for path in paths}


@pytest.fixture(scope="module")
def module_twin(files: dict[str, Path]) -> Iterator[Twin]:
    root = next(iter(files.values())).parents[1]
    with Twin(data=root) as twin:
        yield twin


@pytest.fixture
def twin(module_twin: Twin) -> Twin:
    module_twin.reset()
    return module_twin


@pytest.fixture
def client(twin: Twin) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=twin.url, timeout=10, trust_env=False) as client:
        yield client


@pytest.fixture
def ct(files: dict[str, Path]) -> Instance:
    """URL path below the root, and bytes, of the first CT slice."""
    return _instance(next(iter(files.values())))


@pytest.fixture
def rle(files: dict[str, Path]) -> Instance:
    return _instance(list(files.values())[-1])


def _instance(path: Path) -> Instance:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    series = f"/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
    return f"{series}/instances/{header.SOPInstanceUID}", path.read_bytes()


def _series_of(instance: Instance) -> str:
    return instance[0].partition("/instances/")[0]


def _get(client: httpx.Client, path: str, accept: str = STAR, **headers: str) -> httpx.Response:
    return client.get(path, headers={"Accept": accept, "Accept-Encoding": "identity"} | headers)


def _parts(response: httpx.Response) -> list[bytes]:
    """The parts of a multipart body, by the standard library's parser: a second opinion."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    # The email parser reads text: a line break of its own must not be taken for a boundary's.
    boundary = response.headers["content-type"].partition('boundary="')[2].rstrip('"').encode()
    assert BytesParser().parsebytes(head).get_boundary() == boundary.decode()
    assert response.content.endswith((b"--" + boundary + b"--\r\n", b"--" + boundary + b"--"))
    sections = (b"\r\n" + response.content).split(b"\r\n--" + boundary)[1:-1]
    return [section.partition(b"\r\n\r\n")[2] for section in sections]


def _uids(response: httpx.Response, tag: str = "00080018") -> list[str]:
    assert response.status_code == 200, response.text
    return [item[tag]["Value"][0] for item in response.json()]


# -- QIDO-RS ------------------------------------------------------------------------------------------------------


def test_qido_lists_every_level(client: httpx.Client, ct: Instance, files: dict[str, Path]) -> None:
    assert len(_uids(client.get("/studies"), "0020000D")) == 2
    series = client.get("/series", params={"PatientID": "TWIN-CT-0001", "limit": 5}).json()
    assert [item["00201209"]["Value"] for item in series] == [[SLICES], [1]]
    assert set(_uids(client.get("/instances"))) == set(files)
    instances = client.get(_series_of(ct) + "/instances").json()
    assert len(instances) == SLICES
    assert instances[0]["00280010"]["Value"] == [64]
    assert instances[0]["00080016"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]


@pytest.mark.parametrize("name", ["SOPInstanceUID", "00080018"])
def test_qido_filters_by_keyword_and_by_tag(client: httpx.Client, ct: Instance, name: str) -> None:
    uid = ct[0].rpartition("/")[2]
    assert _uids(client.get("/instances", params={name: uid})) == [uid]


def test_qido_pages(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    url = _series_of(ct) + "/instances"
    everything = _uids(client.get(url))
    paged = [uid for offset in (0, 5, 10) for uid in _uids(client.get(url, params={"limit": 5, "offset": offset}))]
    assert paged == everything
    twin.set(qido_default_limit=3, qido_max_limit=4)
    assert len(_uids(client.get(url))) == 3
    assert len(_uids(client.get(url, params={"limit": 9}))) == 4
    twin.set(qido_over_limit="400")
    assert client.get(url, params={"limit": 9}).status_code == 400
    twin.set(qido_ignore_offset=True)
    assert _uids(client.get(url, params={"limit": 3, "offset": 3})) == everything[:3]


def test_qido_order_and_duplicates(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    url = _series_of(ct) + "/instances"
    stored = _uids(client.get(url))
    twin.set(qido_order="shuffled")
    shuffled = _uids(client.get(url))
    assert shuffled != stored
    assert _uids(client.get(url, params={"offset": 4})) == shuffled[4:]
    twin.set(qido_order="sorted")
    assert _uids(client.get(url)) == sorted(stored)
    twin.set(qido_duplicates=4)
    assert len(_uids(client.get(url))) == SLICES + SLICES // 4


def test_qido_empty_answers(client: httpx.Client, twin: Twin) -> None:
    nobody = {"PatientID": "nobody"}
    assert client.get("/studies", params=nobody).status_code == 204
    twin.set(qido_empty="[]")
    assert client.get("/studies", params=nobody).json() == []
    twin.set(qido_empty="empty")
    empty = client.get("/studies", params=nobody)
    assert (empty.status_code, empty.content) == (200, b"")


def test_qido_oddities(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    assert client.get("/studies", params={"SOPClassUID": "1.2"}).status_code == 400
    twin.set(qido_unknown_filter="ignore", qido_dict=True, qido_hidden=[ct[0].rpartition("/")[2]])
    assert len(client.get("/studies", params={"SOPClassUID": "1.2"}).json()) == 2
    assert isinstance(client.get("/studies", params={"limit": 1}).json(), dict)
    assert len(_uids(client.get(_series_of(ct) + "/instances"))) == SLICES - 1
    twin.set(qido_ignore_filters=True, qido_dict=False)
    assert len(client.get("/studies", params={"PatientID": "nobody"}).json()) == 2


# -- forms --------------------------------------------------------------------------------------------------------


def test_an_instance_comes_byte_for_byte_in_both_forms(client: httpx.Client, ct: Instance) -> None:
    multipart = _get(client, ct[0])
    assert _parts(multipart) == [ct[1]]
    assert int(multipart.headers["content-length"]) == len(multipart.content)
    single = _get(client, ct[0], SINGLE)
    assert single.content == ct[1]
    assert single.headers["content-type"].startswith("application/dicom;")


def test_series_and_study_come_whole(client: httpx.Client, ct: Instance, files: dict[str, Path]) -> None:
    wanted = sorted(path.read_bytes() for path in list(files.values())[:SLICES])
    for url in (_series_of(ct), _series_of(ct).partition("/series/")[0]):
        response = _get(client, url)
        assert sorted(_parts(response)) == wanted
        assert response.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    ("knobs", "accept", "status"),
    [
        ({"single_part": False}, SINGLE, 406),
        ({"multipart": False}, STAR, 406),
        ({"multipart": False, "refused_form_status": 400}, STAR, 400),
        ({"single_first_status": 400}, f"{SINGLE}, {STAR}", 400),
        ({"single_first_status": 400}, f"{STAR}, {SINGLE}", 200),
        ({"strict_quotes": True}, STAR, 200),
        ({"strict_quotes": True}, STAR.replace("=*", '="*"'), 406),
        ({"strict_quotes": True}, STAR.replace('"', ""), 406),
        ({"profile": "orthanc"}, SINGLE, 400),
        ({}, "image/png", 406),
    ],
)
def test_accept(
    client: httpx.Client, twin: Twin, ct: Instance, knobs: dict[str, Any], accept: str, status: int
) -> None:
    twin.set(**knobs)
    assert _get(client, ct[0], accept).status_code == status


def test_how_boundaries_and_lengths_are_told(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(boundary="unquoted", part_length=False)
    response = _get(client, ct[0])
    assert 'boundary="' not in response.headers["content-type"]
    assert b"Content-Length" not in response.content[:300]
    twin.set(boundary="missing", multipart_preamble=True)
    response = _get(client, ct[0])
    assert "boundary" not in response.headers["content-type"]
    assert response.content.startswith(b"This is")
    assert len(response.content) == int(response.headers["content-length"])


def test_framings(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(framing="chunked")
    response = _get(client, ct[0])
    assert response.headers["transfer-encoding"] == "chunked"
    twin.set(framing="close", series_framing="close")
    for url in (ct[0], _series_of(ct)):
        response = _get(client, url)
        assert not {"content-length", "transfer-encoding"} & set(response.headers)
        assert ct[1] in _parts(response)


def test_ranges(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    assert _get(client, ct[0], SINGLE, Range="bytes=10-19").status_code == 200
    twin.set(ranges=True, etag=True, head=True)
    response = _get(client, ct[0], SINGLE, Range="bytes=10-19")
    assert (response.status_code, response.content) == (206, ct[1][10:20])
    assert response.headers["content-range"] == f"bytes 10-19/{len(ct[1])}"
    assert response.headers["etag"]
    assert _get(client, ct[0], SINGLE, Range="bytes=-7").content == ct[1][-7:]
    assert _get(client, ct[0], SINGLE, Range=f"bytes={len(ct[1])}-").status_code == 416
    head = client.head(ct[0], headers={"Accept": SINGLE})
    assert (int(head.headers["content-length"]), head.content) == (len(ct[1]), b"")
    twin.set(range_style="shifted")
    assert _get(client, ct[0], SINGLE, Range="bytes=10-19").headers["content-range"].startswith("bytes 9-")
    twin.set(range_style="bare")
    response = _get(client, ct[0], SINGLE, Range="bytes=10-19")
    assert (response.status_code, response.content, "content-range" in response.headers) == (206, ct[1], False)


def test_head_gzip_and_redirect(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    assert client.head(ct[0]).status_code == 404
    twin.set(gzip="asked")
    assert "content-encoding" not in _get(client, ct[0]).headers
    response = client.get(ct[0], headers={"Accept": SINGLE, "Accept-Encoding": "gzip"})
    assert (response.headers["content-encoding"], response.content) == ("gzip", ct[1])
    twin.set(gzip="always", redirect=302)
    assert _get(client, ct[0]).status_code == 302
    followed = client.get(ct[0], headers={"Accept": SINGLE}, follow_redirects=True)
    assert (followed.status_code, followed.content) == (200, ct[1])


@pytest.mark.parametrize("knobs", [{}, {"strip_star": True}])
def test_transcoding(client: httpx.Client, twin: Twin, rle: Instance, knobs: dict[str, Any]) -> None:
    assert _parts(_get(client, rle[0])) == [rle[1]]
    twin.set(**knobs)
    accept = STAR if knobs else STAR.partition("; transfer-syntax")[0]
    (body,) = _parts(_get(client, rle[0], accept))
    header = pydicom.dcmread(io.BytesIO(body))
    assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert header.SOPInstanceUID == rle[0].rpartition("/")[2]
    twin.set(strip_star=False, transcode_without_star=False)
    assert _parts(_get(client, rle[0], STAR.partition("; transfer-syntax")[0])) == [rle[1]]


def test_metadata_and_frames(client: httpx.Client, rle: Instance, ct: Instance) -> None:
    (item,) = client.get(rle[0] + "/metadata").json()
    assert item["7FE00010"]["BulkDataURI"].startswith("http://127.0.0.1")
    assert len(client.get(_series_of(ct) + "/metadata").json()) == SLICES
    octets = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
    frames = _parts(_get(client, rle[0] + "/frames/1,3", octets))
    encapsulated = pydicom.dcmread(io.BytesIO(rle[1])).PixelData
    assert len(frames) == 2
    assert all(frame in encapsulated for frame in frames)
    assert _parts(_get(client, ct[0] + "/frames/1", octets)) == [pydicom.dcmread(io.BytesIO(ct[1])).PixelData]
    assert _get(client, ct[0] + "/frames/2", octets).status_code == 404
    assert client.get(ct[0] + "/rendered").status_code == 501


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 404, 410])
def test_missing(client: httpx.Client, twin: Twin, ct: Instance, status: int) -> None:
    twin.set(missing=[ct[0].rpartition("/")[2]], missing_status=status)
    assert _get(client, ct[0]).status_code == status
    assert len(_uids(client.get(_series_of(ct) + "/instances"))) == SLICES


def test_failures_in_turn(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(fail_next=[503, 0, 429], retry_after="2", fail_body="array")
    responses = [_get(client, ct[0]) for _ in range(4)]
    assert [response.status_code for response in responses] == [503, 200, 429, 200]
    assert responses[0].headers["retry-after"] == "2"
    assert responses[0].json()[0]["error"]["code"] == 503
    twin.set(fail_always=500, fail_body="empty")
    assert (_get(client, ct[0]).status_code, _get(client, ct[0]).content) == (500, b"")


def test_knobs_for_some_paths_only(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(match=ct[0], fail_always=403)
    assert _get(client, ct[0]).status_code == 403
    assert client.get("/studies").status_code == 200


def test_tokens_and_quota(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(bearer_tokens=["good"])
    assert _get(client, ct[0]).status_code == 401
    assert _get(client, ct[0], Authorization="Bearer good").status_code == 200
    twin.set(bearer_tokens=[], quota_bytes=len(ct[1]) + 1)
    assert [_get(client, ct[0], SINGLE).status_code for _ in range(3)] == [200, 200, 429]
    refused = _get(client, ct[0])
    assert refused.status_code == 429
    assert refused.headers["content-type"].startswith("text/html")
    twin.set(quota_bytes=None)
    usage = httpx.get(f"{twin.host_url}/quota_usage", trust_env=False).json()
    assert usage["bytes_used"] >= 0


def test_a_platform_caps_bodies(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(max_response_bytes=5_000)
    assert _get(client, ct[0]).status_code == 500
    twin.set(max_response_action="cut")
    with pytest.raises(httpx.RemoteProtocolError, match="received 5000 bytes"):
        _get(client, ct[0])


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
        _get(client, ct[0])


def test_bodies_cut_where_framing_does_not_tell(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(truncate_after_bytes=3_000, framing="close")
    assert len(_get(client, ct[0]).content) == 3_000
    twin.set(truncate_ending="clean", framing="length")
    assert len(_get(client, ct[0]).content) == 3_000
    twin.set(truncate_ending="boundary")
    (part,) = _parts(_get(client, ct[0]))
    assert ct[1].startswith(part)
    assert 2_000 < len(part) < 3_000


@pytest.mark.parametrize("corrupt", ["other_instance", "flip", "zero_preamble", "html", "empty"])
def test_corruption(client: httpx.Client, twin: Twin, ct: Instance, files: dict[str, Path], corrupt: str) -> None:
    twin.set(corrupt=corrupt)
    response = _get(client, ct[0], SINGLE)
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
    assert _get(client, ct[0], SINGLE).content == ct[1]
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
        _until(lambda: twin.counters()["aborted"] == 1)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- process, counters, buckets -------------------------------------------------------------------------------------


def test_counters(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    body = _get(client, ct[0]).content
    client.get("/studies", params={"limit": 1})
    counters = twin.counters()
    assert counters["requests"] == {"wado_instance": 1, "qido_studies": 1}
    assert counters["bytes_sent"] >= len(body)
    assert counters["connections_high_water"] == 1
    assert counters["last"][0]["accept"] == STAR
    assert counters["last"][1]["query"] == "limit=1"
    twin.reset()
    assert twin.counters()["requests"] == {}


def test_knobs_are_checked(twin: Twin) -> None:
    with pytest.raises(ValueError, match="no such knobs: speed"):
        twin.set(speed=1)
    with pytest.raises(ValueError, match="boundary cannot be"):
        parse_knobs({"boundary": "double"})
    assert parse_knobs({"profile": "orthanc", "framing": "close"}).keepalive_seconds == 1.0
    assert Knobs().for_target("/anything") == Knobs()


def test_accept_is_parsed_with_its_quotes() -> None:
    first, second = parse_accept('multipart/related; type="a/b, c"; transfer-syntax=*, text/html;q=0.5')
    assert first.parameters == {"type": "a/b, c", "transfer-syntax": "*"}
    assert first.quoted == {"type"}
    assert second.media_type == "text/html"


def test_an_archive_that_goes_away(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct", 2, 32)
    with Twin(data=tmp_path / "ct") as twin:
        port = twin.port
        twin.kill()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{twin.url}/studies", trust_env=False)
        twin.restart()
        assert twin.port == port
        assert httpx.get(f"{twin.url}/studies", trust_env=False).status_code == 200


def test_buckets(client: httpx.Client, twin: Twin, ct: Instance, files: dict[str, Path]) -> None:
    folder = str(uuid.uuid5(uuid.NAMESPACE_OID, _series_of(ct).rpartition("/")[2]))
    bucket = twin.bucket_url()
    listing = client.get(bucket, params={"list-type": "2", "prefix": f"{folder}/", "max-keys": "5"}).text
    assert listing.count("<Key>") == 5
    assert f"<Key>{folder}/</Key>" in listing
    token = listing.partition("<NextContinuationToken>")[2].partition("<")[0]
    more = client.get(bucket, params={"list-type": "2", "prefix": f"{folder}/", "continuation-token": token}).text
    assert more.count("<Key>") == SLICES + 1 - 5
    key = f"{folder}/{uuid.uuid5(uuid.NAMESPACE_OID, ct[0].rpartition('/')[2])}.dcm"
    assert client.get(f"{bucket}/{key}").content == ct[1]
    ranged = client.get(f"{bucket}/{key}", headers={"Range": "bytes=0-99"})
    assert (ranged.status_code, ranged.content) == (206, ct[1][:100])
    assert client.get(f"{bucket}/{folder}/{uuid.uuid4()}.dcm").status_code == 404


def test_a_sample_archive_and_its_index(tmp_path: Path) -> None:
    directory = sample_archive(tmp_path / "archive")
    index = write_index(directory, tmp_path / "index.parquet")
    table: list[dict[str, Any]] = pq.read_table(index).to_pylist()
    sizes = sum(path.stat().st_size for path in directory.rglob("*.dcm"))
    assert sum(round(row["series_size_MB"] * 1e6) for row in table) == sizes
    assert {row["collection_id"] for row in table} == {"rider_twin", "chest_twin"}
    assert len(table) == 9
    assert len({row["StudyInstanceUID"] for row in table}) == 6

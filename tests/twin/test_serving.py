"""The twin itself: what it serves is what its files hold, in every form, and its knobs do what they say."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pydicom
import pytest

from tests.data import ct_series, sample_archive, write_index
from tests.twin.accept import parse_accept
from tests.twin.asking import SINGLE, SLICES, STAR, Instance, get, parts, series_of, uids
from tests.twin.client import Twin
from tests.twin.knobs import Knobs, parse_knobs

# -- QIDO-RS ------------------------------------------------------------------------------------------------------


def test_qido_lists_every_level(client: httpx.Client, ct: Instance, files: dict[str, Path]) -> None:
    assert len(uids(client.get("/studies"), "0020000D")) == 2
    series = client.get("/series", params={"PatientID": "TWIN-CT-0001", "limit": 5}).json()
    assert [item["00201209"]["Value"] for item in series] == [[SLICES], [1]]
    assert set(uids(client.get("/instances"))) == set(files)
    instances = client.get(series_of(ct) + "/instances").json()
    assert len(instances) == SLICES
    assert instances[0]["00280010"]["Value"] == [64]
    assert instances[0]["00080016"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]


@pytest.mark.parametrize("name", ["SOPInstanceUID", "00080018"])
def test_qido_filters_by_keyword_and_by_tag(client: httpx.Client, ct: Instance, name: str) -> None:
    uid = ct[0].rpartition("/")[2]
    assert uids(client.get("/instances", params={name: uid})) == [uid]


def test_qido_pages(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    url = series_of(ct) + "/instances"
    everything = uids(client.get(url))
    paged = [uid for offset in (0, 5, 10) for uid in uids(client.get(url, params={"limit": 5, "offset": offset}))]
    assert paged == everything
    twin.set(qido_default_limit=3, qido_max_limit=4)
    assert len(uids(client.get(url))) == 3
    assert len(uids(client.get(url, params={"limit": 9}))) == 4
    twin.set(qido_over_limit="400")
    assert client.get(url, params={"limit": 9}).status_code == 400
    twin.set(qido_ignore_offset=True)
    assert uids(client.get(url, params={"limit": 3, "offset": 3})) == everything[:3]


def test_qido_order_and_duplicates(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    url = series_of(ct) + "/instances"
    stored = uids(client.get(url))
    twin.set(qido_order="shuffled")
    shuffled = uids(client.get(url))
    assert shuffled != stored
    assert uids(client.get(url, params={"offset": 4})) == shuffled[4:]
    twin.set(qido_order="sorted")
    assert uids(client.get(url)) == sorted(stored)
    twin.set(qido_duplicates=4)
    assert len(uids(client.get(url))) == SLICES + SLICES // 4


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
    assert len(uids(client.get(series_of(ct) + "/instances"))) == SLICES - 1
    twin.set(qido_ignore_filters=True, qido_dict=False)
    assert len(client.get("/studies", params={"PatientID": "nobody"}).json()) == 2


# -- forms --------------------------------------------------------------------------------------------------------


def test_an_instance_comes_byte_for_byte_in_both_forms(client: httpx.Client, ct: Instance) -> None:
    multipart = get(client, ct[0])
    assert parts(multipart) == [ct[1]]
    assert int(multipart.headers["content-length"]) == len(multipart.content)
    single = get(client, ct[0], SINGLE)
    assert single.content == ct[1]
    assert single.headers["content-type"].startswith("application/dicom;")


def test_series_and_study_come_whole(client: httpx.Client, ct: Instance, files: dict[str, Path]) -> None:
    wanted = sorted(path.read_bytes() for path in list(files.values())[:SLICES])
    for url in (series_of(ct), series_of(ct).partition("/series/")[0]):
        response = get(client, url)
        assert sorted(parts(response)) == wanted
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
    assert get(client, ct[0], accept).status_code == status


def test_how_boundaries_and_lengths_are_told(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(boundary="unquoted", part_length=False)
    response = get(client, ct[0])
    assert 'boundary="' not in response.headers["content-type"]
    assert b"Content-Length" not in response.content[:300]
    twin.set(boundary="missing", multipart_preamble=True)
    response = get(client, ct[0])
    assert "boundary" not in response.headers["content-type"]
    assert response.content.startswith(b"This is")
    assert len(response.content) == int(response.headers["content-length"])


def test_framings(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    twin.set(framing="chunked")
    response = get(client, ct[0])
    assert response.headers["transfer-encoding"] == "chunked"
    twin.set(framing="close", series_framing="close")
    for url in (ct[0], series_of(ct)):
        response = get(client, url)
        assert not {"content-length", "transfer-encoding"} & set(response.headers)
        assert ct[1] in parts(response)


def test_ranges(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    assert get(client, ct[0], SINGLE, Range="bytes=10-19").status_code == 200
    twin.set(ranges=True, etag=True, head=True)
    response = get(client, ct[0], SINGLE, Range="bytes=10-19")
    assert (response.status_code, response.content) == (206, ct[1][10:20])
    assert response.headers["content-range"] == f"bytes 10-19/{len(ct[1])}"
    assert response.headers["etag"]
    assert get(client, ct[0], SINGLE, Range="bytes=-7").content == ct[1][-7:]
    assert get(client, ct[0], SINGLE, Range=f"bytes={len(ct[1])}-").status_code == 416
    head = client.head(ct[0], headers={"Accept": SINGLE})
    assert (int(head.headers["content-length"]), head.content) == (len(ct[1]), b"")
    twin.set(range_style="shifted")
    assert get(client, ct[0], SINGLE, Range="bytes=10-19").headers["content-range"].startswith("bytes 9-")
    twin.set(range_style="bare")
    response = get(client, ct[0], SINGLE, Range="bytes=10-19")
    assert (response.status_code, response.content, "content-range" in response.headers) == (206, ct[1], False)


def test_head_gzip_and_redirect(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    assert client.head(ct[0]).status_code == 404
    twin.set(gzip="asked")
    assert "content-encoding" not in get(client, ct[0]).headers
    response = client.get(ct[0], headers={"Accept": SINGLE, "Accept-Encoding": "gzip"})
    assert (response.headers["content-encoding"], response.content) == ("gzip", ct[1])
    twin.set(gzip="always", redirect=302)
    assert get(client, ct[0]).status_code == 302
    followed = client.get(ct[0], headers={"Accept": SINGLE}, follow_redirects=True)
    assert (followed.status_code, followed.content) == (200, ct[1])


@pytest.mark.parametrize("knobs", [{}, {"strip_star": True}])
def test_transcoding(client: httpx.Client, twin: Twin, rle: Instance, knobs: dict[str, Any]) -> None:
    assert parts(get(client, rle[0])) == [rle[1]]
    twin.set(**knobs)
    accept = STAR if knobs else STAR.partition("; transfer-syntax")[0]
    (body,) = parts(get(client, rle[0], accept))
    header = pydicom.dcmread(io.BytesIO(body))
    assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert header.SOPInstanceUID == rle[0].rpartition("/")[2]
    twin.set(strip_star=False, transcode_without_star=False)
    assert parts(get(client, rle[0], STAR.partition("; transfer-syntax")[0])) == [rle[1]]


def test_metadata_and_frames(client: httpx.Client, rle: Instance, ct: Instance) -> None:
    (item,) = client.get(rle[0] + "/metadata").json()
    assert item["7FE00010"]["BulkDataURI"].startswith("http://127.0.0.1")
    assert len(client.get(series_of(ct) + "/metadata").json()) == SLICES
    octets = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
    frames = parts(get(client, rle[0] + "/frames/1,3", octets))
    encapsulated = pydicom.dcmread(io.BytesIO(rle[1])).PixelData
    assert len(frames) == 2
    assert all(frame in encapsulated for frame in frames)
    assert parts(get(client, ct[0] + "/frames/1", octets)) == [pydicom.dcmread(io.BytesIO(ct[1])).PixelData]
    assert get(client, ct[0] + "/frames/2", octets).status_code == 404


# -- process, counters, buckets -------------------------------------------------------------------------------------


def test_counters(client: httpx.Client, twin: Twin, ct: Instance) -> None:
    body = get(client, ct[0]).content
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


def test_ctrl_c_is_not_for_it(twin: Twin) -> None:
    assert os.getsid(twin.pid) == twin.pid


def test_files_that_are_added_and_removed(tmp_path: Path) -> None:
    first, second = ct_series(tmp_path / "ct", 2, 64)
    aside = second.rename(tmp_path / "aside")
    with Twin(data=tmp_path / "ct") as twin:
        aside.rename(second)
        url = f"{twin.url}/instances"
        assert len(uids(httpx.get(url, trust_env=False))) == 1
        twin.scan()
        assert len(uids(httpx.get(url, trust_env=False))) == 2
        first.unlink()
        twin.scan()
        assert len(uids(httpx.get(url, trust_env=False))) == 1


def test_buckets(client: httpx.Client, twin: Twin, ct: Instance, files: dict[str, Path]) -> None:
    folder = str(uuid.uuid5(uuid.NAMESPACE_OID, series_of(ct).rpartition("/")[2]))
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

"""What others wrote, and idcfs is judged by, does on its own what it is to show through idcfs.

The servers answer as the IDC's buckets and a static DICOMweb server do; the readers of slides read ours from disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import numpy as np
import openslide
import pydicom
import pytest
import wsidicom

from tests.data import write_series
from tests.data.buckets import object_key, stored_series
from tests.data.spec import SeriesSpec
from tests.moto_s3 import MotoS3
from tests.nginx import Moved, Nginx
from tests.twin.client import Twin

S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"
SLICES = 1_010
"""More than a page of keys."""


@pytest.fixture(scope="module")
def crowd(data_dir: Path) -> Path:
    """A series with more instances than a page of a listing has keys."""
    return write_series(data_dir / "crowd" / "series", SeriesSpec(slices=SLICES, size=16))[0].parent


@pytest.fixture(scope="module")
def nginx(crowd: Path) -> Iterator[Nginx]:
    with Nginx(crowd) as nginx:
        yield nginx


@pytest.fixture(scope="module", params=["moto", "nginx", "twin"])
def bucket_url(request: pytest.FixtureRequest, crowd: Path, nginx: Nginx) -> Iterator[str]:
    """The bucket of ``crowd``, served by two that are not ours and by the twin."""
    if request.param == "nginx":
        yield f"{nginx.bucket_url}/idc-open-data"
    elif request.param == "twin":
        with Twin(data=crowd) as twin:
            yield twin.bucket_url()
    else:
        with MotoS3() as moto:
            moto.store(crowd)
            yield f"{moto.host_url}/idc-open-data"


def objects(crowd: Path) -> dict[str, Path]:
    """The files by their keys."""
    ((series, files),) = stored_series(crowd)
    return {object_key(series, uid): path for uid, path in files.items()}


def listed(client: httpx.Client, url: str, prefix: str) -> list[dict[str, int]]:
    """Page after page of ListObjectsV2, as anyone may ask for it: sizes by key, without the folder's own marker."""
    pages: list[dict[str, int]] = []
    token: dict[str, str] = {}
    while True:
        answer = client.get(url, params={"list-type": "2", "prefix": prefix} | token)
        assert answer.status_code == 200
        root = ElementTree.fromstring(answer.text)
        keys = {
            entry.findtext(f"{S3}Key", ""): int(entry.findtext(f"{S3}Size", "")) for entry in root.iter(f"{S3}Contents")
        }
        pages.append({key: size for key, size in keys.items() if key != prefix})
        if root.findtext(f"{S3}IsTruncated") == "false":
            return pages
        token = {"continuation-token": root.findtext(f"{S3}NextContinuationToken", "")}


def test_a_bucket_lists_every_key_once_page_by_page(bucket_url: str, crowd: Path) -> None:
    expected = {key: path.stat().st_size for key, path in objects(crowd).items()}
    prefix = next(iter(expected)).partition("/")[0] + "/"
    with httpx.Client(trust_env=False) as client:
        pages = listed(client, bucket_url, prefix)
        nothing = listed(client, bucket_url, "0000-0000/")
    assert sum(map(len, pages)) == SLICES
    assert {key: size for page in pages for key, size in page.items()} == expected
    assert len(pages) == 2
    assert nothing == [{}]


def test_a_bucket_sends_objects_whole_and_in_ranges(bucket_url: str, crowd: Path) -> None:
    key, path = next(iter(objects(crowd).items()))
    content = path.read_bytes()
    with httpx.Client(trust_env=False) as client:
        whole = client.get(f"{bucket_url}/{key}")
        middle = client.get(f"{bucket_url}/{key}", headers={"Range": "bytes=100-199"})
        tail = client.get(f"{bucket_url}/{key}", headers={"Range": "bytes=500-"})
        beyond = client.get(f"{bucket_url}/{key}", headers={"Range": f"bytes={len(content)}-"})
        missing = client.get(f"{bucket_url}/{key}x")
    assert (whole.status_code, whole.content) == (200, content)
    assert (middle.status_code, middle.content) == (206, content[100:200])
    assert middle.headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert (tail.status_code, tail.content) == (206, content[500:])
    assert tail.headers["content-range"] == f"bytes 500-{len(content) - 1}/{len(content)}"
    assert (beyond.status_code, missing.status_code) == (416, 404)


def test_a_static_server_lists_and_sends_instances(nginx: Nginx, crowd: Path) -> None:
    ((series, files),) = stored_series(crowd)
    url = f"{nginx.url}/studies/{series.study_uid}/series/{series.series_uid}/instances"
    uid, path = next(iter(files.items()))
    with httpx.Client(trust_env=False, headers={"Accept": 'multipart/related; type="application/dicom"'}) as client:
        before = len(nginx.moved())
        found = client.get(url, params={"limit": 5000, "offset": 0})
        more = client.get(url, params={"limit": 5000, "offset": SLICES})
        whole = client.get(f"{url}/{uid}")
        middle = client.get(f"{url}/{uid}", headers={"Range": "bytes=100-199"})
        head = client.head(f"{url}/{uid}")
    assert {item["00080018"]["Value"][0] for item in found.json()} == files.keys()
    assert more.status_code == 204
    assert (whole.headers["content-type"], whole.content) == ("application/dicom", path.read_bytes())
    assert (middle.status_code, middle.content) == (206, path.read_bytes()[100:200])
    assert head.headers["etag"] == whole.headers["etag"]
    moved = nginx.moved()[before:]
    assert len(moved) == 5
    assert moved[3] == Moved(206, 100, "GET", "bytes=100-199", moved[3].target)


def test_readers_of_slides_see_the_same_in_our_slide(slide_files: list[Path]) -> None:
    assert 240e6 < slide_files[0].stat().st_size < 270e6
    with openslide.OpenSlide(slide_files[0]) as opened, wsidicom.WsiDicom.open(slide_files[0].parent) as slide:
        assert opened.level_dimensions == ((25_600, 25_600), (12_800, 12_800), (6_400, 6_400))
        assert [level.size.to_tuple() for level in slide.levels] == list(opened.level_dimensions)
        seen = np.asarray(opened.read_region((10_000, 12_000), 0, (700, 600)).convert("RGB"))
        assert seen.std() > 20  # not a blank
        assert np.array_equal(seen, np.asarray(slide.read_region((10_000, 12_000), 0, (700, 600)).convert("RGB")))


def test_a_tile_of_our_slide_can_be_had_on_its_own(slide_files: list[Path]) -> None:
    header = pydicom.dcmread(slide_files[2])
    assert (header.NumberOfFrames, header.Rows, header.Columns) == (13 * 13, 512, 512)
    first, second = (pydicom.encaps.get_frame(header.PixelData, frame, number_of_frames=169) for frame in (0, 1))
    assert first != second
    assert first.startswith(b"\xff\xd8\xff")

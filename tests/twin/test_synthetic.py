"""Synthetic instances over the real index: exact counts and totals, readable headers, and bytes as by formula."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import httpx
import idc_index_data
import pydicom
import pytest

from tests.twin.asking import SINGLE
from tests.twin.client import Twin
from tests.twin.model import DEFLATED, EXPLICIT_LITTLE, Series
from tests.twin.synthetic import instance_size, instance_uid, series_from_row, synthetic_bytes, synthetic_instance

INDEX = Path(str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH))

_EXTREMES = """
    select * from (select * from index order by instanceCount desc limit 2)
    union all select * from (select * from index order by series_size_MB desc limit 2)
    union all select * from (select * from index order by series_size_MB / instanceCount limit 2)
    union all select * from (select * from index order by series_size_MB / instanceCount desc limit 2)
    union all select * from (select * from index order by series_size_MB limit 1)
    union all select * from (select * from index where PatientID like 'ZZ %' limit 1)
"""
_KINDS = ("TransferSyntaxUID", "Modality", "aws_bucket", "license_short_name")
_ONE_OF_EACH = "select * from index qualify row_number() over (partition by {} order by crdc_series_uuid) = 1"


@cache
def drawn_series() -> tuple[Series, ...]:
    """Some 50 series of the packaged index: the extremes, one of each transfer syntax, modality, …."""
    rows: list[dict[str, Any]] = []
    with duckdb.connect() as database:
        database.execute(f"create view index as select * from '{INDEX}'")
        for query in (_EXTREMES, *map(_ONE_OF_EACH.format, _KINDS)):
            found = database.execute(query)
            names = [column[0] for column in found.description or []]
            rows += [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return tuple({series.series_uid: series for series in map(series_from_row, rows)}.values())


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    with Twin(index="packaged") as twin:
        yield twin


@pytest.fixture
def client(twin: Twin) -> Iterator[httpx.Client]:
    twin.reset()
    with httpx.Client(base_url=twin.url, timeout=60, trust_env=False) as client:
        yield client


def _read_header(series: Series, ordinal: int, size: int) -> pydicom.Dataset:
    # A deflated dataset must be read whole; of a big image the head will do.
    stop = size if series.transfer_syntaxes[0] == DEFLATED else min(size, 1 << 20)
    return pydicom.dcmread(io.BytesIO(synthetic_bytes(series, ordinal, 0, stop)), stop_before_pixels=True)


def test_the_draw_has_the_extremes() -> None:
    series = drawn_series()
    assert len(series) >= 50
    assert max(one.instance_count for one in series) == 91_980
    assert len({one.transfer_syntaxes[0] for one in series}) > 8


def test_sizes_differ_and_sum_up_exactly() -> None:
    for series in drawn_series():
        sizes = [instance_size(series, ordinal) for ordinal in range(series.instance_count)]
        assert sum(sizes) == series.size_bytes
        assert min(sizes) > 0
        assert len(sizes) < 3 or len(set(sizes)) > 1


def test_uids_are_unique() -> None:
    series = max(drawn_series(), key=lambda one: one.instance_count)
    assert len({instance_uid(series.series_uid, ordinal) for ordinal in range(series.instance_count)}) == 91_980


def test_headers_are_readable_and_true() -> None:
    for series in drawn_series():
        for ordinal in {0, series.instance_count // 2, series.instance_count - 1}:
            instance = synthetic_instance(series, ordinal)
            header = _read_header(series, ordinal, instance.size_bytes)
            assert header.file_meta.TransferSyntaxUID == series.transfer_syntaxes[0]
            assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID == instance.instance_uid
            assert header.SeriesInstanceUID == series.series_uid
            assert header.StudyInstanceUID == series.study_uid
            assert header.PatientID == series.patient_id
            assert header.Modality == series.modality
            assert len(synthetic_bytes(series, ordinal, instance.size_bytes - 5, instance.size_bytes + 5)) == 5


def test_small_files_are_whole_to_pydicom() -> None:
    decoded = 0
    for series in drawn_series():
        instance = synthetic_instance(series, 0)
        if instance.size_bytes < 2_000_000:
            dataset = pydicom.dcmread(io.BytesIO(synthetic_bytes(series, 0, 0, instance.size_bytes)))
            if instance.rows and instance.transfer_syntax == EXPLICIT_LITTLE:
                assert dataset.pixel_array.shape == (instance.rows, instance.columns)
                decoded += 1
    assert decoded > 5


def test_bytes_do_not_depend_on_how_they_are_cut() -> None:
    series = max(drawn_series(), key=lambda one: one.size_bytes)
    whole = synthetic_bytes(series, 1, 0, 9_000_000)
    cuts = [0, 1, 700, 5_000, 1_048_575, 1_048_577, 4_194_301, 4_194_302, 8_000_000, 9_000_000]
    assert b"".join(synthetic_bytes(series, 1, a, b) for a, b in itertools.pairwise(cuts)) == whole
    blocks = {whole[start : start + 1_048_576] for start in range(0, 8_388_608, 1_048_576)}
    assert len(blocks) == 8, "blocks of one instance are alike"


def test_odd_and_tiny_series_keep_their_totals() -> None:
    base = drawn_series()[0]
    for total, count in ((100_001, 3), (1_000, 4), (130, 1), (3, 5), (1_999, 2)):
        series = Series("p", "1.2", "1.3", "CT", base.sop_class_uid, (EXPLICIT_LITTLE,), count, total)
        files = [synthetic_bytes(series, ordinal, 0, 1 << 20) for ordinal in range(count)]
        assert sum(map(len, files)) == total


def test_the_twin_serves_the_formula(client: httpx.Client) -> None:
    for series in drawn_series():
        url = f"/studies/{series.study_uid}/series/{series.series_uid}/instances"
        last = series.instance_count - 1
        (item,) = client.get(url, params={"offset": last, "limit": 1}).json()
        uid = item["00080018"]["Value"][0]
        assert uid == instance_uid(series.series_uid, last)
        assert client.get(url, params={"offset": last + 1}).status_code == 204
        wanted = min(instance_size(series, last), 3_000_000)
        with client.stream("GET", f"{url}/{uid}", headers={"Accept": SINGLE}) as response:
            assert int(response.headers["content-length"]) == instance_size(series, last)
            received = b""
            for chunk in response.iter_raw():
                received += chunk
                if len(received) >= wanted:
                    break
        assert received[:wanted] == synthetic_bytes(series, last, 0, wanted)


def test_a_series_of_91_980_is_paged(client: httpx.Client) -> None:
    series = max(drawn_series(), key=lambda one: one.instance_count)
    url = f"/studies/{series.study_uid}/series/{series.series_uid}/instances"
    pages = [
        client.get(url, params=page).json() for page in ({}, {"limit": 6_000}, {"limit": 90_000, "offset": 90_000})
    ]
    assert [len(page) for page in pages] == [1_000, 6_000, 1_980]
    assert pages[2][-1]["00080018"]["Value"] == [instance_uid(series.series_uid, 91_979)]


def test_studies_series_and_metadata_of_the_index(client: httpx.Client) -> None:
    series = next(one for one in drawn_series() if one.patient_id.startswith("ZZ "))
    studies = client.get("/studies", params={"PatientID": series.patient_id}).json()
    assert series.study_uid in [item["0020000D"]["Value"][0] for item in studies]
    listed = client.get(f"/studies/{series.study_uid}/series").json()
    assert series.series_uid in [item["0020000E"]["Value"][0] for item in listed]
    url = f"/studies/{series.study_uid}/series/{series.series_uid}/instances/{instance_uid(series.series_uid, 0)}"
    (item,) = client.get(f"{url}/metadata").json()
    assert item["00100020"]["Value"] == [series.patient_id]
    assert len(client.get("/studies").json()) == 100


def test_buckets_of_the_index(client: httpx.Client, twin: Twin) -> None:
    series = next(one for one in drawn_series() if 1_000 < one.instance_count < 50_000)
    bucket = twin.bucket_url(series.aws_bucket)
    page = client.get(bucket, params={"list-type": "2", "prefix": f"{series.crdc_series_uuid}/"}).text
    assert page.count("<Key>") == 1_000
    assert "<IsTruncated>true</IsTruncated>" in page
    instance = synthetic_instance(series, 7)
    url = f"{bucket}/{series.crdc_series_uuid}/{instance.crdc_instance_uuid}.dcm"
    ranged = client.get(url, headers={"Range": "bytes=1000-1999"})
    assert ranged.content == synthetic_bytes(series, 7, 1_000, 2_000)

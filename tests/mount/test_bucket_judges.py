"""IDC's buckets as others serve them: moto's S3, and nginx, through mounts that have no other place to ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.harness import status
from tests.data import write_index, write_series
from tests.data.spec import SeriesSpec
from tests.moto_s3 import MotoS3
from tests.mount.conftest import NOWHERE, MountMaker
from tests.nginx import Nginx

SLICES = 1_010
"""More than a page of keys."""


@pytest.fixture(scope="module")
def crowd(data_dir: Path) -> Path:
    """A series with more instances than a page of a listing has keys."""
    return write_series(data_dir / "crowd" / "series", SeriesSpec(slices=SLICES, size=16))[0].parents[1]


@pytest.fixture(scope="module")
def crowd_index(crowd: Path, data_dir: Path) -> Path:
    return write_index(crowd, data_dir / "crowd.parquet", "crowd")


both_servers = pytest.fixture(scope="module", params=["moto", "nginx"])


@contextmanager
def buckets_of(server: str, archive: Path) -> Iterator[str]:
    """Where ``server`` has the buckets with ``archive``."""
    if server == "nginx":
        with Nginx(archive) as nginx:
            yield f"{nginx.bucket_url}/{{bucket}}"
    else:
        with MotoS3() as moto:
            moto.store(archive)
            yield f"{moto.host_url}/{{bucket}}"


@both_servers
def sample_bucket(request: pytest.FixtureRequest, sample: Path) -> Iterator[str]:
    """Where the buckets with ``sample`` are."""
    with buckets_of(request.param, sample) as url:
        yield url


@both_servers
def crowd_bucket(request: pytest.FixtureRequest, crowd: Path) -> Iterator[str]:
    """Where the buckets with ``crowd`` are."""
    with buckets_of(request.param, crowd) as url:
        yield url


def test_every_file_of_a_bucket_is_the_same(
    mount: MountMaker, sample_bucket: str, sample: Path, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--content", "bucket", "--bucket", sample_bucket)
    originals = {path.name: path for path in sample.rglob("*.dcm")}
    paths = list(made.path.rglob("*.dcm"))
    assert {path.name for path in paths} == originals.keys()
    # Before any was opened: a bucket tells exact sizes.
    assert {path.name: path.stat().st_size for path in paths} == {
        name: path.stat().st_size for name, path in originals.items()
    }
    for path in paths:
        assert path.read_bytes() == originals[path.name].read_bytes()
    counters = status(made.path)["counters"]
    assert (counters["errors"], counters["wado_requests"], counters["qido_requests"]) == (0, 0, 0)


def test_the_end_of_a_file_in_a_bucket_is_fetched_alone(
    mount: MountMaker, sample_bucket: str, sample: Path, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--content", "bucket", "--bucket", sample_bucket, "--prefetch", "0")
    for path in sorted(sample.rglob("*.dcm"))[::13]:
        content = path.read_bytes()
        (remote,) = made.path.glob(f"*/*/*/*/{path.name}")
        with remote.open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 1_000, len(content) - 1_000) == content[-1_000:]
            assert os.pread(file.fileno(), 1_000, len(content) // 2) == content[len(content) // 2 :][:1_000]
    assert status(made.path)["counters"]["errors"] == 0


def test_a_series_of_more_files_than_a_page_has_keys(
    mount: MountMaker, crowd_bucket: str, crowd: Path, crowd_index: Path
) -> None:
    made = mount(NOWHERE, "--index", crowd_index, "--content", "bucket", "--bucket", crowd_bucket)
    originals = {path.name: path for path in crowd.rglob("*.dcm")}
    (series,) = made.path.glob("*/*/*/*")
    names = os.listdir(series)
    assert sorted(names) == sorted(originals)
    assert len(names) == SLICES
    assert [(series / name).stat().st_size for name in names] == [originals[name].stat().st_size for name in names]
    for name in names[::50]:
        assert (series / name).read_bytes() == originals[name].read_bytes()


def test_sizes_are_exact_before_anything_is_opened_if_asked_for(
    mount: MountMaker, sample: Path, sample_index: Path
) -> None:
    with Nginx(sample) as nginx:
        bucket = ("--bucket", f"{nginx.bucket_url}/{{bucket}}", "--exact-sizes")
        made = mount(nginx.url, "--index", sample_index, *bucket)
        sizes = {path.name: path.stat().st_size for path in made.path.rglob("*.dcm")}
        assert sizes == {path.name: path.stat().st_size for path in sample.rglob("*.dcm")}
        counters = status(made.path)["counters"]
        assert (counters["wado_requests"], counters["downloads"]) == (0, 0)

"""An archive and a bucket that each go wrong in their own way: who is asked next, whose error counts, what it costs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from idcfs.settings import MIB
from scripts.harness import Mount
from tests.data import ct_series, multiframe, write_index
from tests.mount.conftest import MountMaker
from tests.mount.faults import LIMIT_SECONDS, TIMEOUT_SECONDS
from tests.mount.stage import counters, errno_of, forget_pages
from tests.twin.client import Twin
from tests.waiting import eventually

CUT = {"truncate_after_bytes": 70_000}
STALLS = {"stall_after_bytes": 70_000}
DRIPS = {"drip_after_bytes": 70_000}
OTHER = {"corrupt": "transcoded"}
GONE = {"fail_always": 404}


@dataclass(frozen=True)
class Places:
    """One file, as both places have it."""

    archive: Twin
    bucket: Twin
    original: Path
    index: Path

    def mounted(self, mount: MountMaker, *options: str) -> tuple[Mount, Path]:
        """The mount, and the file in it."""
        where = ("--index", self.index, "--bucket", self.bucket.bucket_url("{bucket}"), "--prefetch", "0")
        made = mount(self.archive.url, *where, "--timeout", str(TIMEOUT_SECONDS), *options)
        (path,) = made.path.rglob("*.dcm")
        return made, path


def serving(directory: Path) -> Iterator[Places]:
    index = write_index(directory, directory.parent / "index.parquet", "one")
    (original,) = directory.rglob("*.dcm")
    with Twin(data=directory) as archive, Twin(data=directory) as bucket:
        yield Places(archive, bucket, original, index)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """Of 525 kB."""
    ct_series(tmp_path / "data", 1, 512)
    yield from serving(tmp_path / "data")


@pytest.fixture
def middling(tmp_path: Path) -> Iterator[Places]:
    """Of 3 MB."""
    multiframe(tmp_path / "data", 6)
    yield from serving(tmp_path / "data")


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Places]:
    """Of 42 MB."""
    multiframe(tmp_path / "data", 80)
    yield from serving(tmp_path / "data")


@pytest.mark.parametrize(
    ("archive", "bucket", "expected"),
    [
        ({"fail_always": 403}, CUT, errno.EACCES),
        ({"fail_always": 403}, DRIPS, errno.EACCES),
        ({"fail_always": 503}, OTHER, errno.EHOSTUNREACH),
        ({"fail_always": 400}, STALLS, errno.EIO),
        ({"corrupt": "html"}, DRIPS, errno.EIO),
        (CUT, DRIPS, errno.EIO),
        (GONE, CUT, errno.ESTALE),
        (STALLS, GONE, errno.ETIMEDOUT),
        (STALLS, CUT, errno.ETIMEDOUT),
        (DRIPS, OTHER, errno.ETIMEDOUT),
    ],
    ids=str,
)
def test_where_neither_can_serve_the_error_is_what_the_archive_said_and_in_time(
    archive: dict[str, Any], bucket: dict[str, Any], expected: int, mount: MountMaker, places: Places
) -> None:
    _, path = places.mounted(mount)
    places.archive.set(match="/instances/", **archive)
    places.bucket.set(match=".dcm", **bucket)
    for _ in range(2):  # whatever is remembered of the first time
        began = time.monotonic()
        assert errno_of(lambda: a_page_in_the_middle(path)) == expected
        assert time.monotonic() - began < LIMIT_SECONDS


def a_page_in_the_middle(path: Path) -> bytes:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(file.fileno(), 4096, 204_800)


@pytest.mark.parametrize("fault", [CUT, OTHER, STALLS, DRIPS, GONE], ids=str)
def test_what_came_from_the_bucket_once_comes_from_the_archive_where_that_goes_wrong(
    fault: dict[str, Any], mount: MountMaker, middling: Places
) -> None:
    places = middling
    made, path = places.mounted(mount, "--cache-size", "0", "--memory-cache", "2MiB")
    content = places.original.read_bytes()
    places.archive.set(match="/instances/", **GONE)
    with path.open("rb", buffering=0) as file:
        assert file.read(4096) == content[:4096]
    assert counters(made)["bucket_downloads"] == 1
    assert eventually(lambda: counters(made)["running_downloads"] == 0)
    places.archive.reset()
    places.bucket.reset()
    places.bucket.set(match=".dcm", **fault)
    forget_pages(path)
    assert path.read_bytes() == content
    assert places.bucket.counters()["requests"].get("bucket_object", 0) <= 2
    assert counters(made)["errors"] == 0


def test_an_archive_that_drips_the_head_of_a_part_is_not_waited_for(mount: MountMaker, places: Places) -> None:
    made, path = places.mounted(mount)
    places.archive.set(match="/instances/", drip_after_bytes=10)
    assert path.read_bytes() == places.original.read_bytes()
    assert counters(made)["bucket_downloads"] == 1
    assert counters(made)["errors"] == 0


def test_a_bucket_that_ignores_ranges_is_read_as_a_stream(mount: MountMaker, large: Places) -> None:
    large.bucket.set(match=".dcm", range_style="ignored")
    made, path = large.mounted(mount, "--content", "bucket")
    content = large.original.read_bytes()
    assert path.read_bytes() == content
    assert counters(made)["bytes_from_archive"] <= len(content) + 8 * MIB
    assert large.bucket.counters()["requests"]["bucket_object"] <= 2


def test_a_seek_to_a_bucket_that_ignores_ranges_is_answered(mount: MountMaker, large: Places) -> None:
    large.bucket.set(match=".dcm", range_style="ignored")
    _, path = large.mounted(mount)
    content = large.original.read_bytes()
    with path.open("rb", buffering=0) as file:
        for offset in (0, 30 * MIB, 12 * MIB, 38 * MIB):
            assert os.pread(file.fileno(), MIB, offset) == content[offset : offset + MIB]

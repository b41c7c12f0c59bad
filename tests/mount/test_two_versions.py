"""Two places, or two moments, with different bytes of one instance: whoever reads it gets the one or the other."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from idcfs.settings import MIB
from scripts.harness import Mount
from tests.data import write_index
from tests.mount.conftest import MountMaker
from tests.mount.stage import counters, forget_pages, sync, unmount
from tests.twin.client import Twin
from tests.waiting import eventually

SERIES = "1.2.3.4.5"
X, Y = f"{SERIES}.1", f"{SERIES}.2"
NO_PREFETCH = ("--prefetch", "0")


def write(path: Path, size: int, version: int) -> bytes:
    """An instance of ``size`` bytes called as the file; versions differ in all but their headers."""
    dataset = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, UID(path.stem)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(f"{SERIES}.0"), UID(SERIES)
    dataset.PatientID, dataset.Modality, dataset.StudyDate = "P", "CT", "20200101"
    dataset.add_new(0xFFFCFFFC, "OB", b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    dataset.add_new(0xFFFCFFFC, "OB", random.Random(f"{path.stem} {version}").randbytes(size - path.stat().st_size))
    dataset.save_as(path, enforce_file_format=True)
    return path.read_bytes()


@contextmanager
def one_place(place: Path, files: dict[str, bytes], name: str = "archive", **knobs: Any) -> Iterator[Twin]:
    """An archive with these files by SOPInstanceUID."""
    for uid, data in files.items():
        path = place / name / SERIES / f"{uid}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with Twin(data=place / name, **knobs) as twin:
        yield twin


@contextmanager
def two_places(place: Path, archive: dict[str, bytes], buckets: dict[str, bytes]) -> Iterator[tuple[Twin, Twin]]:
    """The archive and the buckets, with these files by SOPInstanceUID."""
    with one_place(place, archive) as wado, one_place(place, buckets, "buckets") as bucket:
        yield wado, bucket


def over_both(mount: MountMaker, place: Path, archive: Twin, buckets: Twin, *options: str) -> Mount:
    """A mount of what ``two_places`` has below ``place``."""
    index = write_index(place / "buckets", place / "index.parquet", "both")
    return mount(archive.url, "--index", index, "--bucket", buckets.bucket_url("{bucket}"), *NO_PREFETCH, *options)


def versions(place: Path, uid: str, *sizes: int) -> list[bytes]:
    return [write(place / "made" / f"{uid}.dcm", size, number) for number, size in enumerate(sizes)]


def file_of(made: Mount, uid: str) -> Path:
    (path,) = made.path.glob(f"*/*/*/*/{uid}.dcm")
    return path


def result_of(call: Callable[[], bytes]) -> bytes | int:
    """What is read, or the errno with which that ends."""
    try:
        return call()
    except OSError as error:
        return error.errno or 0


@pytest.mark.parametrize("newer_bytes", [5 * MIB, 3_500_000, 5_000_000])
def test_a_size_that_was_proven_is_not_replaced_by_one_that_a_bucket_lists(
    newer_bytes: int, mount: MountMaker, tmp_path: Path, log_of: Callable[[], str]
) -> None:
    newer, older = versions(tmp_path, X, newer_bytes, 4_000_000)
    (other,) = versions(tmp_path, Y, 1_000_000)
    with two_places(tmp_path, {X: newer, Y: other}, {X: older, Y: other}) as (wado, bucket):
        made = over_both(mount, tmp_path, wado, bucket)
        wado.set(missing=[Y])
        path = file_of(made, X)
        with path.open("rb", buffering=0) as file:
            first = file.read(MIB)
            assert file_of(made, Y).read_bytes() == other  # the bucket lists both
            assert counters(made)["bucket_downloads"] == 1
            assert os.fstat(file.fileno()).st_size == len(newer)
            assert first + file.read() == newer
        for _ in range(2):
            assert path.read_bytes() == newer
        assert f"instance {X} is of {newer_bytes} bytes, and listed with 4000000" in log_of()


@pytest.fixture
def replaceable(tmp_path: Path) -> Callable[[Path], Path]:
    """Makes an index without content UUIDs."""

    def make(files: Path) -> Path:
        path = write_index(files, tmp_path / "index.parquet", "replaced")
        table = pq.read_table(path)
        number = table.schema.get_field_index("crdc_series_uuid")
        nothing = pa.array([None] * len(table), pa.large_string())
        pq.write_table(table.set_column(number, table.schema.field(number), nothing), path)
        return path

    return make


def replace_at(twin: Twin, place: Path, uid: str, data: bytes) -> None:
    """From here on the archive has other bytes."""
    (place / "archive" / SERIES / f"{uid}.dcm").write_bytes(data)
    twin.restart()


@pytest.mark.parametrize("is_fixed", [True, False])
def test_what_another_mount_has_found_to_be_replaced_is_not_read_on(
    is_fixed: bool, mount: MountMaker, tmp_path: Path, replaceable: Callable[[Path], Path]
) -> None:
    older, newer = versions(tmp_path, X, 12 * MIB, 12 * MIB)
    with one_place(tmp_path, {X: older}, ranges=is_fixed) as twin:
        files = tmp_path / "archive"
        index = write_index(files, tmp_path / "index.parquet", "replaced") if is_fixed else replaceable(files)
        options = ("--index", index, *NO_PREFETCH)
        here = file_of(mount(twin.url, *options, "--memory-cache", "2MiB", at="here"), X)
        assert here.read_bytes() == older
        sync(here)
        with here.open("rb", buffering=0) as file:
            forget_pages(here)
            assert os.pread(file.fileno(), 3 * MIB, 0) == older[: 3 * MIB]
            replace_at(twin, tmp_path, X, newer)
            there = file_of(mount(twin.url, *options, "--cache-size", "8MiB", at="there"), X)
            assert result_of(there.read_bytes) == errno.EIO  # some of it was evicted
            assert there.read_bytes() == newer
            sync(there)
            os.posix_fadvise(file.fileno(), 4 * MIB, 0, os.POSIX_FADV_DONTNEED)
            for offset in (8 * MIB, 5 * MIB):
                assert result_of(partial(os.pread, file.fileno(), MIB, offset)) == errno.EIO
        for _ in range(2):
            assert here.read_bytes() == newer


def test_the_kernel_keeps_no_pages_longer_than_it_is_known_what_they_are_of(
    mount: MountMaker, tmp_path: Path, replaceable: Callable[[Path], Path]
) -> None:
    older, newer = versions(tmp_path, X, 24 * MIB, 24 * MIB)
    (other,) = versions(tmp_path, Y, 12 * MIB)
    with one_place(tmp_path, {X: older, Y: other}) as twin:
        index = replaceable(tmp_path / "archive")
        made = mount(twin.url, "--index", index, "--memory-cache", "8MiB", "--cache-size", "0", *NO_PREFETCH)
        path = file_of(made, X)
        with path.open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 10 * MIB, 0) == older[: 10 * MIB]
        assert file_of(made, Y).read_bytes() == other  # in place of that in memory
        assert eventually(lambda: counters(made)["running_downloads"] == 0)
        replace_at(twin, tmp_path, X, newer)
        assert path.read_bytes() == newer


def test_the_kernel_keeps_pages_of_what_a_content_uuid_names(mount: MountMaker, tmp_path: Path) -> None:
    (data,) = versions(tmp_path, X, 6 * MIB)
    with one_place(tmp_path, {X: data}) as twin:
        made = mount(twin.url, "--index", write_index(tmp_path / "archive", tmp_path / "index.parquet", "kept"))
        path = file_of(made, X)
        assert path.read_bytes() == data
        asked = counters(made)
        assert path.read_bytes() == data
        assert (counters(made)["hits"], counters(made)["misses"]) == (asked["hits"], asked["misses"])


def test_a_seek_that_a_bucket_serves_is_compared_with_what_came_by_wado(mount: MountMaker, tmp_path: Path) -> None:
    newer, older = versions(tmp_path, X, 24 * MIB, 24 * MIB)
    with two_places(tmp_path, {X: newer}, {X: older}) as (wado, bucket):
        made = over_both(mount, tmp_path, wado, bucket)
        path = file_of(made, X)
        with path.open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), MIB, 0) == newer[:MIB]
            for offset in (20 * MIB, 20 * MIB, 8 * MIB):
                assert result_of(partial(os.pread, file.fileno(), MIB, offset)) == errno.EIO
        again = {result_of(path.read_bytes) for _ in range(2)}
        assert again in ({newer}, {older})


def test_a_seek_that_a_bucket_serves_costs_one_request_more_for_each_file(mount: MountMaker, tmp_path: Path) -> None:
    (data,) = versions(tmp_path, X, 24 * MIB)
    with two_places(tmp_path, {X: data}, {X: data}) as (wado, bucket):
        made = over_both(mount, tmp_path, wado, bucket)
        with file_of(made, X).open("rb", buffering=0) as file:
            for offset in (0, 20 * MIB):
                assert os.pread(file.fileno(), 4096, offset) == data[offset : offset + 4096]
        assert bucket.counters()["requests"] == {"bucket_list": 1, "bucket_object": 2}


def test_pages_of_one_place_are_not_followed_by_bytes_of_the_other(mount: MountMaker, tmp_path: Path) -> None:
    """The kernel has the beginning still when all that was kept here has gone."""
    older, newer = versions(tmp_path, X, 24 * MIB, 24 * MIB)
    (large,) = versions(tmp_path, Y, 16 * MIB)
    with two_places(tmp_path, {X: older, Y: large}, {X: newer, Y: large}) as (wado, bucket):
        made = over_both(mount, tmp_path, wado, bucket, "--memory-cache", "4MiB", "--cache-size", "0")
        path = file_of(made, X)
        with path.open("rb", buffering=0) as file:
            assert file.read(6 * MIB) == older[: 6 * MIB]
        assert eventually(lambda: counters(made)["running_downloads"] == 0)
        assert file_of(made, Y).read_bytes() == large  # pushes the other one out
        wado.set(fail_always=503, match=X)
        assert result_of(path.read_bytes) == errno.EIO
        assert path.read_bytes() == newer


@pytest.mark.parametrize("is_fixed", [True, False])
def test_a_beginning_that_was_replaced_is_not_followed_by_what_an_earlier_mount_kept(
    is_fixed: bool, mount: MountMaker, tmp_path: Path, replaceable: Callable[[Path], Path]
) -> None:
    """Of a file the blocks that were read first are those that go first."""
    older, newer = versions(tmp_path, X, 6 * MIB + 1000, 6 * MIB + 1000)
    (other,) = versions(tmp_path, Y, 4 * MIB)
    with one_place(tmp_path, {X: older, Y: other}) as twin:
        files = tmp_path / "archive"
        index = write_index(files, tmp_path / "index.parquet", "replaced") if is_fixed else replaceable(files)
        before = mount(twin.url, "--index", index, "--cache-size", "8MiB", *NO_PREFETCH, at="before")
        for uid, data in ((X, older), (Y, other)):
            assert file_of(before, uid).read_bytes() == data
            sync(file_of(before, uid))
        unmount(before)
        replace_at(twin, tmp_path, X, newer)
        twin.set(match="/instances/", bytes_per_second=2_000_000, chunk_bytes=65536)
        path = file_of(mount(twin.url, "--index", index, *NO_PREFETCH), X)
        assert 0 < int(os.getxattr(path, "user.idc.cached_bytes")) < len(older)
        with path.open("rb", buffering=0) as file:
            assert result_of(lambda: b"".join(iter(partial(file.read, MIB // 8), b""))) == errno.EIO
        assert path.read_bytes() == newer


@pytest.mark.parametrize(("size", "first"), [(526_000, 200_000), (60_000, 4096), (2 * MIB, 200_000)])
def test_a_header_of_one_place_is_not_followed_by_pixels_of_the_other(
    size: int, first: int, mount: MountMaker, tmp_path: Path
) -> None:
    """Of a file of which nothing is kept any more, and both have the same header."""
    (older,), (large,) = versions(tmp_path, X, size), versions(tmp_path, Y, 16 * MIB)
    differs_from = min(70_000, first)
    newer = older[:differs_from] + random.Random(1).randbytes(size - differs_from)
    with two_places(tmp_path, {X: older, Y: large}, {X: newer, Y: large}) as (wado, bucket):
        made = over_both(mount, tmp_path, wado, bucket, "--memory-cache", "4MiB", "--cache-size", "0")
        path = file_of(made, X)
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            assert os.pread(file.fileno(), first, 0) == older[:first]
        assert file_of(made, Y).read_bytes() == large  # pushes the other one out
        assert eventually(lambda: counters(made)["running_downloads"] == 0)
        wado.set(fail_always=503, match=X)
        assert result_of(path.read_bytes) == errno.EIO
        assert path.read_bytes() == newer


def test_the_middle_of_what_was_replaced_is_not_read_beside_what_an_earlier_mount_kept(
    mount: MountMaker, tmp_path: Path
) -> None:
    """The first answer of a mount is a stream, and leaves a beginning beside what is kept."""
    older, newer = versions(tmp_path, X, 24 * MIB, 24 * MIB)
    (other,) = versions(tmp_path, Y, 6 * MIB)
    with one_place(tmp_path, {X: older, Y: other}, ranges=True, multipart=False) as twin:
        index = write_index(tmp_path / "archive", tmp_path / "index.parquet", "replaced")
        before = mount(twin.url, "--index", index, "--cache-size", "8MiB", *NO_PREFETCH, at="before")
        with file_of(before, X).open("rb", buffering=0) as file:
            for offset in (0, 18 * MIB):
                assert os.pread(file.fileno(), MIB, offset) == older[offset : offset + MIB]
                sync(file_of(before, X))
        assert file_of(before, Y).read_bytes() == other  # in place of the beginning
        sync(file_of(before, X))
        unmount(before)
        replace_at(twin, tmp_path, X, newer)
        path = file_of(mount(twin.url, "--index", index, *NO_PREFETCH), X)
        with path.open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 4096, 0) == newer[:4096]
            for offset in (10 * MIB, 18 * MIB):
                assert result_of(partial(os.pread, file.fileno(), MIB, offset)) == errno.EIO
        assert path.read_bytes() == newer

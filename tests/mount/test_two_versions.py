"""Two places, or two moments, with different bytes of one instance: whoever reads it gets the one or the other."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from idcfs.settings import MIB
from scripts.harness import Mount
from tests.data import write_index
from tests.mount.conftest import MountMaker
from tests.mount.stage import counters
from tests.twin.client import Twin

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
def two_places(place: Path, archive: dict[str, bytes], buckets: dict[str, bytes]) -> Iterator[tuple[Twin, Twin]]:
    """The archive and the buckets, with these files by SOPInstanceUID."""
    for name, files in (("archive", archive), ("buckets", buckets)):
        for uid, data in files.items():
            path = place / name / SERIES / f"{uid}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    with Twin(data=place / "archive") as wado, Twin(data=place / "buckets") as bucket:
        yield wado, bucket


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
        index = write_index(tmp_path / "buckets", tmp_path / "index.parquet", "drift")
        made = mount(wado.url, "--index", index, "--bucket", bucket.bucket_url("{bucket}"), *NO_PREFETCH)
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

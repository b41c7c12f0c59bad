"""What is read through a mount is what is stored: every file that a real server takes, in every way of reading."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from scripts.harness import Mount, status
from tests.data import multiframe
from tests.mount.conftest import EVICTING, MountMaker
from tests.orthanc import Orthanc
from tests.twin.client import Twin

Originals = dict[str, bytes]
"""Bytes by SOPInstanceUID."""
TAKEN = 130
"""So many of the 135 instances among pydicom 3.0's test files does Orthanc take."""


@pytest.fixture(scope="module")
def originals(orthanc: Orthanc, dicom_files: dict[str, Path]) -> Originals:
    """What Orthanc took, as it was before it was uploaded."""
    listed = httpx.get(f"{orthanc.url}/instances", timeout=60, trust_env=False).json()
    held = {item["00080018"]["Value"][0] for item in listed}
    return {uid: path.read_bytes() for uid, path in dicom_files.items() if uid in held}


@pytest.fixture(params=["orthanc", "orthanc, evicting", "twin"])
def served(request: pytest.FixtureRequest, mount: MountMaker, originals: Originals, tmp_path: Path) -> Iterator[Mount]:
    """pydicom's files behind a mount, from the real server and from the twin."""
    if request.param != "twin":
        orthanc: Orthanc = request.getfixturevalue("orthanc")
        yield mount(orthanc.url, "--index", "qido", *(EVICTING if "evicting" in request.param else ()))
        return
    stored = tmp_path / "stored"
    stored.mkdir()
    for uid, content in originals.items():
        (stored / f"{uid}.dcm").write_bytes(content)
    with Twin(data=stored, profile="orthanc") as twin:
        yield mount(twin.url, "--index", "qido")


def files_of(mount: Mount, originals: Originals) -> dict[str, Path]:
    """The mounted files of ``originals``, by SOPInstanceUID."""
    return {path.stem: path for path in mount.path.rglob("*.dcm") if path.stem in originals}


def test_every_file_comes_back_whole(served: Mount, originals: Originals) -> None:
    files = files_of(served, originals)
    assert files.keys() == originals.keys()
    assert len(files) == TAKEN
    for uid, path in files.items():
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(originals[uid]).digest(), path


def test_every_file_comes_back_in_random_order(served: Mount, originals: Originals) -> None:
    chance = random.Random(1)
    for uid, path in files_of(served, originals).items():
        content = originals[uid]
        pieces = [(start, min(len(content), start + 40_000)) for start in range(0, len(content), 40_000)]
        chance.shuffle(pieces)
        with path.open("rb", buffering=0) as file:
            assert os.fstat(file.fileno()).st_size == len(content)
            for start, stop in pieces:
                assert os.pread(file.fileno(), stop - start, start) == content[start:stop]
            assert os.pread(file.fileno(), 10, len(content)) == b""


def test_every_file_can_be_mapped(served: Mount, originals: Originals) -> None:
    for uid, path in files_of(served, originals).items():
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[-100:] == originals[uid][-100:]
            assert mapped[:] == originals[uid]


@pytest.mark.parametrize("served", ["orthanc", "twin"], indirect=True)
def test_sixteen_readers_of_every_file_get_it_from_one_download(served: Mount, originals: Originals) -> None:
    files = files_of(served, originals)
    with ThreadPoolExecutor(16) as pool:
        for uid, path in files.items():
            assert set(pool.map(lambda _, path=path: path.read_bytes(), range(16))) == {originals[uid]}
    assert status(served.path)["counters"]["downloads"] == len(files)


def test_shared_mapping_and_tail_first_on_a_large_instance(mount: MountMaker, tmp_path: Path) -> None:
    path = multiframe(tmp_path / "large", 40, 512)
    content = path.read_bytes()
    with Twin(data=path.parent) as twin:
        mounted = mount(twin.url, "--index", "qido", "--memory-cache", "4MiB")
        file = next(mounted.path.rglob("*.dcm"))
        with file.open("rb", buffering=0) as handle:
            assert os.pread(handle.fileno(), 4096, len(content) - 4096) == content[-4096:]
            assert os.pread(handle.fileno(), 4096, 0) == content[:4096]
        assert file.read_bytes() == content

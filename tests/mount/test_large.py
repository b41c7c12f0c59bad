"""Large instances, and many files at once: no more is moved than is wanted, and no more memory taken than promised."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from idcfs.content import upkeep
from idcfs.settings import MIB
from scripts.harness import run
from tests.data import multiframe, write_index
from tests.mount.conftest import EVICTING, MountMaker
from tests.mount.stage import counters, errno_of, forget_pages, peak_mib, unmount
from tests.twin.client import Twin
from tests.waiting import eventually


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-frame instance of 252 MB."""
    return multiframe(tmp_path_factory.mktemp("big") / "stored", 480)


@pytest.fixture
def big_twin(big: Path) -> Iterator[Twin]:
    with Twin(data=big.parent) as twin:
        yield twin


def test_thirty_two_readers_of_one_file_are_one_download(mount: MountMaker, big_twin: Twin, big: Path) -> None:
    made = mount(big_twin.url, "--index", "qido", *EVICTING[:2])
    (file,) = made.path.rglob("*.dcm")
    content = big.read_bytes()
    places = [random.Random(number).randrange(len(content) - MIB) for number in range(32)]

    def read(place: int) -> bool:
        with file.open("rb", buffering=0) as handle:
            return os.pread(handle.fileno(), MIB, place) == content[place : place + MIB]

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(read, places))
    assert counters(made)["downloads"] == counters(made)["wado_requests"] == 1


def test_the_header_of_a_large_instance_moves_little_more_than_that(
    mount: MountMaker, big_twin: Twin, big: Path
) -> None:
    made = mount(big_twin.url, "--index", "qido")
    (file,) = made.path.rglob("*.dcm")
    assert subprocess.check_output(["head", "-c", "1000", file]) == big.read_bytes()[:1000]
    assert pydicom.dcmread(file, stop_before_pixels=True) == pydicom.dcmread(big, stop_before_pixels=True)
    assert counters(made)["bytes_from_archive"] < 4 * MIB, counters(made)
    assert counters(made)["downloads"] <= 2
    assert eventually(lambda: counters(made)["running_downloads"] == 0)
    assert counters(made)["bytes_from_archive"] < 4 * MIB, counters(made)


def test_a_tool_that_reads_the_last_page_first_makes_it_stream_once(
    mount: MountMaker, big_twin: Twin, big: Path
) -> None:
    made = mount(big_twin.url, "--index", "qido", *EVICTING[:2])
    (file,) = made.path.rglob("*.dcm")
    with file.open("rb", buffering=0) as handle:
        size = os.fstat(handle.fileno()).st_size
        assert os.pread(handle.fileno(), 4096, size - 4096) == big.read_bytes()[-4096:]
    assert run(["dcmdump", file]) == run(["dcmdump", big])
    forget_pages(file)
    assert file.read_bytes() == big.read_bytes()
    assert counters(made)["downloads"] == counters(made)["wado_requests"] == 1
    assert counters(made)["bytes_from_archive"] < size + MIB


def test_where_the_archive_knows_ranges_only_what_is_missing_is_asked_for(
    mount: MountMaker, big: Path, tmp_path: Path
) -> None:
    index = write_index(big.parent, tmp_path / "big.parquet")
    with Twin(data=big.parent, profile="static") as twin:
        first = mount(twin.url, "--index", index)
        (file,) = first.path.rglob("*.dcm")
        with file.open("rb", buffering=0) as handle:
            handle.read(10)
        unmount(first)
        kept = upkeep.info(tmp_path / "cache" / "blocks").blocks
        assert kept >= 2
        made = mount(twin.url, "--index", index)
        (file,) = made.path.rglob("*.dcm")
        assert file.read_bytes() == big.read_bytes()
        found = counters(made)
        missing = big.stat().st_size - kept * MIB
        compared = MIB + found["downloads"] * 2 * 64 * 1024  # the beginning, and where parts meet, before and after
        assert missing <= found["bytes_from_archive"] <= missing + compared
        assert found["wado_requests"] == found["downloads"] + 1  # to compare the beginning


def test_offline_a_file_of_which_a_part_is_cached_reads_as_far_as_that(
    mount: MountMaker, big_twin: Twin, big: Path
) -> None:
    first = mount(big_twin.url, "--index", "qido")
    (file,) = first.path.rglob("*.dcm")
    with file.open("rb", buffering=0) as handle:
        handle.read(10)
    assert eventually(lambda: counters(first)["disk_cache_bytes"] > 2 * MIB)
    unmount(first)
    made = mount(big_twin.url, "--index", "qido", "--offline")
    (file,) = made.path.rglob("*.dcm")
    with file.open("rb", buffering=0) as handle:
        assert os.fstat(handle.fileno()).st_size == big.stat().st_size
        assert os.pread(handle.fileno(), 1000, 0) == big.read_bytes()[:1000]
        assert errno_of(lambda: os.pread(handle.fileno(), 1000, 100 * MIB)) == errno.EHOSTUNREACH
    assert counters(made)["requests"] == 0


def test_sixty_four_readers_of_a_large_instance_take_no_more_memory_than_promised(
    mount: MountMaker, big_twin: Twin, big: Path
) -> None:
    made = mount(big_twin.url, "--index", "qido", "--memory-cache", "32MiB")
    (file,) = made.path.rglob("*.dcm")
    content = big.read_bytes()

    def read(number: int) -> bool:
        chance = random.Random(number)
        with file.open("rb", buffering=0) as handle:
            places = [chance.randrange(len(content) - MIB) for _ in range(6)]
            return all(os.pread(handle.fileno(), MIB, place) == content[place : place + MIB] for place in places)

    for _ in range(2):
        with ThreadPoolExecutor(64) as pool:
            assert all(pool.map(read, range(64)))
        forget_pages(file)
    assert counters(made)["downloads"] == 1
    assert peak_mib(made.pid) <= 32 + 150


def test_three_hundred_open_files_take_no_more_memory_than_promised(
    mount: MountMaker, ct_files: list[Path], tmp_path: Path
) -> None:
    with Twin(data=ct_files[0].parent) as twin:
        index = write_index(ct_files[0].parent, tmp_path / "ct.parquet")
        made = mount(twin.url, "--index", index, "--memory-cache", "32MiB")
        files = sorted(made.path.rglob("*.dcm"))
        stored = {path.name: path for path in ct_files}
        handles: list[int] = []
        try:
            handles += (os.open(file, os.O_RDONLY) for file in files)
            assert len(handles) == counters(made)["open_files"] == 300
            with ThreadPoolExecutor(32) as pool:
                for file, content in zip(files, pool.map(lambda one: os.pread(one, MIB, 0), handles), strict=True):
                    assert content == stored[file.name].read_bytes()
        finally:
            for handle in handles:
                os.close(handle)
        assert counters(made)["downloads"] == 300
        assert peak_mib(made.pid) <= 32 + 150

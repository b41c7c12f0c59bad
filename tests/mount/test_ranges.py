"""Large instances of an archive that knows ranges, as static files do: what moves, and that it is right."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.harness import Mount, run, status
from tests.data import multiframe, write_index
from tests.mount.conftest import EVICTING, MountMaker
from tests.mount.stage import forget_pages, peak_mib
from tests.twin.client import Twin
from tests.twin.model import Series
from tests.twin.synthetic import series_from_row, synthetic_bytes
from tests.waiting import eventually

MIB = 1024 * 1024
GIB = 1024 * MIB


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-frame instance of 84 MB."""
    return multiframe(tmp_path_factory.mktemp("slide") / "stored", 160)


@pytest.fixture(scope="module")
def index(stored: Path) -> Path:
    """With a content UUID, and the size, as of any one-instance series."""
    return write_index(stored.parent, stored.parent.parent / "slide.parquet")


@pytest.fixture
def slide_twin(stored: Path) -> Iterator[Twin]:
    with Twin(data=stored.parent, profile="static") as twin:
        yield twin


@dataclass(frozen=True)
class Slides:
    """A series of two slides of about 2 GB that nobody has to store."""

    index: Path
    series: Series

    def read(self, ordinal: int, offset: int, length: int) -> bytes:
        return synthetic_bytes(self.series, ordinal, offset, offset + length)


@pytest.fixture(scope="module")
def slides(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Slides:
    """Made from the row of the slide above; no size of either is known before it is opened."""
    (row,) = pq.read_table(index).to_pylist()
    row |= {"instanceCount": 2, "series_size_MB": 2 * 2 * GIB / 1e6}
    path = tmp_path_factory.mktemp("slides") / "slides.parquet"
    pq.write_table(pa.Table.from_pylist([row], pq.read_schema(index)), path)
    return Slides(path, series_from_row(row))


@contextmanager
def opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def moved(mount: Mount) -> int:
    """Bytes from the archive, once nothing moves any more."""
    assert eventually(lambda: status(mount.path)["counters"]["running_downloads"] == 0)
    found: int = status(mount.path)["counters"]["bytes_from_archive"]
    return found


def the_file(mount: Mount) -> Path:
    (file,) = mount.path.rglob("*.dcm")
    return file


@pytest.mark.parametrize("ordinal", [0, 1])
def test_a_megabyte_in_the_middle_of_two_gigabytes_moves_a_few(mount: MountMaker, slides: Slides, ordinal: int) -> None:
    with Twin(index=slides.index, profile="static") as twin:
        made = mount(twin.url, "--index", slides.index)
        file = sorted(made.path.rglob("*.dcm"))[ordinal]
        with opened(file) as descriptor:
            assert os.fstat(descriptor).st_size > 7 * GIB // 4
            content = os.pread(descriptor, MIB, GIB + 12_345)
        assert content in (slides.read(number, GIB + 12_345, MIB) for number in (0, 1))
        assert moved(made) <= 10 * MIB


def test_dcmdump_which_reads_the_last_page_first_moves_a_few_megabytes(
    mount: MountMaker, slide_twin: Twin, stored: Path, index: Path
) -> None:
    made = mount(slide_twin.url, "--index", index)
    assert run(["dcmdump", "-M", the_file(made)]) == run(["dcmdump", "-M", stored])  # without -M it loads the pixels
    assert moved(made) <= 10 * MIB


def test_one_odd_answer_to_a_range_takes_ranges_from_no_other_file(mount: MountMaker, slides: Slides) -> None:
    with Twin(index=slides.index, profile="static") as twin:
        made = mount(twin.url, "--index", slides.index, "--prefetch", "0")
        one, other = sorted(made.path.rglob("*.dcm"))
        with opened(one) as descriptor:
            assert len(os.pread(descriptor, 4096, 40 * MIB)) == 4096
            twin.set(fail_next=[400])
            assert len(os.pread(descriptor, 4096, 20 * MIB)) == 4096
        before = moved(made)
        with opened(other) as descriptor:
            content = os.pread(descriptor, 4096, GIB)
        assert content in (slides.read(number, GIB, 4096) for number in (0, 1))
        assert moved(made) - before <= 10 * MIB
        assert status(made.path)["counters"]["errors"] == 0


@pytest.mark.parametrize("options", [(), EVICTING], ids=["as usual", "evicting"])
def test_reading_in_order_is_right_and_moves_little_more_than_the_file(
    mount: MountMaker, slide_twin: Twin, stored: Path, index: Path, options: tuple[str, ...]
) -> None:
    made = mount(slide_twin.url, "--index", index, *options)
    assert the_file(made).read_bytes() == stored.read_bytes()
    found = status(made.path)["counters"]
    assert found["downloads"] > 4
    assert found["errors"] == 0
    under_way = MIB  # when the stream was cut with which it began
    seams = found["downloads"] * 64 * 1024
    assert moved(made) <= stored.stat().st_size + seams + under_way + (0 if not options else 16 * MIB)


@pytest.mark.parametrize("options", [("--memory-cache", "32MiB"), EVICTING], ids=["as usual", "evicting"])
def test_64_readers_at_once_read_what_is_stored_in_little_memory(
    mount: MountMaker, slide_twin: Twin, stored: Path, index: Path, options: tuple[str, ...]
) -> None:
    made = mount(slide_twin.url, "--index", index, *options)
    content, file = stored.read_bytes(), the_file(made)

    def read(number: int) -> bool:
        """Here and there, then a stretch in order."""
        chance = random.Random(number)
        with opened(file) as descriptor:
            places = [chance.randrange(len(content) - MIB) for _ in range(3)]
            places += [places[-1] + step * MIB // 4 for step in range(12)]
            return all(os.pread(descriptor, MIB, place) == content[place : place + MIB] for place in places)

    for _ in range(2):
        with ThreadPoolExecutor(64) as pool:
            assert all(pool.map(read, range(64)))
        forget_pages(file)
    assert status(made.path)["counters"]["errors"] == 0
    assert peak_mib(made.pid) <= 32 + 150


@pytest.mark.parametrize("readers", [1, 4])
def test_ranges_that_bring_other_bytes_than_they_say_from_some_byte_on_are_an_error(
    mount: MountMaker, slide_twin: Twin, stored: Path, index: Path, readers: int
) -> None:
    """Nothing tells so but that they do not go on where the others end."""
    slide_twin.set(range_style="slipped", slip_offset=30_000_000)
    made = mount(slide_twin.url, "--index", index)
    file = the_file(made)
    content = stored.read_bytes()

    def read_in_order(_: int) -> int:
        """The errno with which that ends."""
        position = 0
        with opened(file) as descriptor:
            try:
                while data := os.pread(descriptor, MIB, position):
                    assert content.startswith(data, position)
                    position += len(data)
            except OSError as error:
                return error.errno or 0
        assert position == len(content)
        return 0

    with ThreadPoolExecutor(readers) as pool:
        assert set(pool.map(read_in_order, range(readers))) == {errno.EIO}
    slide_twin.set(range_style="right")
    assert eventually(lambda: status(made.path)["counters"]["open_files"] == 0)  # the kernel tells of it a little later
    assert file.read_bytes() == content


def test_an_archive_that_is_killed_and_comes_back_breaks_no_file(
    mount: MountMaker, slide_twin: Twin, stored: Path, index: Path
) -> None:
    slide_twin.set(chunk_bytes=64 * 1024, bytes_per_second=20e6)
    made = mount(slide_twin.url, "--index", index, "--timeout", "20")
    with subprocess.Popen(["cat", the_file(made)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        beginning = cat.stdout.read(8 * MIB)
        slide_twin.restart()
        assert beginning + cat.stdout.read() == stored.read_bytes()
    assert cat.returncode == 0

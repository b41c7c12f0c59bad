"""What was fetched once is not fetched again: counters of the mount and of the archive as proof, not clocks."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
import SimpleITK as sitk

from idcfs.content import upkeep
from idcfs.namespace import store
from scripts.harness import IDCFS, Mount, run
from tests.data import multiframe, write_index
from tests.mount.conftest import EVICTING, MountMaker, eventually
from tests.mount.stage import contents, counters, errno_of
from tests.twin.client import Twin

MIB = 1024 * 1024


def forget_pages(*files: Path) -> None:
    """Let the kernel forget what it keeps of these files, so that reading them asks the mount."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def unmount(mount: Mount) -> None:
    run([*IDCFS, "umount", mount.path])


@pytest.fixture(scope="module")
def originals(sample: Path) -> dict[str, bytes]:
    return contents(sample)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-frame instance of 252 MB."""
    return multiframe(tmp_path_factory.mktemp("big") / "stored", 480)


@pytest.fixture(scope="module")
def chest(sample: Path) -> Path:
    """Where in a mount a CT series of 60 instances of 0.5 MB is."""
    (directory,) = [path for path in sample.rglob("*") if len(list(path.glob("*.dcm"))) == 60]
    header = pydicom.dcmread(next(directory.iterdir()), stop_before_pixels=True)
    return Path("chest_twin", header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID)


@pytest.fixture
def big_twin(big: Path) -> Iterator[Twin]:
    with Twin(data=big.parent) as twin:
        yield twin


# --- nothing twice ---------------------------------------------------------------------------------------------------


def test_the_second_read_of_a_series_sends_no_request(
    mount: MountMaker, twin: Twin, sample_index: Path, chest: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    first = contents(made.path / chest)
    before = counters(made)["requests"]
    assert before == 1 + 60  # one list, sixty instances
    forget_pages(*(made.path / chest).iterdir())
    assert contents(made.path / chest) == first
    assert counters(made)["requests"] == before


def test_after_a_remount_neither_lists_nor_sizes_nor_contents_are_asked_for(
    mount: MountMaker, twin: Twin, sample_index: Path, originals: dict[str, bytes], chest: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    contents(made.path / chest)
    listed = run(["ls", "-ln", made.path / chest])
    unmount(made)
    twin.reset()
    again = mount(twin.url, "--index", sample_index)
    assert run(["ls", "-ln", again.path / chest]) == listed
    for name, content in contents(again.path / chest).items():
        assert content == originals[name]
        assert (again.path / chest / f"{name}.dcm").stat().st_size == len(content)
    assert counters(again)["requests"] == 0
    assert not twin.counters()["requests"]


def test_ls_of_a_series_sends_one_query(mount: MountMaker, twin: Twin, sample_index: Path, chest: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    for _ in range(2):
        assert run(["ls", "-l", made.path / chest]).count(".dcm") == 60
    assert (counters(made)["qido_requests"], counters(made)["wado_requests"]) == (1, 0)


def test_two_mounts_share_what_either_has_fetched(
    mount: MountMaker, twin: Twin, sample_index: Path, originals: dict[str, bytes], chest: Path, tmp_path: Path
) -> None:
    one, two = (mount(twin.url, "--index", sample_index, at=name) for name in ("one", "two"))
    size = sum(map(len, contents(one.path / chest).values()))
    assert eventually(lambda: counters(one)["disk_cache_bytes"] >= size)
    assert eventually(lambda: store.info(tmp_path / "cache" / "series.sqlite").sizes >= 60)
    assert all(content == originals[name] for name, content in contents(two.path / chest).items())
    assert counters(two)["wado_requests"] == 0


def test_two_mounts_that_read_at_once_and_evict_each_other(
    mount: MountMaker, twin: Twin, sample_index: Path, originals: dict[str, bytes], chest: Path
) -> None:
    mounts = [mount(twin.url, "--index", sample_index, *EVICTING, at=name) for name in ("one", "two")]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda number: contents(mounts[number % 2].path / chest), range(4)):
            assert all(content == originals[name] for name, content in found.items())


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


def test_itk_opens_each_file_eight_times_and_downloads_it_once(
    mount: MountMaker, twin: Twin, sample_index: Path, chest: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(made.path / chest)))
    assert reader.Execute().GetSize()[2] == 60
    assert counters(made)["downloads"] == counters(made)["wado_requests"] == 60


# --- no more than is wanted ------------------------------------------------------------------------------------------


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
        assert missing <= found["bytes_from_archive"] <= missing + found["downloads"] * 64 * 1024  # compared: no more
        assert found["wado_requests"] == found["downloads"]


def test_siblings_are_fetched_before_anyone_asks_and_never_past_the_series(
    mount: MountMaker, twin: Twin, sample_index: Path, chest: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    files = sorted((made.path / chest).iterdir())
    files[0].read_bytes()
    assert counters(made)["wado_requests"] == 1
    files[1].read_bytes()
    assert eventually(lambda: counters(made)["prefetched"] == 32)
    assert counters(made)["wado_requests"] == 34
    for file in files:
        file.read_bytes()
    found = counters(made)
    assert found["wado_requests"] == 60
    assert (found["prefetched"], found["prefetched_used"], found["qido_requests"]) == (58, 58, 1)


def test_prefetching_can_be_switched_off(mount: MountMaker, twin: Twin, sample_index: Path, chest: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    for file in sorted((made.path / chest).iterdir())[:5]:
        file.read_bytes()
    assert counters(made)["wado_requests"] == 5


# --- without the archive ---------------------------------------------------------------------------------------------


def assert_only_what_is_cached_is_there(made: Mount, chest: Path, originals: dict[str, bytes]) -> None:
    """The chest series is; the rest of the archive fails as documented."""
    found = contents(made.path / chest)
    assert len(found) == 60
    assert all(content == originals[name] for name, content in found.items())
    assert all((made.path / chest / f"{name}.dcm").stat().st_size == len(found[name]) for name in found)
    assert errno_of(lambda: os.stat(made.path / chest / "1.2.3.dcm")) == errno.ENOENT
    others = [path for path in made.path.glob("*/*/*/*") if path != made.path / chest]
    assert others
    for other in others:
        assert errno_of(lambda other=other: os.listdir(other)) == errno.EHOSTUNREACH  # type: ignore[misc]
        assert errno_of(lambda other=other: os.stat(other / "1.2.3.dcm")) == errno.EHOSTUNREACH  # type: ignore[misc]


def test_offline_what_is_cached_works_and_no_request_is_sent(
    mount: MountMaker, twin: Twin, sample_index: Path, originals: dict[str, bytes], chest: Path
) -> None:
    first = mount(twin.url, "--index", sample_index)
    contents(first.path / chest)
    unmount(first)
    twin.reset()
    made = mount(twin.url, "--index", sample_index, "--offline")
    assert_only_what_is_cached_is_there(made, chest, originals)
    assert counters(made)["requests"] == 0
    assert not twin.counters()["requests"]


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


def test_an_archive_that_goes_away_takes_nothing_with_it_that_is_cached(
    mount: MountMaker, sample: Path, sample_index: Path, originals: dict[str, bytes], chest: Path
) -> None:
    with Twin(data=sample) as twin:
        made = mount(twin.url, "--index", sample_index, "--timeout", "2")
        contents(made.path / chest)
    forget_pages(*(made.path / chest).iterdir())
    assert_only_what_is_cached_is_there(made, chest, originals)


# --- what happens to the cache ---------------------------------------------------------------------------------------


def test_a_mount_killed_while_it_reads_leaves_no_wrong_byte(
    mount: MountMaker, twin: Twin, sample_index: Path, originals: dict[str, bytes], chest: Path, tmp_path: Path
) -> None:
    def has_kept(instances: int) -> bool:
        sizes = store.info(tmp_path / "cache" / "series.sqlite").sizes
        return sizes >= instances and upkeep.info(tmp_path / "cache" / "blocks").blocks >= instances

    for number in range(1, 4):
        made = mount(twin.url, "--index", sample_index)
        with ThreadPoolExecutor(4) as pool:
            reading = [pool.submit(file.read_bytes) for file in (made.path / chest).iterdir()]
            assert eventually(lambda number=number: has_kept(15 * number))  # type: ignore[misc]
            os.kill(made.pid, signal.SIGKILL)
            for one in reading:
                one.exception()
        subprocess.run(["fusermount3", "-u", "-z", made.path], check=True)
    again = mount(twin.url, "--index", sample_index)
    assert all(content == originals[name] for name, content in contents(again.path / chest).items())
    assert counters(again)["disk_damaged"] == 0
    assert counters(again)["disk_hits"] > 0


def test_a_flipped_bit_is_fetched_again_and_counted(
    mount: MountMaker, twin: Twin, sample_index: Path, originals: dict[str, bytes], chest: Path, tmp_path: Path
) -> None:
    first = mount(twin.url, "--index", sample_index)
    contents(first.path / chest)
    unmount(first)
    for file in sorted((tmp_path / "cache" / "blocks").glob("??/*"))[:5]:
        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        file.write_bytes(damaged)
    made = mount(twin.url, "--index", sample_index)
    assert all(content == originals[name] for name, content in contents(made.path / chest).items())
    assert (counters(made)["disk_damaged"], counters(made)["wado_requests"]) == (5, 5)


def test_with_every_tier_evicting_all_the_time_bytes_are_right(
    mount: MountMaker, twin: Twin, sample_index: Path, originals: dict[str, bytes]
) -> None:
    made = mount(twin.url, "--index", sample_index, *EVICTING)
    files = sorted(made.path.rglob("*.dcm"))
    assert len(files) == len(originals)
    chance = random.Random(1)

    def read(file: Path) -> bool:
        content = originals[file.stem]
        with file.open("rb", buffering=0) as handle:
            places = [chance.randrange(len(content)) for _ in range(5)]
            pieces = all(os.pread(handle.fileno(), 5000, place) == content[place : place + 5000] for place in places)
            return pieces and handle.readall() == content

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, chance.sample(files, len(files))))
    forget_pages(*files)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, chance.sample(files, len(files))))
    found = counters(made)
    assert found["errors"] == 0
    assert found["cache_bytes"] <= 2 * MIB
    assert found["disk_cache_bytes"] <= 8 * MIB
    assert found["downloads"] > len(files)  # it did evict


def test_a_full_disk_is_an_uncached_read_and_one_warning(
    mount: MountMaker,
    twin: Twin,
    sample_index: Path,
    sample_catalog: Path,
    originals: dict[str, bytes],
    chest: Path,
    tmp_path: Path,
    log_of: Any,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sample_catalog.stat().st_size + 6 * MIB
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", disk], check=True)
    try:
        made = mount(twin.url, "--index", sample_index, cache=disk)
        left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with (disk / "somebody's").open("wb") as other:
            other.write(bytes(left - 100_000))
        assert all(content == originals[name] for name, content in contents(made.path / chest).items())
        assert counters(made)["errors"] == 0
        unmount(made)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert log_of().count(" WARNING idcfs.content.") <= 1


def test_without_a_disk_cache_nothing_is_written(
    mount: MountMaker, twin: Twin, sample_index: Path, chest: Path, tmp_path: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, "--cache-size", "0")
    contents(made.path / chest)
    assert counters(made)["disk_cache_bytes"] == 0
    assert not (tmp_path / "cache" / "blocks").exists()


# --- memory ----------------------------------------------------------------------------------------------------------


def peak_mib(pid: int) -> float:
    """The largest resident set so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


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

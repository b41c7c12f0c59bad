"""What was fetched once is not fetched again: counters of the mount and of the archive as proof, not clocks."""

from __future__ import annotations

import errno
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
import SimpleITK as sitk

from idcfs.content import upkeep
from idcfs.namespace import store
from idcfs.settings import MIB
from scripts.harness import Mount, detach, run
from tests.mount.conftest import EVICTING, MountMaker
from tests.mount.stage import contents, counters, errno_of, forget_pages, unmount
from tests.small_disk import small_disk
from tests.twin.client import Twin
from tests.unprivileged import only_root
from tests.waiting import eventually


@pytest.fixture(scope="module")
def originals(sample: Path) -> dict[str, bytes]:
    return contents(sample)


@pytest.fixture(scope="module")
def chest(sample: Path) -> Path:
    """Where in a mount a CT series of 60 instances of 0.5 MB is."""
    (directory,) = [path for path in sample.rglob("*") if len(list(path.glob("*.dcm"))) == 60]
    header = pydicom.dcmread(next(directory.iterdir()), stop_before_pixels=True)
    return Path("chest_twin", header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID)


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


def test_itk_opens_each_file_eight_times_and_downloads_it_once(
    mount: MountMaker, twin: Twin, sample_index: Path, chest: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(made.path / chest)))
    assert reader.Execute().GetSize()[2] == 60
    assert counters(made)["downloads"] == counters(made)["wado_requests"] == 60


# --- no more than is wanted ------------------------------------------------------------------------------------------


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
        detach(made.path)
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


@only_root("mounts a disk that is soon full")
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
    with small_disk(tmp_path / "disk", sample_catalog.stat().st_size + 6 * MIB) as disk:
        made = mount(twin.url, "--index", sample_index, cache=disk)
        left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with (disk / "somebody's").open("wb") as other:
            other.write(bytes(left - 100_000))
        assert all(content == originals[name] for name, content in contents(made.path / chest).items())
        assert counters(made)["errors"] == 0
        unmount(made)
    assert log_of().count(" WARNING idcfs.content.") <= 1


def test_without_a_disk_cache_nothing_is_written(
    mount: MountMaker, twin: Twin, sample_index: Path, chest: Path, tmp_path: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, "--cache-size", "0")
    contents(made.path / chest)
    assert counters(made)["disk_cache_bytes"] == 0
    assert not (tmp_path / "cache" / "blocks").exists()

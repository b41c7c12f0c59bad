"""Scenarios of what was read before: from the kernel's page cache, and from the disk tier."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from scripts.bench.measuring import BIG_FRAMES, Bench, drop_page_cache, read_all, seconds_to_read
from scripts.bench.table import Promise
from scripts.harness import status
from tests.data import ct_series, multiframe, write_index
from tests.twin.client import Twin

TMPFS = Path("/dev/shm")

WARM_BIG = Promise("warm re-read of one big file, share of local disk's speed", "×", at_least=0.8)
WARM_CEILING = Promise("… the same of tmpfs, whose pages are single as FUSE's are", "×")
"""What a kernel without a daemon reaches with pages of 4 KiB: ext4's are up to 64 times as large (docs/measured.md)."""
WARM_SPEED = Promise("… in figures", "MB/s")
WARM_SERIES = Promise("warm re-read of 300 slices, share of local disk's speed", "×")
"""Without a bound: opening a file costs any FUSE some round trips of 50 µs, and copying a whole slice costs no more."""
DISK_BIG = Promise("one big file from the disk tier, page cache dropped", "MB/s", at_least=500)
DISK_BIG_RAW = Promise("… the same file on the local disk, page cache dropped", "MB/s")
DISK_SERIES = Promise("300 slices from the disk tier, page cache dropped", "MB/s")
"""Without a bound: finding and opening them again takes so long that from memory, too, they come at 400–700 MB/s."""
DISK_SERIES_RAW = Promise("… the same slices on the local disk, page cache dropped", "MB/s")
DISK_REQUESTS = Promise("requests sent by reading from the disk tier", "", at_most=0)


def warm(bench: Bench) -> None:
    """Read again what was read before, and the same files on the local disk."""
    source, index = _big_and_series(bench, "warm")
    with Twin(data=source) as twin, bench.mounted("--archive", twin.url, "--index", index, cache="warm") as mount:
        for name, promise in (("big", WARM_BIG), ("series", WARM_SERIES)):
            through_mount, local = _files(mount.path / name), _files(source / name)
            size = read_all(through_mount)
            read_all(local)
            with tempfile.TemporaryDirectory(dir=TMPFS) as memory:
                in_memory = [Path(shutil.copy(file, memory)) for file in local]
                for _ in range(2 * bench.runs + 1):  # cheap, and noisier than the rest
                    here, there, nowhere = (seconds_to_read(files) for files in (through_mount, local, in_memory))
                    bench.record(promise, there / here)
                    if promise is WARM_BIG:
                        bench.record(WARM_CEILING, there / nowhere)
                        bench.record(WARM_SPEED, size / here / 1e6)


def disk(bench: Bench) -> None:
    """Read from the disk tier, offline and with nothing in memory, and the same files from the local disk; as root."""
    drop_page_cache()  # if it cannot be, say so before the work
    source, index = _big_and_series(bench, "disk")
    with Twin(data=source) as twin:
        options = ("--archive", twin.url, "--index", index)
        with bench.mounted(*options, cache="disk") as mount:
            read_all(_files(mount.path))
    for _ in range(bench.runs):
        with bench.mounted(*options, "--offline", cache="disk") as mount:
            for name, promise, raw in (("big", DISK_BIG, DISK_BIG_RAW), ("series", DISK_SERIES, DISK_SERIES_RAW)):
                bench.record(promise, _speed_from_disk(_files(mount.path / name)))
                bench.record(raw, _speed_from_disk(_files(source / name)))
            bench.record(DISK_REQUESTS, status(mount.path)["counters"]["requests"])


def _big_and_series(bench: Bench, name: str) -> tuple[Path, Path]:
    """A directory with a multi-frame instance of 252 MB and a CT of 300 slices, and an index over it."""
    source = bench.scratch / name
    multiframe(source / "big", BIG_FRAMES)
    ct_series(source / "series")
    return source, write_index(source, bench.scratch / f"{name}.parquet")


def _files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.dcm"))


def _speed_from_disk(files: list[Path]) -> float:
    """MB/s of files of which the kernel keeps nothing."""
    drop_page_cache()
    seconds = seconds_to_read(files)
    return sum(file.stat().st_size for file in files) / seconds / 1e6

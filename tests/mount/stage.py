"""What tests find in a mount, and a mount on which one fault after the other is played."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from scripts.harness import IDCFS, Mount, mounted, run, status
from tests.data import ct_series, write_index
from tests.mount.conftest import PROXY_VARIABLE, STRICT, without_bugs
from tests.mount.faults import LIMIT_SECONDS, MULTIPART, SINGLE
from tests.twin.client import Twin
from tests.waiting import eventually

SLICES = 260
_OTHER = {SINGLE: "multipart", MULTIPART: "single_part"}

WADO = "/dicomWeb"
"""What the paths of the archive have in them, and those of the buckets do not."""


def buckets(twin: Twin) -> tuple[str, str]:
    return "--bucket", twin.bucket_url("{bucket}")


@dataclass(frozen=True, slots=True)
class Stage:
    """A mount over a twin, and what nobody has asked for yet: what was read once comes from a cache."""

    mount: Mount
    twin: Twin
    originals: dict[str, bytes]
    unread: list[Path]
    """Files of one series, in the order of their InstanceNumbers."""
    alone: list[Path]
    """Files whose size is known before: alone in their series."""
    unlisted: list[Path]
    """Series of one instance that have not been listed."""

    def read(self, path: Path) -> int:
        """The errno with which reading ends, 0 at the end; fails for a wrong byte, or if a call takes too long."""
        original, got, began = self.originals[path.name], b"", time.monotonic()
        try:
            with path.open("rb", buffering=0) as file:
                began = time.monotonic()
                while chunk := file.read(64 * 1024):
                    got, began = got + chunk, time.monotonic()
        except OSError as error:
            assert original.startswith(got)
            assert time.monotonic() - began < LIMIT_SECONDS
            return error.errno or 0
        assert got == original
        return 0

    def unread_of_every_tenth(self) -> list[Path]:
        """Files whose InstanceNumbers end in 1 … 9."""
        ten, self.unread[:10] = self.unread[:10], []
        return ten[:9]


def make_files(directory: Path) -> Path:
    """260 slices of one series, and 40 series of one instance; 131 kB each."""
    ct_series(directory / "many", SLICES, 256)
    for number in range(40):
        ct_series(directory / f"alone-{number:02}", 1, 256, description=f"alone {number}")
    return directory


@contextlib.contextmanager
def stages(
    files: Path, place: Path, options: Callable[[Twin], Sequence[str]], **knobs: Any
) -> Iterator[Callable[[str], Stage]]:
    """What gives the stage whose archive, the proxy, answers in that form: made when it is first asked for.

    :param options: of its mount, besides the usual ones.
    """
    index = write_index(files, place / "index.parquet", "faults")
    with without_bugs(place / "state"), contextlib.ExitStack() as stack:

        @functools.cache
        def make(form: str) -> Stage:
            twin = stack.enter_context(Twin(data=files, **knobs | {_OTHER[form]: False}))
            usual = ("--archive", "proxy", "--index", index, "--cache-dir", place / f"cache-{form}", "--prefetch", "0")
            directory, state, env = (
                place.resolve() / form,
                place / "state",
                {**os.environ, **STRICT, PROXY_VARIABLE: twin.url},
            )
            mount = mounted(directory, *usual, *options(twin), state_dir=state, env=env)
            return _stage(files, stack.enter_context(mount), twin)

        yield make


def _stage(files: Path, mount: Mount, twin: Twin) -> Stage:
    many = ct_series(files / "many", SLICES, 256)
    crowd = str(pydicom.dcmread(many[0], stop_before_pixels=True).SeriesInstanceUID)
    directories = sorted(mount.path.glob("*/*/*/*"))
    (series,) = [path for path in directories if path.name == crowd]
    directories.remove(series)
    return Stage(
        mount,
        twin,
        originals={path.name: path.read_bytes() for path in files.rglob("*.dcm")},
        unread=[series / path.name for path in many],
        alone=[path for directory in directories[:20] for path in directory.iterdir()],
        unlisted=directories[20:],
    )


def a_series(mount: Mount, instances: int = 60, collection: str = "chest_twin") -> Path:
    """The one series of the sample's collection with so many instances; the 60 are of 0.5 MB."""
    (series,) = [path for path in mount.path.glob(f"{collection}/*/*/*") if len(os.listdir(path)) == instances]
    return series


def counters(mount: Mount) -> dict[str, Any]:
    """What the mount has counted so far."""
    found: dict[str, Any] = status(mount.path)["counters"]
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """The files below a directory, of a mount or of what is served, by SOPInstanceUID."""
    return {path.stem: path.read_bytes() for path in sorted(directory.rglob("*.dcm"))}


def read_over_a_break(mount: Mount, twin: Twin, path: Path) -> bytes:
    """The file, if the connection it comes over ends after some 300 kB of it, and the archive takes a new one."""
    before = counters(mount)["bytes_from_archive"]
    twin.set(match="/instances/", stall_after_bytes=300_000)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(path.read_bytes)
        assert eventually(lambda: counters(mount)["bytes_from_archive"] - before > 200_000)
        assert not reading.done()
        twin.hang_up()
        twin.set(stall_after_bytes=None)
        return reading.result()


def errno_of(call: Callable[[], Any]) -> int:
    """The errno a call fails with; 0 if it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def forget_pages(*files: Path) -> None:
    """Let the kernel forget what it keeps of these files, so that reading them asks the mount."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def sync(path: Path) -> None:
    """Have on disk what the mount of a file has fetched, and its list."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def unmount(mount: Mount) -> None:
    """Take it off, so that all it knows is written."""
    run([*IDCFS, "umount", mount.path])


def peak_mib(pid: int) -> float:
    """The largest resident set so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024

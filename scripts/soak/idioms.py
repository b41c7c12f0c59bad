"""How programs read: each function is what one of them does to a mount, and compares all of it with the truth."""

from __future__ import annotations

import json
import mmap
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.soak.calls import NAMES, SIZE, STATUS, CallFailed, Calls
from scripts.soak.truth import PROVISIONAL_BYTES, File, Truth, directory_of, files_of, names_in
from tests.twin.model import Series

_KIB = 1024
_MIB = 1024 * _KIB
_MOST_BYTES = 8 * _MIB
"""Of one file at a time: others want their turn too."""
_UID = ".uid"
_STATUS = ".status.json"


@dataclass(slots=True)
class Reader:
    """Who reads: through which mount, and what."""

    truth: Truth
    calls: Calls
    choice: random.Random
    mounts: dict[str, Path]
    mount: str = ""
    """The one in use."""

    def turn_to(self, mount: str) -> None:
        self.mount = mount

    def place(self, path: str) -> str:
        """Where something is on this machine."""
        return f"{self.mounts[self.mount]}/{path}"

    def series(self) -> Series:
        """Mostly of those that others read as well."""
        hot = self.choice.random() < 0.7
        return self.choice.choice(self.truth.hot(time.monotonic()) if hot else self.truth.series)

    def file(self) -> File:
        if self.choice.random() < 0.15:
            return self.choice.choice(self.truth.large)
        return self.choice.choice(files_of(self.series()))

    @contextmanager
    def opened(self, file: File) -> Iterator[Opened]:
        """An open file; mostly the kernel forgets its pages at the end, so that the mount is asked again."""
        since = time.monotonic()
        with self.calls.call("open", self.mount, file.path):
            descriptor = os.open(self.place(file.path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            one = Opened(self, file, since, descriptor)
            one.check_size()
            yield one
            if self.choice.random() < 0.8:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


@dataclass(slots=True)
class Opened:
    """An open file."""

    reader: Reader
    file: File
    since: float
    descriptor: int

    def check_size(self) -> None:
        """It is exact since the file is open."""
        with self.reader.calls.call("fstat", self.reader.mount, self.file.path, self.since):
            size = os.fstat(self.descriptor).st_size
        if size != self.file.size:
            told = f"{self.file.path}: {size} for {self.file.size}"
            self.reader.calls.note(SIZE, self.reader.mount, told, self.since)

    def read(self, offset: int, length: int) -> None:
        """Read so many bytes, however many calls that takes, and compare them."""
        got = bytearray()
        try:
            while len(got) < length:
                with self.reader.calls.call("read", self.reader.mount, self.file.path, self.since):
                    piece = os.pread(self.descriptor, length - len(got), offset + len(got))
                if not piece:
                    break
                got += piece
        except CallFailed:
            self._compare(offset, len(got), got)  # the error says why no more came; what did come has to be right
            raise
        self._compare(offset, length, got)

    def read_on(self, start: int, stop: int, step: int) -> None:
        for offset in range(start, min(stop, self.file.size), step):
            self.read(offset, step)

    def _compare(self, offset: int, length: int, got: bytearray) -> None:
        self.reader.calls.compare(self.reader.mount, self.file, self.since, offset, length, bytes(got))


# --- whole files ------------------------------------------------------------------------------------------------------


def whole(reader: Reader) -> None:
    """cat, cp: from start to end."""
    with reader.opened(reader.file()) as one:
        one.read_on(0, _MOST_BYTES, reader.choice.choice([16 * _KIB, 128 * _KIB, _MIB]))
        if one.file.size <= _MOST_BYTES:
            one.read(one.file.size, 4 * _KIB)  # there is nothing beyond the end


def series_in_order(reader: Reader) -> None:
    """SimpleITK: each file of a series, one after the other, in the order of its slices."""
    left = 2 * _MOST_BYTES
    for file in files_of(reader.series()):
        with reader.opened(file) as one:
            one.read_on(0, left, 256 * _KIB)
        left -= file.size
        if left <= 0:
            return


def headers(reader: Reader) -> None:
    """pydicom with stop_before_pixels: the beginning of each file of a series."""
    for file in files_of(reader.series()):
        with reader.opened(file) as one:
            one.read(0, 4 * _KIB)


# --- pieces -----------------------------------------------------------------------------------------------------------


def random_pieces(reader: Reader) -> None:
    """OpenSlide: pieces from anywhere."""
    with reader.opened(reader.file()) as one:
        for _ in range(reader.choice.randint(3, 20)):
            one.read(reader.choice.randrange(one.file.size), reader.choice.choice([100, 4_000, 65_536, 300_000]))


def tail_first(reader: Reader) -> None:
    """dcm2niix, dcmdump: the end, then the beginning."""
    with reader.opened(reader.file()) as one:
        one.read(max(0, one.file.size - 4 * _KIB), 8 * _KIB)
        one.read_on(0, _MIB, 64 * _KIB)


def mapped(reader: Reader) -> None:
    """np.memmap: pages from anywhere. What cannot be had ends the process (SIGBUS)."""
    with reader.opened(reader.file()) as one:
        calls, mount, file = reader.calls, reader.mount, one.file
        with (
            calls.call("mmap", mount, file.path, one.since),
            mmap.mmap(one.descriptor, file.size, prot=mmap.PROT_READ) as pages,
        ):
            for _ in range(reader.choice.randint(2, 10)):
                offset = reader.choice.randrange(file.size)
                length = reader.choice.choice([1, 4_096, 100_000])
                calls.compare(mount, file, one.since, offset, length, pages[offset : offset + length])


def held(reader: Reader) -> None:
    """A viewer: a file that stays open while everything around it changes."""
    with reader.opened(reader.file()) as one:
        for _ in range(reader.choice.randint(3, 10)):
            one.read(reader.choice.randrange(one.file.size), 32 * _KIB)
            time.sleep(0.3)


def only_opened(reader: Reader) -> None:
    """file -i, a preview that is not wanted any more: opened, and closed at once."""
    for _ in range(5):
        with reader.opened(reader.file()):
            pass


# --- names ------------------------------------------------------------------------------------------------------------


def listed(reader: Reader) -> None:
    """ls -l of a series."""
    series = reader.series()
    path = directory_of(series)
    since = time.monotonic()
    with reader.calls.call("listdir", reader.mount, path):
        names = os.listdir(reader.place(path))
    if set(names) != names_in(series) or len(names) != series.instance_count:
        reader.calls.note(NAMES, reader.mount, f"{path}: {len(names)} for {series.instance_count}", since)
    for file in files_of(series):
        _stat(reader, file)


def _stat(reader: Reader, file: File) -> None:
    since = time.monotonic()
    with reader.calls.call("stat", reader.mount, file.path):
        size = os.stat(reader.place(file.path)).st_size
    if size != file.size and (size % PROVISIONAL_BYTES or not size):
        told = f"{file.path}: {size}, for {file.size} or a guess"
        reader.calls.note(SIZE, reader.mount, told, since)


def found(reader: Reader) -> None:
    """find: the directories above the series."""
    below = reader.choice.choice(sorted(reader.truth.children))
    for path in [path for path in reader.truth.children if path == below or path.startswith(f"{below}/")][:50]:
        since = time.monotonic()
        with reader.calls.call("listdir", reader.mount, path):
            names = {entry.name for entry in os.scandir(reader.place(path)) if entry.is_dir(follow_symlinks=False)}
        if names != reader.truth.children[path]:
            reader.calls.note(NAMES, reader.mount, f"{path}: {len(names)}", since)


def absent(reader: Reader) -> None:
    """What is not there is not there."""
    path = f"{directory_of(reader.series())}/2.25.{reader.choice.randrange(10**9)}.dcm"
    since = time.monotonic()
    with reader.calls.call("stat", reader.mount, path):
        try:
            os.stat(reader.place(path))
        except FileNotFoundError:
            return
    reader.calls.note(NAMES, reader.mount, f"{path} is there", since)


def attributes(reader: Reader) -> None:
    """getfattr of a series and a file."""
    file = reader.file()
    for path in (directory_of(file.series), file.path):
        since = time.monotonic()
        with reader.calls.call("getxattr", reader.mount, path):
            value = os.getxattr(reader.place(path), "user.idc.series_uid")
        if value.decode() != file.series.series_uid:
            reader.calls.note(NAMES, reader.mount, f"{path} is of series {value!r}", since)


def links(reader: Reader) -> None:
    """/.uid/<UID> of a series, and of a file."""
    file = reader.file()
    wanted = {file.series.series_uid: directory_of(file.series)}
    if reader.mount == "wado":  # where an instance is only the archive tells: for the others its faults are theirs, too
        wanted[file.uid] = file.path
    for uid, path in wanted.items():
        since = time.monotonic()
        with reader.calls.call("readlink", reader.mount, f"{_UID}/{uid}"):
            target = os.readlink(reader.place(f"{_UID}/{uid}"))
        if target != f"../{path}":
            reader.calls.note(NAMES, reader.mount, f"{_UID}/{uid} leads to {target}", since)


def status(reader: Reader) -> None:
    """What the mount says of itself."""
    since = time.monotonic()
    with reader.calls.call("read", reader.mount, _STATUS):
        text = Path(reader.place(_STATUS)).read_bytes()
    try:
        counters = json.loads(text)["counters"]
    except (ValueError, KeyError):
        reader.calls.note(STATUS, reader.mount, f"{_STATUS}: {text[:100]!r}", since)
        return
    if any(value < 0 for value in counters.values()):
        reader.calls.note(STATUS, reader.mount, f"{_STATUS}: {counters}", since)


IDIOMS: dict[Callable[[Reader], None], int] = {
    whole: 20,
    series_in_order: 8,
    headers: 8,
    random_pieces: 20,
    tail_first: 8,
    mapped: 8,
    held: 3,
    only_opened: 6,
    listed: 8,
    found: 2,
    absent: 2,
    attributes: 3,
    links: 2,
    status: 1,
}
"""With their weights."""

"""Python's own ways to read files, and numpy's."""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import mmap
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.tools.idiom import Idiom, Outcome, Place, Work, tree

_CONTENTS = "the contents"
_COPIES = "the copies"
_UNPACKED = "what is unpacked"


def each(read: Callable[[Path], Any]) -> Work:
    """What ``read`` makes of each file, by its name."""
    return lambda place: {path.name: read(path) for path in place.files()}


def _copies(copy: Callable[[Path, Path], object]) -> Work:
    """The files that ``copy(source, target)`` makes, one by one."""

    def work(place: Place) -> dict[str, str]:
        for path in place.files():
            copy(path, place.target / path.name)
        return tree(place.target)

    return work


def _digest(content: bytes | mmap.mmap | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_as_many_as_told(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        return _digest(file.read(size))


def _pieces(path: Path) -> tuple[int, bytes, bytes, bytes]:
    """The end before the beginning, and beyond the end."""
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        number = file.fileno()
        return size, os.pread(number, 1000, size - 1000), os.pread(number, 1000, size - 10), os.pread(number, 1000, 0)


def _by_mmap(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _digest(mapped)


def _by_private_mmap(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:7] = b"changed"
        return _digest(mapped)


def _by_mmap_of_as_many_as_told(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        return _digest(mapped)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _locked(path: Path) -> str:
    with path.open("rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _digest(file.read())


def _by_threads(place: Place) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_file_digest, place.files() * 4))


def _sendfile(source: Path, target: Path) -> None:
    with source.open("rb") as file, target.open("wb") as copy:
        size, sent = os.fstat(file.fileno()).st_size, 0
        while sent < size:
            sent += os.sendfile(copy.fileno(), file.fileno(), sent, size - sent)


def _splice(source: Path, target: Path) -> None:
    ends = os.pipe()
    try:
        with source.open("rb") as file, target.open("wb") as copy:
            while count := os.splice(file.fileno(), ends[1], 64 * 1024):
                while count:
                    count -= os.splice(ends[0], copy.fileno(), count)
    finally:
        for end in ends:
            os.close(end)


def _copy2(place: Place) -> tuple[dict[str, str], list[bool]]:
    copies = [Path(shutil.copy2(path, place.target)) for path in place.files()]
    times = [copy.stat().st_mtime == path.stat().st_mtime for copy, path in zip(copies, place.files(), strict=True)]
    return tree(place.target), times


def _copytree(place: Place) -> dict[str, str]:
    shutil.copytree(place.source, place.target / "copy")
    return tree(place.target)


def _zipfile(place: Place) -> dict[str, str]:
    archive = place.target / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in place.files():
            packed.write(path, path.name)
    return _unpacked(archive)


def _make_archive(place: Place) -> dict[str, str]:
    return _unpacked(Path(shutil.make_archive(str(place.target / "archive"), "zip", place.source)))


def _tarfile(place: Place) -> dict[str, str]:
    archive = place.target / "archive.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(place.source, "files")
    return _unpacked(archive)


def _tarfile_of_the_largest(place: Place) -> dict[str, str]:
    archive = place.target / "archive.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(place.largest(), place.largest().name)
    return _unpacked(archive)


def _tarfile_of_open_files(place: Place) -> dict[str, str]:
    archive = place.target / "archive.tar"
    with tarfile.open(archive, "w") as packed:
        for path in place.files():
            with path.open("rb") as file:
                packed.addfile(packed.gettarinfo(arcname=path.name, fileobj=file), file)
    return _unpacked(archive)


def _unpacked(archive: Path) -> dict[str, str]:
    shutil.unpack_archive(archive, archive.with_suffix(""))
    return tree(archive.with_suffix(""))


def _filecmp(place: Place) -> list[bool]:
    return [filecmp.cmp(path, place.copy / path.name, shallow=False) for path in place.files()]


PYTHON = (
    Idiom("Path.read_bytes", _CONTENTS, each(Path.read_bytes)),
    Idiom("seek, pread", "some pieces", each(_pieces)),
    Idiom("mmap", _CONTENTS, each(_by_mmap)),
    Idiom("mmap, ACCESS_COPY", _CONTENTS, each(_by_private_mmap)),
    Idiom("numpy.memmap", _CONTENTS, each(lambda path: _digest(np.memmap(path, np.uint8, "r").data))),
    Idiom("numpy.fromfile", _CONTENTS, each(lambda path: _digest(np.fromfile(path, np.uint8).data))),
    Idiom("hashlib.file_digest, 8 threads", "the sums", _by_threads),
    Idiom("fcntl.lockf, flock", _CONTENTS, each(_locked)),
    Idiom("os.sendfile", _COPIES, _copies(_sendfile)),
    Idiom("os.splice", _COPIES, _copies(_splice)),
    Idiom("shutil.copy2", "the copies, and their times with the originals'", _copy2),
    Idiom("shutil.copytree", _COPIES, _copytree),
    Idiom("zipfile", _UNPACKED, _zipfile),
    Idiom("shutil.make_archive, zip", _UNPACKED, _make_archive),
    Idiom("tarfile, from open files", _UNPACKED, _tarfile_of_open_files),
    Idiom("tarfile.add of a series", _UNPACKED, _tarfile, provisional=Outcome.FAILS),
    Idiom("tarfile.add of the largest file", _UNPACKED, _tarfile_of_the_largest, provisional=Outcome.CUT),
    Idiom("stat, read as many", _CONTENTS, each(_read_as_many_as_told), provisional=Outcome.CUT),
    Idiom("stat, mmap as many", _CONTENTS, each(_by_mmap_of_as_many_as_told), provisional=Outcome.FAILS),
    Idiom(
        "os.scandir, stat",
        "the sizes",
        lambda place: sorted((entry.name, entry.stat().st_size) for entry in os.scandir(place.source)),
        provisional=Outcome.TOLD,
    ),
    Idiom("filecmp.cmp", "with a copy", _filecmp, provisional=Outcome.TOLD),
)

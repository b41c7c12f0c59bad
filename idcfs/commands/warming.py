"""``idcfs warm`` without a terminal: reads whole directories of a mount in parallel, so that its disk cache holds them.

Only the kernel is asked, as any program asks it: the mount does the fetching and keeping, and what it has already costs
no request. All that may wait for an archive happens in daemon threads: nothing stops a thread that the kernel holds, so
nobody waits for one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, LifoQueue, Queue
from threading import Event, Lock, Thread
from typing import Generic, TypeVar

from .. import mounts, running
from ..content.block_files import disk_bytes
from ..mounts import Mount
from ..settings import BLOCK_BYTES, BULK_NAME

T = TypeVar("T")

JOBS = 16
"""Files read at once: 300 of 0.5 MB take 2.0 s with 16, 3.8 s with 8 and 29.8 s one by one (at 80 ms, measured)."""
_LISTERS = 8
"""Directories listed at once: as many requests as a mount's downloads leave room for (24 of 32 connections)."""
_QUEUED_FILES = 1_000
"""Files known and not yet read: enough that no reader waits for a listing, few beside the million of a collection."""
_QUEUED_FAILURES = 1_000
_FAILURES_IN_A_ROW = 20
"""After so many, it is not the files."""
_AWAY = frozenset({errno.ENOTCONN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EDQUOT})
"""What fails so says nothing about the file: its archive cannot be reached, or gives no more today."""
_NO_SUCH_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTCONN})
"""What is wrong with a path itself, or with a mount whose process has died; other failures are the archive's."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was asked for, as it lies in running mounts."""

    paths: list[str]
    """Without links, each once and none below another."""
    mounts: set[Mount]
    refused: list[str]
    """A line for each path that cannot be used."""

    def still_mounted(self) -> bool:
        """Whether all the mounts are there as they were found, and answer; may wait for them."""
        try:
            for mount in self.mounts:
                if mounts.mount_at(mount.path) != mount:
                    return False
                os.statvfs(mount.path)  # not stat, which the kernel may answer from what it remembers
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def bulk(self) -> Iterator[None]:
        """Within the block the mounts know that what is read is read in bulk."""
        with contextlib.ExitStack() as stack:
            for mount in self.mounts:
                stack.callback(os.close, os.open(mount.path / BULK_NAME, os.O_RDONLY | os.O_CLOEXEC))
            yield

    def sync(self) -> None:
        """Return when all that the mounts have fetched is on disk, or has not found room there.

        :raises OSError: if one of them does not answer, or cannot keep what it has learnt.
        """
        for mount in self.mounts:
            running.sync(mount.path)


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or directory that could not be read."""

    path: str
    reason: str


class Warming:
    """Reads every file under some paths; numbers to look at while it runs, failures to take.

    Not its directories' names but the files in them are many: the walk goes depth first, and stands still while enough
    files wait to be read.
    """

    def __init__(
        self, paths: Iterable[str], jobs: int, room: int, still_mounted: Callable[[], bool], sync: Callable[[], None]
    ) -> None:
        """
        :param room: bytes that the disk cache may take; it stops once those read take more, and push out others.
        :param still_mounted: asked when something fails; if not, the rest is not tried.
        :param sync: called when nothing more is read; returns when it is on disk.
        """
        self.files = self.files_known = 0
        self.bytes = self.bytes_known = 0
        """Of files known so far; provisional until they are opened."""
        self.disk_bytes = 0
        """What the blocks of the files read take in a disk cache."""
        self.failed = 0
        self.walking = True
        """Whether more files may become known."""
        self.stopped = False
        """Whether it was told to stop."""
        self.gave_up = ""
        """Why it stopped by itself."""
        self.errnos: set[int] = set()
        """Of the failures."""
        self.is_full = False
        """Whether it stopped because the disk cache does not hold all."""
        self._paths = list(paths)
        self._room = room
        self._still_mounted = still_mounted
        self._sync = sync
        self._in_a_row = 0
        self._lock = Lock()
        self._stop = Event()
        self._ended = Event()
        self._failures: Queue[Failure] = Queue(_QUEUED_FAILURES)
        self._listers = _Crew(_LISTERS, self._list, LifoQueue())  # the last found first: that is what depth first means
        self._readers = _Crew(jobs, self._read, Queue(_QUEUED_FILES))

    def start(self) -> None:
        """Begin, in threads of its own."""
        self._listers.give(reversed(self._paths))
        Thread(target=self._wait, daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self.stopped = True
        self._stop.set()

    def running(self) -> bool:
        """Whether there is more to come: files to read, or failures to take."""
        return not (self._stop.is_set() or self._ended.is_set()) or not self._failures.empty()

    def failure(self, seconds: float) -> Failure | None:
        """The next failure, if one comes within ``seconds``."""
        try:
            return self._failures.get(timeout=seconds)
        except Empty:
            return None

    def _goes_on(self) -> bool:
        """Whether more is to be read."""
        return not (self._stop.is_set() or self.is_full)

    def _wait(self) -> None:
        self._listers.finish()
        self.walking = False
        self._readers.finish()
        if not self._stop.is_set():
            try:
                self._sync()
            except OSError as error:
                self._fail(error.filename or "the mount", error)
        self._ended.set()

    def _list(self, path: str) -> None:
        if not self._goes_on():
            return
        try:
            status = os.stat(path)
            if not stat.S_ISDIR(status.st_mode):
                self._found_file(path, status.st_size)
                return
            directories = []
            with os.scandir(path) as entries:
                for entry in entries:
                    if not self._goes_on():
                        return
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
                    else:
                        self._found_file(entry.path, entry.stat(follow_symlinks=False).st_size)
            self._listers.give(reversed(directories))
        except OSError as error:
            self._fail(path, error)

    def _found_file(self, path: str, size: int) -> None:
        self._add(files_known=1, bytes_known=size)
        self._readers.give([(path, size)])

    def _read(self, file: tuple[str, int]) -> None:
        if not self._goes_on():
            return
        path, size = file
        done = 0
        buffer = bytearray(BLOCK_BYTES)
        try:
            with _opened(path) as descriptor:
                exact = os.fstat(descriptor).st_size
                self._add(bytes_known=exact - size)
                size = exact
                while self._goes_on() and (count := os.readv(descriptor, [buffer])):
                    done += count
                    self._add(bytes=count)
        except OSError as error:
            self._add(bytes_known=done - size)
            self._fail(path, error)
        else:
            if self._goes_on():
                self._add(files=1, disk_bytes=disk_bytes(done))
                self._in_a_row = 0
                self.is_full = self.is_full or self.disk_bytes > self._room

    def _add(self, **amounts: int) -> None:
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def _fail(self, path: str, error: OSError) -> None:
        if self._stop.is_set():
            return
        if not self._still_mounted():
            self._give_up("the mount is gone")
            return
        reason = error.strerror or str(error)
        with self._lock:
            if self.gave_up:
                return
            self.failed += 1
            self.errnos.add(error.errno or 0)
            self._in_a_row = self._in_a_row + 1 if error.errno in _AWAY else 0
            if self._in_a_row >= _FAILURES_IN_A_ROW:
                self.gave_up = f"{_FAILURES_IN_A_ROW} failures in a row ({reason})"
            is_last = bool(self.gave_up)
        self._tell(Failure(path, reason))
        if is_last:
            self._stop.set()

    def _tell(self, failure: Failure) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(Full):
                self._failures.put(failure, timeout=0.1)  # again and again: who took them may have stopped
                return

    def _give_up(self, why: str) -> None:
        with self._lock:
            self.gave_up = self.gave_up or why
        self._stop.set()


class _Crew(Generic[T]):
    """Daemon threads that do the same work for whatever they are given."""

    def __init__(self, size: int, work: Callable[[T], None], queue: Queue[T | None]) -> None:
        self._size = size
        self._work = work
        self._queue = queue
        for _ in range(size):
            Thread(target=self._run, daemon=True).start()

    def give(self, items: Iterable[T]) -> None:
        """Let each of ``items`` be worked on; waits while the queue is full."""
        for item in items:
            self._queue.put(item)

    def finish(self) -> None:
        """Wait until all is done, what was given meanwhile included, and let the threads go."""
        self._queue.join()
        for _ in range(self._size):
            self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._work(item)
            finally:
                self._queue.task_done()


def find(given: Iterable[str]) -> Found:
    """Where the paths ``given`` lie. Costs requests only where series have to be listed, eight at a time."""
    mounted = mounts.topmost()
    places: dict[str, tuple[str, Mount]] = {}
    refused: dict[str, str] = {}

    def look(text: str) -> None:
        try:
            path = _real(text)
            places[text] = path, mounts.idcfs_around(Path(path), mounted)
        except (OSError, ValueError) as error:
            refused[text] = f"{text}: {error.strerror if isinstance(error, OSError) else error}"

    texts = list(dict.fromkeys(given))
    crew = _Crew(_LISTERS, look, Queue())
    crew.give(texts)
    crew.finish()
    paths = dict.fromkeys(places[text][0] for text in texts if text in places)
    return Found(
        [path for path in paths if not any(str(parent) in paths for parent in Path(path).parents)],
        {mount for _, mount in places.values()},
        [refused[text] for text in texts if text in refused],
    )


def _real(text: str) -> str:
    """``text`` without links and dots.

    :raises OSError: if there is no such path; not if only its archive does not answer.
    :raises ValueError: if it cannot be one.
    """
    if not text:  # which would be taken for the current directory
        raise ValueError(os.strerror(errno.ENOENT))
    try:
        return os.path.realpath(text, strict=True)
    except OSError as error:
        if error.errno in _NO_SUCH_PATH:
            raise
        return os.path.realpath(text)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor whose pages the kernel does not keep: neither those it has, which would hide from the mount that it
    lacks a block, nor those that are read, which would drive out what others need."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        yield descriptor
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)

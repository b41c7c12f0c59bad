"""Walking and reading in parallel, over ordinary directories and with failures made to order."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from idcfs import mounts
from idcfs.commands import warming
from idcfs.commands.warming import Failure, Warming
from idcfs.content.block_files import disk_bytes
from idcfs.mounts import Mount
from idcfs.settings import MIB
from tests.waiting import PATIENCE_SECONDS, eventually

JOBS = 4

Opened = Callable[[str], contextlib.AbstractContextManager[int]]


def files_in(directory: Path, count: int, size: int = 10) -> list[Path]:
    """So many files in ``directory``, which is made."""
    directory.mkdir(parents=True)
    paths = [directory / f"{number:04}" for number in range(count)]
    for path in paths:
        path.write_bytes(b"x" * size)
    return paths


def started(
    *paths: Path,
    jobs: int = JOBS,
    room: int = 1 << 62,
    still_mounted: Callable[[], bool] = lambda: True,
    sync: Callable[[], None] = lambda: None,
) -> Warming:
    work = Warming(map(str, paths), jobs, room, still_mounted, sync)
    work.start()
    return work


def ended(work: Warming) -> list[Failure]:
    """What failed, once it has ended."""
    failures = []
    end = time.monotonic() + PATIENCE_SECONDS
    while work.running():
        assert time.monotonic() < end
        failures.append(work.failure(0.01))
    return [failure for failure in failures if failure is not None]


def stays(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true and is so a while later too. Only a bug ends it, never a slow machine."""
    assert eventually(condition)
    time.sleep(0.2)
    return condition()


def failing(monkeypatch: pytest.MonkeyPatch, error_of: Callable[[str], int]) -> list[str]:
    """Make opening fail with the errno that ``error_of`` gives for a path; returns the paths that are opened."""
    opened = warming._opened
    asked: list[str] = []

    @contextlib.contextmanager
    def open_or_fail(path: str) -> Iterator[int]:
        asked.append(path)
        if number := error_of(path):
            raise OSError(number, os.strerror(number), path)
        with opened(path) as descriptor:
            yield descriptor

    monkeypatch.setattr(warming, "_opened", open_or_fail)
    return asked


# --- the walk ---------------------------------------------------------------------------------------------------------


def test_every_file_below_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = failing(monkeypatch, lambda _: 0)
    made = [path for name in ("a/x", "a/y", "b") for path in files_in(tmp_path / name, 30)]
    (large,) = files_in(tmp_path / "c", 1, size=2 * MIB + 1)
    (tmp_path / "empty").mkdir()
    work = started(tmp_path / "a", tmp_path / "b", tmp_path / "empty", large)
    assert ended(work) == []
    assert sorted(asked) == sorted(map(str, [*made, large]))
    assert (work.files, work.files_known, work.failed) == (91, 91, 0)
    assert work.bytes == work.bytes_known == 900 + 2 * MIB + 1
    assert (work.walking, work.stopped, work.gave_up) == (False, False, "")


def test_the_walk_waits_while_enough_files_wait_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "_QUEUED_FILES", 10)
    go_on = threading.Event()

    def wait(_: str) -> int:
        assert go_on.wait(PATIENCE_SECONDS)
        return 0

    asked = failing(monkeypatch, wait)
    for number in range(20):
        files_in(tmp_path / f"{number:02}", 50)
    work = started(tmp_path)
    try:
        # Those being read, those that wait, and one that each of those who list cannot hand over.
        full = JOBS + 10 + warming._LISTERS
        assert stays(lambda: (len(asked), work.files_known) == (JOBS, full))
        assert work.walking
    finally:
        go_on.set()
    assert ended(work) == []
    assert work.files == 1000


def test_sizes_are_corrected_when_a_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = files_in(tmp_path / "a", 1, size=100)

    def grow(_: str) -> int:
        path.write_bytes(b"x" * 250)
        return 0

    failing(monkeypatch, grow)
    work = started(tmp_path)
    assert ended(work) == []
    assert (work.bytes, work.bytes_known) == (250, 250)


def test_the_threads_go_when_all_is_read(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    files_in(tmp_path / "a", 10)
    work = started(tmp_path)
    theirs = set(threading.enumerate()) - before
    assert theirs
    ended(work)
    assert eventually(lambda: not any(thread.is_alive() for thread in theirs))


# --- failures ---------------------------------------------------------------------------------------------------------


def test_it_ends_when_all_is_on_disk(tmp_path: Path) -> None:
    files_in(tmp_path / "a", 3)
    may_end = threading.Event()
    work = started(tmp_path, sync=lambda: assert_true(may_end.wait(PATIENCE_SECONDS)))
    assert eventually(lambda: work.files == 3)
    assert stays(work.running)
    may_end.set()
    assert not ended(work)


def assert_true(value: bool) -> None:
    assert value


def test_it_stops_where_the_disk_cache_holds_no_more(tmp_path: Path) -> None:
    files_in(tmp_path / "a", 20)
    synced = threading.Event()
    work = started(tmp_path, jobs=1, room=5 * disk_bytes(10), sync=synced.set)
    assert not ended(work)
    assert (work.files, work.is_full, work.gave_up, work.stopped) == (6, True, "", False)
    assert synced.is_set()
    synced.clear()
    work = started(tmp_path, jobs=1, room=20 * disk_bytes(10), sync=synced.set)
    assert not ended(work)
    assert (work.files, work.is_full) == (20, False)
    assert synced.is_set()


def test_a_mount_that_cannot_say_so_is_a_failure(tmp_path: Path) -> None:
    files_in(tmp_path / "a", 3)

    def sync() -> None:
        raise OSError(errno.EIO, "Input/output error", "/mnt")

    work = started(tmp_path, sync=sync)
    assert ended(work) == [Failure("/mnt", "Input/output error")]
    assert (work.files, work.failed) == (3, 1)


def test_a_failure_is_told_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = files_in(tmp_path / "a", 40)
    bad = {str(paths[3]): errno.EIO, str(paths[30]): errno.ESTALE}
    failing(monkeypatch, lambda path: bad.get(path, 0))
    work = started(tmp_path / "a", tmp_path / "missing")
    expected = [Failure(path, os.strerror(number)) for path, number in bad.items()]
    expected.append(Failure(str(tmp_path / "missing"), os.strerror(errno.ENOENT)))
    assert sorted(ended(work), key=str) == sorted(expected, key=str)
    assert (work.files, work.failed, work.gave_up) == (38, 3, "")
    assert work.bytes == work.bytes_known == 380  # nothing is left to wait for


@pytest.mark.parametrize("number", sorted(warming._AWAY), ids=errno.errorcode.get)
def test_failures_in_a_row_that_are_the_archives_end_it(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_in(tmp_path / "a", 500)
    asked = failing(monkeypatch, lambda _: number)
    work = started(tmp_path)
    told = ended(work)
    assert work.gave_up == f"20 failures in a row ({os.strerror(number)})"
    assert 20 <= work.failed < 20 + JOBS
    assert 20 - JOBS < len(told) <= work.failed
    assert len(asked) < 20 + 2 * JOBS


def test_any_success_between_shows_that_the_archive_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_in(tmp_path / "a", 200)
    monkeypatch.setattr(warming, "_LISTERS", 1)  # else the files come in any order
    failing(monkeypatch, lambda path: 0 if path.endswith("9") else errno.ETIMEDOUT)
    work = started(*sorted((tmp_path / "a").iterdir(), reverse=True), jobs=1)
    assert len(ended(work)) == work.failed == 180
    assert (work.files, work.gave_up) == (20, "")


def test_failures_of_the_files_themselves_do_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_in(tmp_path / "a", 100)
    failing(monkeypatch, lambda _: errno.ESTALE)
    work = started(tmp_path)
    assert len(ended(work)) == work.failed == 100
    assert work.gave_up == ""


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ENOENT, errno.EIO, errno.ECONNABORTED])
def test_a_mount_that_is_gone_is_told_once(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_in(tmp_path / "a", 500)
    asked = failing(monkeypatch, lambda _: number)
    work = started(tmp_path, still_mounted=lambda: False)
    assert ended(work) == []
    assert (work.gave_up, work.failed) == ("the mount is gone", 0)
    assert len(asked) <= 2 * JOBS


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stopping_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def hold(_: str) -> int:
        assert held.wait(PATIENCE_SECONDS)
        return 0

    asked = failing(monkeypatch, hold)
    files_in(tmp_path / "a", 2_000)
    before = set(threading.enumerate())
    work = started(tmp_path)
    theirs = set(threading.enumerate()) - before
    try:
        assert eventually(lambda: len(asked) == JOBS)
        work.stop()
        assert not work.running()
        assert work.stopped
    finally:
        held.set()
    assert eventually(lambda: not any(thread.is_alive() for thread in theirs))
    assert len(asked) == JOBS  # nothing more was begun
    assert work.files == 0


def test_failures_that_nobody_takes_hold_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "_QUEUED_FAILURES", 5)
    failing(monkeypatch, lambda _: errno.ESTALE)
    files_in(tmp_path / "a", 100)
    before = set(threading.enumerate())
    work = started(tmp_path)
    theirs = set(threading.enumerate()) - before
    assert stays(lambda: work.failed == 5 + JOBS)  # those that wait to be taken, and one of each reader
    work.stop()
    assert eventually(lambda: not any(thread.is_alive() for thread in theirs))
    assert work.failed == 5 + JOBS


# --- what was asked for -----------------------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with files that is an idcfs, going by the mount table; ``other`` is a mount in it."""
    root = tmp_path.resolve() / "idc"
    files_in(root / "a" / "b", 3)
    files_in(root / "ab", 1)
    files_in(root / "other", 1)
    table = [
        Mount(Path("/"), "0:1", "overlay"),
        Mount(root, "0:2", "tmpfs"),
        Mount(root, "0:3", mounts.FILESYSTEM_TYPE),
        Mount(root / "other", "0:4", "tmpfs"),
    ]
    monkeypatch.setattr(mounts, "mounts", lambda: table)
    return root


def test_paths_that_overlap_are_taken_once(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mounted)
    (mounted.parent / "link").symlink_to(mounted / "a")
    given = ["a/b/0001", "a/b", f"{mounted}/a/", "./a", "../link/b", "ab", "ab/../ab/."]
    found = warming.find(given)
    assert found.paths == [f"{mounted}/a", f"{mounted}/ab"]
    assert found.mounts == {Mount(mounted, "0:3", mounts.FILESYSTEM_TYPE)}
    assert found.refused == []
    assert warming.find([f"{mounted}/a", str(mounted)]).paths == [str(mounted)]


def test_a_path_that_cannot_be_used_is_told_with_its_reason(mounted: Path) -> None:
    bad = {
        f"{mounted}/nothing": os.strerror(errno.ENOENT),
        f"{mounted}/ab/0000/x": os.strerror(errno.ENOTDIR),
        "x" * 300: os.strerror(errno.ENAMETOOLONG),
        "": os.strerror(errno.ENOENT),
        "with\0nothing": "embedded null",
        str(mounted.parent): "not in an idcfs mount",
        f"{mounted}/other/0000": "not in an idcfs mount",
    }
    found = warming.find([*bad, str(mounted / "ab"), *bad])
    assert found.paths == [str(mounted / "ab")]
    assert len(found.refused) == len(bad)
    for line, (path, reason) in zip(found.refused, bad.items(), strict=True):
        assert line.startswith(f"{path}: {reason}")


def test_an_archive_that_does_not_answer_is_no_reason_to_refuse(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lstat = os.lstat
    away = f"{mounted}/a/b/0001"

    def unreachable(path: str) -> os.stat_result:
        if path == away:
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH), path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", unreachable)
    found = warming.find([away])
    assert (found.paths, found.refused) == ([away], [])


def test_a_mount_is_there_while_it_is_the_same_and_answers(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = warming.find([str(mounted / "a")])
    assert found.still_mounted()
    monkeypatch.setattr(mounts, "mounts", lambda: [Mount(mounted, "0:9", mounts.FILESYSTEM_TYPE)])
    assert not found.still_mounted()
    monkeypatch.undo()
    assert not found.still_mounted()

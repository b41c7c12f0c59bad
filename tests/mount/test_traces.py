"""What a mount leaves behind, and what it prints, when it fails or stays in the foreground."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from idcfs import logs, mounts
from idcfs.errors import UsageError
from scripts.harness import IDCFS, is_mounted, run
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import WADO, buckets, contents, counters
from tests.twin.client import Twin
from tests.waiting import PATIENCE_SECONDS, eventually


def test_a_mount_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "mnt" / "mine").mkdir(parents=True)
    done = idcfs("mount", tmp_path / "mnt", "--archive", NOWHERE, state=tmp_path / "state")
    assert done.returncode == 2
    assert not os.listdir(tmp_path / "state" / "idcfs")


def test_a_mount_that_fails_leaves_a_log_that_says_why(tmp_path: Path) -> None:
    words = ("--archive", NOWHERE, "--index", "/nothing.parquet", "--cache-dir", tmp_path / "cache")
    done = idcfs("mount", tmp_path / "mnt", *words, state=tmp_path / "state")
    assert done.returncode == 2
    (left,) = (tmp_path / "state" / "idcfs").iterdir()
    assert left.suffix == ".log"
    assert "--index /nothing.parquet: No such file" in left.read_text()


def test_who_waits_for_a_lock_that_is_removed_takes_the_next_one(tmp_path: Path) -> None:
    file = tmp_path / "mnt.lock"
    script = f"from pathlib import Path; from idcfs import mounts\nwith mounts.reserved(Path({str(file)!r})): input()"
    with ExitStack() as stack:
        with suppress(UsageError), mounts.reserved(file):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE))
            assert eventually(lambda: is_waited_for(file))
            raise UsageError("it cannot be mounted")
        assert eventually(lambda: file.exists() and not is_free(file))
        other.communicate(b"\n", timeout=PATIENCE_SECONDS)
    assert other.returncode == 0
    assert is_free(file)


def is_waited_for(file: Path) -> bool:
    number = f":{file.stat().st_ino} "
    return any("->" in line and number in line for line in Path("/proc/locks").read_text().splitlines())


def is_free(file: Path) -> bool:
    with file.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_log_directory_that_may_not_be_written_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"the log file /proc/mnt\.log cannot be written"):
        logs.start(Path("/proc/mnt.log"), "info")


def test_in_the_foreground_each_line_of_the_log_stands_once_and_as_it_is(tmp_path: Path, sample_index: Path) -> None:
    place = tmp_path.resolve() / "mnt"
    words = ("--archive", NOWHERE, "--index", str(sample_index), "--cache-dir", str(tmp_path / "cache"))
    command = [*IDCFS, "mount", str(place), *words, "-f", "--log-level", "debug"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert eventually(lambda: is_mounted(place))
        os.listdir(place)
        run([*IDCFS, "umount", place])
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    (line,) = [line for line in said.splitlines() if "Initializing pyfuse3" in line]
    assert line.endswith(" DEBUG pyfuse3: Initializing pyfuse3")
    assert "WARNING" not in said


def test_that_the_bucket_stands_in_is_one_line_and_not_one_for_each_file(
    mount: MountMaker, twin: Twin, sample_index: Path, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", sample_index, *buckets(twin))
    twin.set(match=WADO, fail_always=404)
    files = contents(made.path)
    assert counters(made)["bucket_downloads"] >= len(files) > 100
    assert log_of().count(" comes from its bucket: ") == 1
    assert log_of().count(" is listed from its bucket: ") == 1

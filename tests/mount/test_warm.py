"""``idcfs warm``: what it fetches is there without another request, and it says what it could not fetch."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

from idcfs.settings import MIB
from scripts.harness import IDCFS, Mount, detach, run
from tests.mount.commands import read_terminal, summary, warm
from tests.mount.conftest import MountMaker
from tests.mount.stage import a_series, contents, counters, unmount
from tests.small_disk import small_disk
from tests.twin.client import Twin
from tests.unprivileged import only_root

DOES_NOT_HOLD = (
    r"idcfs: the disk cache, with room for [\d,]+ bytes, does not hold all of it: see --cache-size and the log\n"
)
STOPPED = r"idcfs: stopped: the disk cache has room for 4,194,304 bytes only: mount with a larger --cache-size\n"


# --- what it is for ---------------------------------------------------------------------------------------------------


def test_what_is_warm_is_read_without_a_request(made: Mount, sample: Path) -> None:
    expected = contents(sample)
    whole = (len(expected), sum(map(len, expected.values())), 0)
    done = warm(made.path)
    assert (done.returncode, done.stderr, summary(done.stdout)) == (0, "", whole)
    before = counters(made)["requests"]
    assert before > len(expected)
    assert contents(made.path) == expected
    again = warm(made.path)
    assert (again.returncode, again.stderr, summary(again.stdout)) == (0, "", whole)
    assert counters(made)["requests"] == before


def test_what_is_warm_stays_so_without_an_archive(
    mount: MountMaker, made: Mount, sample: Path, sample_index: Path, twin: Twin
) -> None:
    assert warm(made.path).returncode == 0
    unmount(made)
    again = mount(twin.url, "--index", sample_index, "--offline")
    assert contents(again.path) == contents(sample)
    assert counters(again)["requests"] == 0


def test_when_it_ends_all_is_on_disk_whatever_comes_next(
    mount: MountMaker, made: Mount, twin: Twin, sample: Path, sample_index: Path
) -> None:
    series = a_series(made)
    assert warm(series).returncode == 0
    os.kill(made.pid, signal.SIGKILL)
    detach(made.path)
    again = mount(twin.url, "--index", sample_index, "--offline")
    expected = contents(sample)
    found = contents(again.path / series.relative_to(made.path))
    assert len(found) == 60
    assert all(content == expected[name] for name, content in found.items())


def test_pages_that_the_kernel_keeps_do_not_hide_a_file_from_it(made: Mount) -> None:
    path = min(a_series(made).iterdir())
    path.read_bytes()
    before = counters(made)
    path.read_bytes()
    assert counters(made)["hits"] == before["hits"]  # the kernel has it
    assert warm(path).returncode == 0
    read = counters(made)
    assert read["hits"] > before["hits"]
    path.read_bytes()
    assert counters(made)["hits"] > read["hits"]  # nor has it filled the kernel's memory


def test_anything_in_a_mount_can_be_given_and_is_fetched_once(
    mount: MountMaker, twin: Twin, sample_index: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    series = a_series(made)
    files = sorted(series.iterdir())
    done = warm(files[0])
    assert summary(done.stdout)[0] == 1
    lines = "\n".join(map(str, [files[1], series, series, *files[:3], ""]))
    done = warm(series.parent, "-", f"{series}/", "--jobs", "3", stdin=lines)
    assert (done.returncode, done.stderr) == (0, "")
    in_study = sum(len(os.listdir(path)) for path in series.parent.iterdir())
    assert summary(done.stdout)[0] == in_study > 60
    assert counters(made)["wado_requests"] == in_study


def test_a_list_of_paths_comes_from_stdin(made: Mount) -> None:
    series = sorted(str(path) for path in made.path.glob("rider_twin/*/*/*"))
    done = warm(stdin="\n".join(series))  # without the last line's end
    assert (done.returncode, done.stderr) == (0, "")
    assert summary(done.stdout)[0] == 47


# --- what it says -----------------------------------------------------------------------------------------------------


def test_on_a_terminal_a_bar_shows_how_it_goes(made: Mount, twin: Twin) -> None:
    missing = min(a_series(made).iterdir())
    twin.set(match="/instances/", missing=[missing.stem], bytes_per_second=2_000_000)
    terminal, end = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [*IDCFS, "warm", str(a_series(made))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True, env=env) as process:
        os.close(end)
        shown = b""
        while piece := read_terminal(terminal):
            shown += piece
        assert process.stdout is not None
        assert summary(process.stdout.read())[::2] == (59, 1)
    os.close(terminal)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"\d+\.\d/\d+\.\d MB \d+\.\d MB/s \d\d:\d\d \d+ of 60 files", plain), plain
    assert f"idcfs: {missing}: {os.strerror(errno.ESTALE)}\r\n" in plain


def test_every_file_that_cannot_be_had_is_a_line(made: Mount, twin: Twin) -> None:
    missing = sorted(a_series(made).iterdir())[5:8]
    twin.set(missing=[path.stem for path in missing])
    done = warm(a_series(made))
    assert done.returncode == 1
    assert summary(done.stdout)[::2] == (57, 3)
    *lines, meaning, _ = done.stderr.splitlines()
    assert sorted(lines) == [f"idcfs: {path}: {os.strerror(errno.ESTALE)}" for path in missing]
    assert meaning.startswith(f"idcfs: {os.strerror(errno.ESTALE)}: listed, but the archive does not have it")
    twin.reset()
    again = warm(a_series(made))
    assert (again.returncode, summary(again.stdout)[::2]) == (0, (60, 0))


def test_a_series_that_cannot_be_listed_is_a_line(made: Mount, twin: Twin) -> None:
    series = next(made.path.glob("chest_twin/*/*/*"))
    twin.set(match=series.name, fail_always=403)
    done = warm(made.path / "chest_twin")
    assert (done.returncode, summary(done.stdout)[2]) == (1, 1)
    failure, meaning, where = done.stderr.splitlines()
    assert failure == f"idcfs: {series}: {os.strerror(errno.EACCES)}"
    assert (
        meaning
        == f"idcfs: {os.strerror(errno.EACCES)}: the archive wants a login, or refuses this one, or this machine"
    )
    assert " answered 403" in Path(where.removeprefix("idcfs: the log says more: ")).read_text()


def test_paths_that_cannot_be_used_are_told_before_anything_is_fetched(
    made: Mount, tmp_path: Path, sample_index: Path
) -> None:
    bad = [tmp_path, made.path / "nothing", sample_index, Path("/nothing")]
    done = warm(made.path / "rider_twin", *bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"idcfs: {tmp_path}: not in an idcfs mount",
        f"idcfs: {made.path / 'nothing'}: No such file or directory",
        f"idcfs: {sample_index}: not in an idcfs mount",
        "idcfs: /nothing: No such file or directory",
    ]
    assert counters(made)["requests"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "idcfs: there is no path on stdin"),
        (("",), "idcfs: : No such file or directory"),
        (("--jobs", "25", "/"), "idcfs: Invalid value for '--jobs'"),
        (("two\nlines",), r"idcfs: two\nlines: No such file or directory"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], said: str) -> None:
    done = warm(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_without_a_disk_cache_nothing_is_fetched(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--cache-size", "0")
    done = warm(made.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("idcfs: nothing is kept on disk: mount without --cache-size 0")
    assert counters(made)["requests"] == 0


def test_more_than_the_cache_holds_is_told_and_not_fetched(
    mount: MountMaker, twin: Twin, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, "--cache-size", "4MiB", cache=tmp_path / "cache")
    done = warm(made.path / "rider_twin")  # 47 files, 6 MB
    files, _, failed = summary(done.stdout)
    assert (done.returncode, failed) == (1, 0)
    assert 20 < files < 40
    assert re.fullmatch(STOPPED, done.stderr)
    assert len(done.stderr.splitlines()) == 1
    kept = json.loads(run([*IDCFS, "cache", "info", "--json", "--cache-dir", tmp_path / "cache"]))
    assert kept["blocks"] > 20  # on disk as soon as it says so


@only_root("mounts a disk that is soon full")
@pytest.mark.parametrize("left", [16 * MIB, 1 * MIB])
def test_a_disk_that_has_no_room_is_told(
    left: int, mount: MountMaker, twin: Twin, sample_index: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 32 * MIB) as disk:
        made = mount(twin.url, "--index", sample_index, cache=disk)
        with (disk / "somebody's").open("wb") as other:
            other.write(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - left))
        done = warm(a_series(made))  # 30 MB
        assert (done.returncode, summary(done.stdout)[0]) == (1, 60)
        assert re.fullmatch(DOES_NOT_HOLD, done.stderr)
        assert len(done.stderr.splitlines()) == 1
        unmount(made)

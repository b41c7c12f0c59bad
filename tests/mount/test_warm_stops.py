"""``idcfs warm``: what stops it, what it leaves to be gone on with, and what becomes of what is warm."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from idcfs import cli, mounts, running
from scripts.harness import IDCFS, Mount, run
from tests.mount.commands import started, summary, warm
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, contents, counters, unmount
from tests.twin.client import Twin
from tests.waiting import PATIENCE_SECONDS, eventually


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_once_and_it_goes_on_the_next_time(
    number: signal.Signals, made: Mount, twin: Twin, sample: Path
) -> None:
    twin.set(match="/instances/", stall_after_bytes=100_000)
    with started(made.path) as process:
        assert eventually(lambda: counters(made)["bytes_from_archive"] > 1_500_000)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)  # to go on would take 60 s, until they time out
    assert process.returncode == 130
    assert summary(stdout)[2] == 0
    assert stderr == "idcfs: stopped: run it again to go on\n"
    twin.reset()
    again = warm(made.path)
    assert (again.returncode, again.stderr) == (0, "")
    assert contents(made.path) == contents(sample)


def test_a_signal_ends_it_while_paths_are_looked_at(made: Mount, twin: Twin) -> None:
    series = next(made.path.glob("rider_twin/*/*/*"))
    twin.set(latency_seconds=2.5)
    with started(series / "1.2.3.dcm") as process:  # has to be listed to know
        assert eventually(lambda: counters(made)["qido_requests"] == 1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, stdout, stderr.strip()) == (130, "", "idcfs: stopped")


def test_clearing_tells_of_mounts_that_would_not_keep_what_is_warmed(
    made: Mount,
    mount: MountMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def clear(directory: Path) -> str:
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main(["cache", "clear", "--cache-dir", str(directory)])
        return capsys.readouterr().err

    monkeypatch.setattr(running, "_GLANCE_SECONDS", PATIENCE_SECONDS)
    cache, link = tmp_path / "cache", tmp_path / "link"
    link.symlink_to(cache)
    assert clear(cache) == ""  # it writes again what it has in memory
    other = mount(NOWHERE, "--index", "qido", at="other", cache=link)
    said = f"idcfs: {other.path} does not write again what its server lists: mount it again before 'idcfs warm'\n"
    assert clear(cache) == clear(link) == said
    for one in (made, other):
        unmount(one)
    mount(NOWHERE, "--index", "qido", at="elsewhere", cache=tmp_path / "another")
    assert clear(cache) == ""


@pytest.mark.parametrize("what", ["rm", "another mount"])
def test_what_is_gone_from_the_disk_is_kept_again_by_a_mount_that_has_it_in_memory(
    what: str, mount: MountMaker, made: Mount, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path
) -> None:
    series = a_series(made)
    assert warm(series).returncode == 0
    if what == "rm":
        shutil.rmtree(tmp_path / "cache" / "blocks")
    else:
        small = mount(twin.url, "--index", sample_index, "--cache-size", "4MiB", at="small")
        assert warm(small.path / "rider_twin").returncode == 1
        unmount(small)
    assert warm(series).returncode == 0
    unmount(made)
    offline = mount(twin.url, "--index", sample_index, "--offline")
    expected = contents(sample)
    found = contents(offline.path / series.relative_to(made.path))
    assert len(found) == 60
    assert all(content == expected[name] for name, content in found.items())


def test_clearing_takes_what_waits_to_be_written_too(made: Mount, tmp_path: Path) -> None:
    for file in sorted(a_series(made).iterdir())[:20]:
        file.read_bytes()
    said = run([*IDCFS, "cache", "clear", "--cache-dir", tmp_path / "cache"])
    assert re.search(r"\(instances: \d\d, lists: \d+, sizes: \d\d\)", said)


def test_offline_nothing_has_to_go_for_a_smaller_cache(
    made: Mount, mount: MountMaker, twin: Twin, sample_index: Path
) -> None:
    series = a_series(made)
    assert warm(series).returncode == 0
    unmount(made)
    offline = mount(twin.url, "--index", sample_index, "--offline", "--cache-size", "4MiB")
    for _ in range(2):
        assert len(contents(offline.path / series.relative_to(made.path))) == 60
        assert warm(offline.path / series.relative_to(made.path)).returncode == 0


def test_a_mount_that_does_not_answer_holds_nobody_up(
    made: Mount, mount: MountMaker, sample_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_GLANCE_SECONDS", 5.0)
    other = mount(NOWHERE, "--index", sample_index, at="other")
    os.kill(made.pid, signal.SIGSTOP)
    try:
        assert running.mounts_using(tmp_path / "cache") == [other.path]
    finally:
        os.kill(made.pid, signal.SIGCONT)
    assert running.mounts_using(tmp_path / "cache") == sorted([made.path, other.path])
    os.kill(made.pid, signal.SIGKILL)
    assert eventually(lambda: mounts.is_stale(made.path))
    assert running.mounts_using(tmp_path / "cache") == [other.path]


@pytest.mark.parametrize("how", ["killed", "detached"])
def test_a_mount_that_goes_away_ends_it_with_one_line(how: str, made: Mount, twin: Twin) -> None:
    twin.set(match="/instances/", bytes_per_second=300_000)
    with started(made.path) as process:
        assert eventually(lambda: counters(made)["bytes_from_archive"] > 1_500_000)
        if how == "killed":
            os.kill(made.pid, signal.SIGKILL)
        else:
            mounts.unmount(made.path, lazy=True)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert summary(stdout)[2] == 0
    assert stderr == "idcfs: gave up: the mount is gone; run it again to go on\n"


def test_an_archive_that_gives_no_more_ends_it(
    mount: MountMaker, as_proxy: Callable[[Twin], str], twin: Twin, sample_index: Path
) -> None:
    options = ("--content", "wado", "--prefetch", "0")  # what is fetched ahead succeeds in between
    made = mount(as_proxy(twin), "--index", sample_index, *options)
    twin.set(match="/instances/", quota_bytes=2_000_000)
    done = warm(made.path)
    assert done.returncode == 1
    *lines, meaning, _, last = done.stderr.splitlines()
    reason = os.strerror(errno.EDQUOT)
    assert last == f"idcfs: gave up: 20 failures in a row ({reason}); run it again to go on"
    assert meaning == f"idcfs: {reason}: the archive's quota of the day is spent, and no bucket may be asked"
    assert 4 < len(lines) <= summary(done.stdout)[2] < 20 + 16
    assert all(line.endswith(f": {reason}") for line in lines)  # listings are not asked for any more either


def test_offline_it_is_of_no_use_to_run_it_again(
    made: Mount, mount: MountMaker, twin: Twin, sample_index: Path
) -> None:
    series = a_series(made)
    assert len(list(series.iterdir())) == 60
    unmount(made)
    offline = mount(twin.url, "--index", sample_index, "--offline")
    done = warm(offline.path / series.relative_to(made.path))
    *_, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert re.fullmatch(r"idcfs: gave up: 20 failures in a row \(.+\); an offline mount has only what is kept", last)


def test_a_dead_mount_is_refused(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    os.kill(made.pid, signal.SIGKILL)
    assert eventually(lambda: mounts.is_stale(made.path))
    done = warm(made.path / "rider_twin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"idcfs: {made.path / 'rider_twin'}: {os.strerror(errno.ENOTCONN)}\n"

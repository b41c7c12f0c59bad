"""Mounting, unmounting, dying, and what the command says when something cannot be done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from idcfs import mounts
from idcfs.fuse_options import FUSE_OPTIONS
from scripts.harness import IDCFS, is_mounted, run, status
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker, take_off
from tests.twin.client import Twin
from tests.unprivileged import only_root
from tests.waiting import PATIENCE_SECONDS, eventually

FOR_SHARING = only_root("others may share a mount only where /etc/fuse.conf lets them")


def alive(pid: int) -> bool:
    try:
        return "Z (" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between opening and reading
        return False


def test_umount_returns_when_the_process_is_gone(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    done = idcfs("umount", made.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not is_mounted(made.path)
    assert not alive(made.pid)


def test_taking_off_leaves_no_descriptor_open(mount: MountMaker, sample_index: Path) -> None:
    """The tests' own process does it some hundred times."""
    made = mount(NOWHERE, "--index", sample_index)
    before = os.listdir("/proc/self/fd")
    take_off(made)
    assert os.listdir("/proc/self/fd") == before
    assert not alive(made.pid)


@only_root("only root binds mounts")
def test_of_a_mount_that_is_at_two_places_one_is_taken_off_without_waiting(
    mount: MountMaker, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    other = tmp_path.resolve() / "other"
    other.mkdir()
    run(["mount", "--bind", made.path, other])
    done = idcfs("umount", other)
    line = f"idcfs: {other} is unmounted; the same mount is still at {made.path}\n"
    assert (done.returncode, done.stderr) == (0, line)
    assert not is_mounted(other)
    assert alive(made.pid)


def test_what_the_first_request_needs_is_loaded_before_it(
    mount: MountMaker, twin: Twin, sample_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))  # where what is loaded first leaves a trace
    made = mount(twin.url, "--index", sample_index)
    assert eventually(lambda: any((tmp_path / "compiled").rglob("idcfs/archive/bucket.*.pyc")))
    assert status(made.path)["counters"]["requests"] == 0


def test_fusermount_works_as_well(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    run(["fusermount3", "-u", made.path])
    assert eventually(lambda: not alive(made.pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(number: signal.Signals, mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    os.kill(made.pid, number)
    assert eventually(lambda: not alive(made.pid))
    assert not is_mounted(made.path)


def test_a_signal_unmounts_also_while_a_download_hangs(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    path = next(made.path.rglob("*.dcm"))
    twin.set(match="/instances/", stall_after_bytes=0)
    with subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        assert eventually(lambda: status(made.path)["counters"]["running_downloads"] == 1)
        os.kill(made.pid, signal.SIGTERM)
        assert eventually(lambda: not alive(made.pid))
        assert reader.wait(PATIENCE_SECONDS) != 0


def test_after_kill_9_the_same_place_can_be_mounted_again(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    before = sorted(path.relative_to(made.path) for path in made.path.rglob("*"))
    os.kill(made.pid, signal.SIGKILL)
    assert eventually(lambda: mounts.is_stale(made.path))
    again = mount(twin.url, "--index", sample_index)
    assert again.path == made.path
    assert sorted(path.relative_to(again.path) for path in again.path.rglob("*")) == before


def test_umount_cleans_up_after_kill_9(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    os.kill(made.pid, signal.SIGKILL)
    assert eventually(lambda: mounts.is_stale(made.path))
    assert idcfs("umount", made.path).returncode == 0
    assert not is_mounted(made.path)


def test_status_of_a_mount_whose_process_was_killed(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    os.kill(made.pid, signal.SIGKILL)
    assert eventually(lambda: mounts.is_stale(made.path))
    done = idcfs("status", made.path)
    assert (done.returncode, done.stdout) == (1, "")
    assert_one_line(done.stderr, f"the idcfs at {made.path} does not answer")


def test_status_where_nothing_is_mounted(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nothing"):
        done = idcfs("status", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert_one_line(done.stderr, f"no idcfs is mounted at {place.resolve()}")


def test_umount_lazy_does_not_wait_for_a_process_that_stands_still(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    os.kill(made.pid, signal.SIGSTOP)
    try:
        done = idcfs("umount", "--lazy", made.path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert not is_mounted(made.path)
    finally:
        os.kill(made.pid, signal.SIGKILL)
    assert eventually(lambda: not alive(made.pid))


def test_inode_numbers_are_the_same_after_a_remount(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    numbers = []
    for _ in range(2):
        made = mount(twin.url, "--index", sample_index)
        numbers.append({path: path.stat().st_ino for path in made.path.rglob("*")})
        run([*IDCFS, "umount", made.path])
    assert numbers[0] == numbers[1]
    assert len(set(numbers[0].values())) == len(numbers[0])


def test_sizes_are_remembered_across_mounts(mount: MountMaker, twin: Twin, sample: Path, sample_index: Path) -> None:
    exact = {path.stem: path.stat().st_size for path in sample.rglob("*.dcm")}
    made = mount(twin.url, "--index", sample_index)
    for path in made.path.rglob("*.dcm"):
        path.open("rb").close()
    run([*IDCFS, "umount", made.path])
    again = mount(twin.url, "--index", sample_index)
    assert {path.stem: path.stat().st_size for path in again.path.rglob("*.dcm")} == exact
    assert status(again.path)["counters"]["wado_requests"] == 0


def test_two_mounts_at_once_share_a_cache_directory(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    one = mount(twin.url, "--index", sample_index, at="one")
    two = mount(twin.url, "--index", sample_index, at="two")
    names = [sorted(path.relative_to(made.path) for path in made.path.rglob("*")) for made in (one, two)]
    assert names[0] == names[1]
    assert {entry["mountpoint"] for entry in json.loads(idcfs("status", "--json").stdout)} >= {
        str(one.path),
        str(two.path),
    }


def test_several_mounts_may_build_the_catalog_at_once(tmp_path: Path, sample_index: Path) -> None:
    places = [tmp_path.resolve() / f"mnt{number}" for number in range(4)]
    words = ("--archive", NOWHERE, "--index", str(sample_index), "--cache-dir", str(tmp_path / "cache"))
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    started = [subprocess.Popen([*IDCFS, "mount", str(place), *words], env=env) for place in places]
    try:
        assert [process.wait(60) for process in started] == [0, 0, 0, 0]
        assert [sorted(os.listdir(place)) for place in places] == [["chest_twin", "rider_twin"]] * 4
        assert len(list((tmp_path / "cache").glob("catalog-*.arrow*"))) == 1
    finally:
        for place in places:
            if is_mounted(place):
                mounts.unmount(place, lazy=True)


@pytest.mark.parametrize(
    "option",
    [pytest.param(name, marks=FOR_SHARING if name.startswith("allow_") else ()) for name in sorted(FUSE_OPTIONS)],
)
def test_every_mount_option_can_be_given(option: str, mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, "-o", option)
    found = mounts.mount_at(made.path)
    assert found is not None
    assert found.filesystem_type == "fuse.idcfs"
    assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]


@pytest.mark.parametrize("name", ["with spaces", "Köln – 東京", "two\nlines", "tab\tand\\backslash"])
def test_any_directory_can_be_mounted_on(name: str, mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, at=name)
    assert is_mounted(made.path)
    assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]
    assert status(made.path)["mountpoint"] == str(made.path)
    done = idcfs("umount", made.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(made.path)


def test_a_link_to_a_directory_can_be_mounted_on(mount: MountMaker, sample_index: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    made = mount(NOWHERE, "--index", sample_index, at="link")
    real = tmp_path.resolve() / "real"
    assert is_mounted(real)
    assert status(made.path)["mountpoint"] == status(real)["mountpoint"] == str(real)
    assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]
    done = idcfs("umount", made.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(real)
    assert (tmp_path / "link").is_symlink()


def test_a_relative_path_means_what_the_shell_means(mount: MountMaker, sample_index: Path, tmp_path: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    below = tmp_path / "below"
    below.mkdir()
    run([*IDCFS, "umount", made.path])
    words = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", "../cache")
    done = idcfs("mount", "../mnt", *words, state=tmp_path / "state", cwd=below)
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert is_mounted(made.path)
        assert str(made.path) in idcfs("status", "mnt", cwd=tmp_path).stdout
        done = idcfs("umount", ".", cwd=made.path)
        assert done.returncode == 1  # where the command itself stands is in use
        done = idcfs("umount", "mnt/", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert not is_mounted(made.path)
        assert not list(below.iterdir())
    finally:
        if is_mounted(made.path):
            mounts.unmount(made.path, lazy=True)


def test_mounting_sends_no_request(mount: MountMaker, twin: Twin) -> None:
    made = mount(twin.url, "--index", "qido")
    assert len(os.listdir(made.path)) == 1
    assert twin.counters()["requests"] == {}


def test_status_tells_what_the_mount_did(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    path = next(made.path.rglob("*.dcm"))
    size = len(path.read_bytes())
    assert ".status.json" not in os.listdir(made.path)
    report = json.loads((made.path / ".status.json").read_bytes())
    assert report["pid"] == made.pid
    assert report["mountpoint"] == str(made.path)
    counters = report["counters"]
    assert counters["downloads"] == counters["wado_requests"] == 1
    assert counters["requests"] == counters["qido_requests"] + 1 == sum(twin.counters()["requests"].values())
    assert counters["bytes_from_archive"] >= size
    assert counters["cache_bytes"] == size
    assert "downloads" in idcfs("status", made.path).stdout


def test_the_foreground_ends_with_the_mount(tmp_path: Path, sample_index: Path) -> None:
    place = tmp_path.resolve() / "mnt"
    words = ("--archive", NOWHERE, "--index", str(sample_index), "--cache-dir", str(tmp_path / "cache"), "-f")
    with subprocess.Popen([*IDCFS, "mount", str(place), *words], stderr=subprocess.PIPE, text=True) as process:
        assert eventually(lambda: is_mounted(place))
        assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
        run(["fusermount3", "-u", place])
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert "mounted" in process.stderr.read()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--archive", "ftp://host/x"), "--archive"),
        (("--idc-version", "25"), "--idc-version is for --archive google alone"),
        (("--index", "/nonexistent.parquet"), "No such file"),
        (("--index", ""), "--index is empty"),
        (("--cache-size", "0.4"), "--cache-size 0.4: give at least 2MiB"),
        (("--index", __file__), "cannot be read as a parquet index"),
        (("--memory-cache", "much"), "--memory-cache 'much' is not a size"),
        (("--cache-dir", ""), "'--cache-dir': it is empty"),
        (("--memory-cache", "1KiB"), "at least"),
        (("-o", "no_such_option"), "no such option"),
        (("--cache-dir", "/proc/nothing"), "the cache directory /proc/nothing cannot be"),
        (("--timeout", "-1"), "--timeout"),
        (("--log-level", "loud"), "--log-level"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    defaults = ("--archive", NOWHERE, "--cache-dir", str(tmp_path / "cache"))
    done = idcfs("mount", place, *defaults, *words, state=tmp_path / "state")
    assert done.returncode == 2
    assert_one_line(done.stderr, said)
    assert not is_mounted(place)


def test_the_cache_does_not_lie_in_the_mountpoint(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "below" / "it"):
        words = [*IDCFS, "mount", str(tmp_path), "--cache-dir", str(directory)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        assert done.returncode == 2
        assert_one_line(done.stderr, f"--cache-dir {directory} lies in the mountpoint")


@pytest.mark.parametrize("command", ["mount", "umount", "status"])
def test_the_empty_path_is_no_mountpoint(command: str, tmp_path: Path) -> None:
    words = [*IDCFS, command, ""]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    assert done.returncode == 2
    assert_one_line(done.stderr, "'[MOUNTPOINT]': it is empty" if command == "status" else "'MOUNTPOINT': it is empty")


def assert_one_line(stderr: str, said: str) -> None:
    """``idcfs: …`` and nothing else."""
    assert stderr.startswith("idcfs: "), stderr
    assert stderr.endswith("\n"), stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert said in stderr


def test_a_place_that_cannot_be_mounted_on_is_one_clear_line(
    tmp_path: Path, mount: MountMaker, sample_index: Path
) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    (full / "something").mkdir(parents=True)
    file.touch()
    taken = mount(NOWHERE, "--index", sample_index).path
    cases = {full: "not empty", file: "Not a directory", tmp_path / "no" / "parent": "No such file", taken: "already"}
    for place, said in cases.items():
        done = idcfs("mount", place, "--archive", NOWHERE, "--index", sample_index, state=tmp_path / "state")
        assert done.returncode == 2
        assert_one_line(done.stderr, said)
    for command in ("umount", "status"):
        done = idcfs(command, full)
        assert (done.returncode, done.stderr) == (2, f"idcfs: no idcfs is mounted at {full.resolve()}\n")


def test_nonempty_hides_files(tmp_path: Path, mount: MountMaker, sample_index: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt" / "mine").touch()
    made = mount(NOWHERE, "--index", sample_index, "-o", "nonempty")
    assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]
    run([*IDCFS, "umount", made.path])
    assert os.listdir(made.path) == ["mine"]


def test_umount_of_a_busy_mount_says_so_and_lazy_detaches_it(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    with subprocess.Popen(["sleep", "60"], cwd=made.path) as user:
        try:
            done = idcfs("umount", made.path)
            assert done.returncode == 1
            assert_one_line(done.stderr, "busy")
            assert is_mounted(made.path)
            assert idcfs("umount", "--lazy", made.path).returncode == 0
            assert not is_mounted(made.path)
        finally:
            user.kill()
    assert eventually(lambda: not alive(made.pid))

"""What scripts, races and odd names do to the command: one clear line, never a traceback, a hang or a dead mount."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from idcfs import fuse, mounts
from idcfs.errors import IdcfsError
from scripts.harness import IDCFS, Mount, is_mounted, status
from tests.mount.conftest import NOWHERE, MountMaker, fuse_device
from tests.unprivileged import AS_NOBODY, NOBODY, only_root
from tests.waiting import PATIENCE_SECONDS, eventually

Words = tuple[str | Path, ...]

ONLY_ROOT = only_root("takes two users")


class Shell:
    """Runs the command as somebody would, with places of the test's own."""

    def __init__(self, home: Path, index: Path) -> None:
        self.state = home / "state"
        self.env = {**os.environ, "XDG_STATE_HOME": str(self.state), "PYTHONWARNINGS": "error"}
        self.source: Words = ("--archive", NOWHERE, "--index", index, "--cache-dir", home / "cache")

    def __call__(self, *words: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """What comes of ``idcfs WORDS…``; never waits for ever."""
        command = [*prefix, *IDCFS, *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, env=self.env
        )

    def refused(self, code: int, *words: str | Path, prefix: tuple[str, ...] = ()) -> str:
        """The one line that ``idcfs WORDS…`` says when it fails with ``code``."""
        done = self(*words, prefix=prefix)
        assert (done.returncode, done.stdout) == (code, ""), done
        return one_line(done.stderr)


def one_line(stderr: str) -> str:
    assert stderr.startswith("idcfs: "), stderr
    assert stderr.endswith("\n"), stderr
    assert len(stderr.splitlines()) == 1, stderr
    return stderr.removesuffix("\n")


@pytest.fixture
def idcfs(tmp_path: Path, sample_index: Path) -> Iterator[Shell]:
    yield Shell(tmp_path, sample_index)
    for place in mounts.idcfs_mounts():
        if tmp_path.resolve() in place.parents:
            mounts.unmount(place, lazy=True)


@contextlib.contextmanager
def standing_still(made: Mount) -> Iterator[None]:
    os.kill(made.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(made.pid, signal.SIGCONT)


# --- a process that stands still --------------------------------------------------------------------------------------


def test_no_command_waits_for_ever(mount: MountMaker, idcfs: Shell, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    commands: list[Words] = [("status",), ("umount",), ("mount", *idcfs.source)]
    with standing_still(made), ThreadPoolExecutor() as at_once:
        said = set(at_once.map(lambda words: idcfs.refused(1, *words, made.path), commands))
        assert said == {
            f"idcfs: the idcfs at {made.path} does not answer: 'idcfs umount --lazy {made.path}' detaches it"
        }
        assert is_mounted(made.path)


def test_status_of_all_goes_on_after_those_that_do_not_answer(
    mount: MountMaker, idcfs: Shell, sample_index: Path
) -> None:
    dead, still, fine = (mount(NOWHERE, "--index", sample_index, at=name) for name in ("dead", "still", "fine"))
    os.kill(dead.pid, signal.SIGKILL)
    assert eventually(lambda: mounts.is_stale(dead.path))
    commands: list[Words] = [("status",), ("status", "--json")]
    with standing_still(still), ThreadPoolExecutor() as at_once:
        plain, as_json = at_once.map(lambda words: idcfs(*words), commands)
    assert f"{fine.path}: " in plain.stdout
    answered = {report["mountpoint"] for report in json.loads(as_json.stdout)}
    assert str(fine.path) in answered
    assert not {str(dead.path), str(still.path)} & answered
    for done in (plain, as_json):
        assert done.returncode == 1
        assert f"idcfs: the idcfs at {still.path} does not answer: 'idcfs umount" in done.stderr
        assert f"idcfs: the idcfs at {dead.path} does not answer ({os.strerror(errno.ENOTCONN)})" in done.stderr


# --- several at once --------------------------------------------------------------------------------------------------


def test_of_several_mounts_at_one_place_one_is_made(idcfs: Shell, tmp_path: Path) -> None:
    place = tmp_path.resolve() / "mnt"
    command = [*IDCFS, "mount", place, *idcfs.source]
    started = [subprocess.Popen(command, env=idcfs.env, stderr=subprocess.PIPE, text=True) for _ in range(5)]
    said = [process.communicate(timeout=60)[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 2, 2, 2, 2]
    assert all(f"idcfs is mounted at {place} already" in one_line(line) for line in said if line)
    assert mounts.idcfs_mounts().count(place) == 1
    assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
    assert idcfs("umount", place).returncode == 0
    assert idcfs("mount", place, *idcfs.source).returncode == 0  # nobody holds the lock any more


def test_a_mount_does_not_keep_the_lock(idcfs: Shell, tmp_path: Path) -> None:
    place = tmp_path.resolve() / "mnt"
    assert idcfs("mount", place, *idcfs.source).returncode == 0
    files = [os.readlink(file) for file in Path(f"/proc/{status(place)['pid']}/fd").iterdir()]
    assert list(idcfs.state.glob("idcfs/*.lock"))
    assert not [file for file in files if file.endswith(".lock")]


# --- how it is started ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_streams_may_be_closed(closed: str, idcfs: Shell, tmp_path: Path) -> None:
    place = tmp_path.resolve() / "mnt"
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *IDCFS, "mount", place, *idcfs.source]
    assert subprocess.run(command, env=idcfs.env, timeout=PATIENCE_SECONDS, check=False).returncode == 0
    assert is_mounted(place)
    assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
    assert idcfs("umount", place).returncode == 0


def test_the_current_directory_may_be_gone(idcfs: Shell, tmp_path: Path) -> None:
    gone = ("sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"')
    for words in (("mount", "mnt", *idcfs.source), ("umount", "mnt"), ("status", "mnt")):
        (tmp_path / "gone").mkdir()
        said = idcfs.refused(2, *words, prefix=(*gone, str(tmp_path / "gone")))
        assert said == "idcfs: mnt: the current directory does not exist any more"


# --- what is written --------------------------------------------------------------------------------------------------

REFUSED = [
    (("--index", "~nosuchuser/f"), "home directory"),
    (("--cache-dir", "~nosuchuser/x"), "home directory"),
    (("--timeout", "nan"), "--timeout nan: give 0.1 to 86400 seconds"),
    (("--timeout", "1e400"), "--timeout inf: give 0.1 to 86400 seconds"),
    (("--index", "/no\nsuch\x1b[31mfile"), r"/no\nsuch\x1b[31mfile: No such file"),
    (("--index", "/no\udcffsuch"), r"--index /no\udcffsuch: it is no text in UTF-8"),
    (("--cache-dir", "/proc/no\udcffsuch"), r"--cache-dir /proc/no\udcffsuch: it is no text in UTF-8"),
    (("--cache-dir", "/proc/nosuch"), "/proc/nosuch cannot be made"),
    (("-o", "nonempty=1"), "nonempty takes no value"),
    (("-o", "ro=1"), "ro takes no value"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=ascii)
def test_bad_input_is_one_line(words: Words, said: str, idcfs: Shell, tmp_path: Path) -> None:
    assert said in idcfs.refused(2, "mount", tmp_path / "mnt", *idcfs.source, *words)
    assert not (tmp_path / "mnt").exists()


def test_a_place_with_a_line_break_is_told_in_one_line(idcfs: Shell, tmp_path: Path) -> None:
    for command in ("umount", "status"):
        said = idcfs.refused(2, command, tmp_path / "a\nb")
        assert said == rf"idcfs: no idcfs is mounted at {tmp_path.resolve()}/a\nb"


def test_a_name_need_not_be_text(idcfs: Shell, tmp_path: Path) -> None:
    place = tmp_path.resolve() / "n\udcff"
    assert (done := idcfs("mount", place, *idcfs.source)).returncode == 0, done
    assert r"n\udcff: " in idcfs("status", place).stdout
    assert json.loads(idcfs("status", place, "--json").stdout)["mountpoint"] == str(place)
    assert (done := idcfs("umount", place)).returncode == 0, done
    logs = "".join(file.read_text() for file in idcfs.state.glob("idcfs/*.log"))
    assert rf"mounted {tmp_path.resolve()}/n\udcff" in logs
    assert "Traceback" not in logs


def test_a_fault_of_the_system_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from idcfs import cli

    def full() -> list[Path]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/proc/self/mountinfo")

    monkeypatch.setattr(mounts, "idcfs_mounts", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(["status"])
    assert ended.value.code == 1
    assert one_line(capsys.readouterr().err) == f"idcfs: /proc/self/mountinfo: {os.strerror(errno.EMFILE)}"


# --- what libfuse says ------------------------------------------------------------------------------------------------


def test_what_libfuse_says_is_in_the_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(IdcfsError) as caught, fuse.mounted(cast("fuse.Adapter", object()), missing, (), ""):
        pass
    assert str(caught.value).startswith(f"cannot mount at {missing}: ")
    assert os.strerror(errno.ENOENT) in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory of nobody's, outside pytest's, which is for its owner alone."""
    home = Path(tempfile.mkdtemp(prefix="idcfs-nobody-")).resolve()
    os.chown(home, NOBODY, NOBODY)
    with fuse_device():
        yield home
    shutil.rmtree(home)


@ONLY_ROOT
def test_what_fusermount_refuses_is_one_line(nobodys: Path, sample_index: Path) -> None:
    index = shutil.copyfile(sample_index, nobodys / "index.parquet")
    idcfs = Shell(nobodys, index)
    Path("/dev/fuse").chmod(0o666)
    (nobodys / "of-root").mkdir()
    said = idcfs.refused(1, "mount", nobodys / "of-root", *idcfs.source, prefix=AS_NOBODY)
    assert "of-root: fusermount3: " in said
    Path("/dev/fuse").chmod(0o600)
    said = idcfs.refused(2, "mount", nobodys / "mnt", *idcfs.source, prefix=AS_NOBODY)
    assert "/dev/fuse may not be opened by you; as root: chmod 666 /dev/fuse" in said
    assert not (nobodys / "mnt").exists()


@ONLY_ROOT
def test_a_mount_of_another_user_is_called_that(mount: MountMaker, sample_index: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="idcfs-root-")).resolve()
    try:
        home.chmod(0o755)
        made = mount(NOWHERE, "--index", sample_index, at=str(home))
        idcfs = Shell(home, sample_index)
        for command in ("status", "umount"):
            said = idcfs.refused(1, command, made.path, prefix=AS_NOBODY)
            assert said == f"idcfs: the idcfs at {made.path} belongs to another user"
        mounts.unmount(made.path)
    finally:
        home.rmdir()


@pytest.mark.parametrize("pause_seconds", [0.0, 0.001, 0.005, 0.02])
def test_a_second_ctrl_c_does_not_disturb_the_unmounting(
    pause_seconds: float, tmp_path: Path, sample_index: Path
) -> None:
    place = tmp_path.resolve() / "mnt"
    words = ("--archive", NOWHERE, "--index", str(sample_index), "--cache-dir", str(tmp_path / "cache"), "-f")
    with subprocess.Popen([*IDCFS, "mount", str(place), *words], stderr=subprocess.PIPE, text=True) as process:
        assert eventually(lambda: is_mounted(place))
        assert os.listdir(place)
        process.send_signal(signal.SIGINT)
        time.sleep(pause_seconds)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert not is_mounted(place)

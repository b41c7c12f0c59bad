"""Users who are not root mount as well: through fusermount3, and the kernel's limits stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.harness import IDCFS, detach, is_mounted, run
from tests.mount.commands import ended
from tests.mount.conftest import NOWHERE, logs, users_home, without_bugs
from tests.twin.client import Twin
from tests.unprivileged import AS_NOBODY, only_root


class User:
    """Somebody who is not root, with a directory of their own."""

    def __init__(self, home: Path, prefix: tuple[str, ...]) -> None:
        self.home = home
        self._prefix = prefix

    def run(self, *words: str | Path) -> str:
        """What a command of theirs prints."""
        return run([*self._prefix, *words], env=self._env(), cwd=self.home)

    def process(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """A command of theirs, whatever comes of it."""
        command = [_whole(self._prefix[0]), *self._prefix[1:], *words] if self._prefix else words
        return ended(*command, cwd=self.home, env={**self._env(), **env})

    def process_beside(self, fuse_conf: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """The same, where ``fuse_conf`` is /etc/fuse.conf; what it mounts ends with it."""
        script = 'mount --bind "$0" /etc/fuse.conf && "$@"; code=$?; fusermount3 -u -q -z mnt; exit $code'
        command = ("unshare", "--mount", "sh", "-c", script, fuse_conf, *self._prefix, *words)
        return ended(*command, cwd=self.home, env=self._env())

    def _env(self) -> dict[str, str]:
        places = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "HOME": "."}
        return {**os.environ, **{name: str(self.home / place) for name, place in places.items()}}


def _whole(command: str) -> str:
    """Where ``command`` is, for when PATH does not say."""
    found = shutil.which(command)
    assert found is not None
    return found


@pytest.fixture
def user() -> Iterator[User]:
    """Nobody, if root runs the tests; else who runs them."""
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(users_home())
        stack.enter_context(without_bugs(home / "state"))
        stack.callback(detach, home / "mnt")
        yield User(home, AS_NOBODY if os.getuid() == 0 else ())


def test_a_user_without_privileges_mounts_reads_and_unmounts(
    user: User, twin: Twin, sample: Path, sample_index: Path
) -> None:
    index = user.home / "index.parquet"
    shutil.copyfile(sample_index, index)
    mountpoint = user.home / "mnt"
    user.run(*IDCFS, "mount", mountpoint, "--archive", twin.url, "--index", index)
    assert is_mounted(mountpoint)
    assert user.run("ls", mountpoint).split() == ["chest_twin", "rider_twin"]
    sums = user.run("find", mountpoint, "-type", "f", "-exec", "sha256sum", "{}", "+").splitlines()
    assert {Path(line[66:]).name: line[:64] for line in sums} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sample.rglob("*.dcm")
    }
    assert user.run("stat", "-c", "%u %A", mountpoint).split() == [str(os.stat(user.home).st_uid), "drwxr-xr-x"]
    assert "downloads" in user.run(*IDCFS, "status", mountpoint)
    user.run(*IDCFS, "umount", mountpoint)
    assert not is_mounted(mountpoint)
    assert logs(user.home / "state").count("the kernel's defaults stay") == 1


@pytest.mark.parametrize(
    "copy", ["cp -a {} copy", "rsync -aX {}/ copy/", "mkdir copy && tar --xattrs -C {} -c . | tar --xattrs -C copy -x"]
)
def test_a_user_copies_directories_with_their_modes_and_deletes_the_copies(
    copy: str, user: User, twin: Twin, sample_index: Path
) -> None:
    shutil.copyfile(sample_index, user.home / "index.parquet")
    user.run(*IDCFS, "mount", "mnt", "--archive", twin.url, "--index", "index.parquet")
    study, *_ = user.run("sh", "-c", "ls -d mnt/*/*/*").split()
    user.run("sh", "-c", copy.format(study))
    user.run("diff", "-r", study, "copy")
    user.run("rm", "-r", "copy")
    assert not (user.home / "copy").exists()


def test_who_locks_himself_out_still_takes_it_off(user: User, twin: Twin, sample_index: Path) -> None:
    """As SYSTEM.md says."""
    shutil.copyfile(sample_index, user.home / "index.parquet")
    words = ("--archive", twin.url, "--index", "index.parquet", "-o", "umask=777")
    user.run(*IDCFS, "mount", "mnt", *words)
    nothing_more = ("setpriv", "--inh-caps=-all", "--ambient-caps=-all") if os.getuid() == 0 else ()
    assert user.process(*nothing_more, "ls", "mnt").stderr.endswith("Permission denied\n")
    user.run(*nothing_more, "fusermount3", "-u", "mnt")
    assert not is_mounted(user.home / "mnt")


@only_root("another /etc/fuse.conf takes root")
@pytest.mark.parametrize("option", ["allow_other", "allow_root"])
def test_a_mount_is_shared_only_where_root_lets_users(
    option: str, user: User, twin: Twin, sample_index: Path, tmp_path: Path
) -> None:
    """What /etc/fuse.conf says, told by one of our own, in a mount namespace that ends with the test."""
    shutil.copyfile(sample_index, user.home / "index.parquet")
    words = ["mount", "mnt", "--archive", twin.url, "--index", "index.parquet", "-o", option]
    for config, code in (("", 2), ("user_allow_other\n", 0)):
        (tmp_path / "fuse.conf").write_text(config)
        done = user.process_beside(tmp_path / "fuse.conf", *IDCFS, *words)
        assert done.returncode == code
        said = (
            "idcfs: -o allow_other, or allow_root: this machine lets only root share a mount; for others, root has to "
        )
        assert done.stderr == ("" if code == 0 else f"{said}write the line user_allow_other into /etc/fuse.conf\n")


def test_without_fusermount3_there_is_one_line(user: User) -> None:
    done = user.process(sys.executable, *IDCFS[1:], "mount", user.home / "mnt", PATH="/nonexistent")
    assert done.returncode == 2
    assert done.stderr == "idcfs: fusermount3 is missing: install the package fuse3\n"
    assert not (user.home / "mnt").exists()


@only_root("takes somebody else who may not")
def test_who_may_not_open_the_device_is_told_what_helps(user: User) -> None:
    Path("/dev/fuse").chmod(0o600)  # as the fixture found it, and will leave it
    done = user.process(*IDCFS, "mount", user.home / "mnt", "--archive", NOWHERE)
    said = "idcfs: /dev/fuse may not be opened by you; as root: chmod 666 /dev/fuse\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not (user.home / "mnt").exists()

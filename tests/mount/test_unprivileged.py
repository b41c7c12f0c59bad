"""Users who are not root mount as well: through fusermount3, and the kernel's limits stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.harness import IDCFS, is_mounted, run
from tests.mount.conftest import fuse_device, logs, without_bugs
from tests.twin.client import Twin
from tests.unprivileged import AS_NOBODY, NOBODY


class User:
    """Somebody who is not root, with a directory of their own."""

    def __init__(self, home: Path, prefix: tuple[str, ...]) -> None:
        self.home = home
        self._prefix = prefix

    def run(self, *words: str | Path) -> str:
        """What a command of theirs prints."""
        places = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "HOME": "."}
        env = {**os.environ, **{name: str(self.home / place) for name, place in places.items()}}
        return run([*self._prefix, *words], env=env, cwd=self.home)


@pytest.fixture
def user() -> Iterator[User]:
    """Nobody, if root runs the tests; else who runs them."""
    with contextlib.ExitStack() as stack:
        # Not pytest's directory, which is for its owner alone: fusermount3 looks at the way there with the user's eyes.
        home = Path(tempfile.mkdtemp(prefix="idcfs-nobody-")).resolve()
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        if os.getuid() == 0:
            os.chown(home, NOBODY, NOBODY)
            stack.enter_context(fuse_device()).chmod(0o666)
        stack.enter_context(without_bugs(home / "state"))
        stack.callback(take_off, home / "mnt")
        yield User(home, AS_NOBODY if os.getuid() == 0 else ())


def take_off(mountpoint: Path) -> None:
    if is_mounted(mountpoint):
        subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], check=True)


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
    assert user.run("stat", "-c", "%u %A", mountpoint).split() == [str(os.stat(user.home).st_uid), "dr-xr-xr-x"]
    assert "downloads" in user.run(*IDCFS, "status", mountpoint)
    user.run(*IDCFS, "umount", mountpoint)
    assert not is_mounted(mountpoint)
    assert logs(user.home / "state").count("the kernel's defaults stay") == 1

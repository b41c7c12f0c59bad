"""Whose everything is shown to be, and whom the kernel lets in by that."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.harness import Mount, mounted
from tests.mount.conftest import MountMaker, without_bugs
from tests.mount.stage import a_series
from tests.twin.client import Twin
from tests.unprivileged import NOBODY, only_root

SOMEBODY = 54_321
"""Neither root nor nobody."""


def facts(path: Path) -> tuple[int, int, str]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.filemode(found.st_mode)


@only_root("anybody else locks himself out")
def test_owner_and_modes_are_those_that_were_given(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    """Of the tree, and of all that is hidden."""
    made = mount(twin.url, "--index", sample_index, "-o", "uid=12,gid=34,umask=027")
    series = a_series(made)
    file = next(series.iterdir())
    below = series.relative_to(made.path)
    for path in (made.path, *series.parents[:3], series, made.path / ".index", made.path / ".rendered" / below):
        assert facts(path) == (12, 34, "drwxr-x---")
    hidden = (".status.json", ".bulk", ".index/collections.json", f".metadata/{below}.json")
    for path in (file, *(made.path / name for name in hidden), made.path / ".rendered" / below / f"{file.stem}.png"):
        assert facts(path) == (12, 34, "-rw-r-----")
    assert facts(made.path / ".uid" / series.name) == (12, 34, "lrwxrwxrwx")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("umask=000", (os.getuid(), os.getgid(), "drwxr-xr-x")),
        ("uid=12", (12, os.getgid(), "drwxr-xr-x")),
        ("gid=34,umask=77", (os.getuid(), 34, "drwx------")),
    ],
)
def test_what_is_not_given_is_as_ever(
    options: str, expected: tuple[int, int, str], mount: MountMaker, sample_index: Path, twin: Twin
) -> None:
    assert facts(mount(twin.url, "--index", sample_index, "-o", options).path) == expected


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that everybody gets to, which pytest's are not."""
    place = Path(tempfile.mkdtemp(prefix="idcfs-owner-")).resolve()
    place.chmod(0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def read_as(uid: int, gid: int, *paths: Path) -> list[int]:
    """With which exit code ``cat`` ends for each of ``paths``, run by that user."""
    who = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    return [subprocess.run([*who, "cat", path], capture_output=True, check=False).returncode for path in paths]


@only_root("takes three users")
@pytest.mark.parametrize(
    ("options", "owner", "group", "others"),
    [
        ("allow_other", 0, 0, 0),
        (f"allow_other,uid={NOBODY},gid={NOBODY},umask=027", 0, 0, 1),
        (f"allow_other,uid={NOBODY},gid={NOBODY},umask=077", 0, 1, 1),
        (f"allow_other,gid={NOBODY},umask=027", 0, 0, 1),
        (f"uid={NOBODY},gid={NOBODY}", 1, 1, 1),
    ],
)
def test_the_kernel_lets_in_by_owner_and_mode(
    options: str, owner: int, group: int, others: int, open_place: Path, twin: Twin, sample_index: Path
) -> None:
    """Root always, and without allow_other nobody else, whosever it is said to be."""
    state, words = open_place / "state", ("--archive", twin.url, "--index", sample_index)
    cache = ("--cache-dir", open_place / "cache")
    with without_bugs(state), mounted(open_place / "mnt", *words, *cache, "-o", options, state_dir=state) as made:
        assert_read(made, NOBODY, NOBODY, owner)
        assert_read(made, SOMEBODY, NOBODY, group)
        assert_read(made, SOMEBODY, SOMEBODY, others)
        assert_read(made, 0, 0, 0)


def assert_read(made: Mount, uid: int, gid: int, code: int) -> None:
    file = next(made.path.rglob("*.dcm"))
    assert read_as(uid, gid, file, made.path / ".status.json") == [code, code]

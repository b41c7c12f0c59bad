"""Directories that others may write into are not used: what lies there could be theirs, or lead elsewhere."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from idcfs import logs, trust
from idcfs.errors import UsageError
from scripts.harness import is_mounted
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE
from tests.unprivileged import NOBODY, only_root

ONLY_ROOT = only_root("takes two users")
PLANTED = ("series.sqlite", "catalog.lock", "blocks", "index.lock")


def open_to_all(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o1777)


def anothers(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)


def led_to_by_another(directory: Path) -> None:
    (directory.parent / "mine").mkdir(mode=0o700)
    directory.symlink_to("mine")
    os.chown(directory, NOBODY, NOBODY, follow_symlinks=False)


SPOILED = [
    pytest.param(open_to_all, "everybody may write into", id="open to all"),
    pytest.param(anothers, "belongs to another user", marks=ONLY_ROOT, id="another's"),
    pytest.param(led_to_by_another, "belongs to another user", marks=ONLY_ROOT, id="another's link"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILED)
def test_what_others_may_write_is_no_cache_directory(
    spoil: Callable[[Path], None], said: str, tmp_path: Path, sample_index: Path
) -> None:
    cache, treasure = tmp_path / "cache", tmp_path / "treasure"
    spoil(cache)
    treasure.write_text("of great worth")
    treasure.chmod(0o644)
    for name in PLANTED:
        (cache / name).symlink_to(treasure)
    words = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", cache)
    done = idcfs("mount", tmp_path / "mnt", *words, state=tmp_path / "state")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert f"{cache} {said}" in done.stderr or f"{said} the cache directory {cache}" in done.stderr
    assert not is_mounted(tmp_path / "mnt")
    done = idcfs("cache", "clear", "--cache-dir", cache)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert said in idcfs("doctor", "--offline", "--cache-dir", cache).stdout
    assert (treasure.read_text(), stat.S_IMODE(treasure.stat().st_mode)) == ("of great worth", 0o644)
    assert {path.name for path in cache.iterdir()} == set(PLANTED)


@pytest.mark.parametrize(("spoil", "said"), SPOILED)
@pytest.mark.parametrize("foreground", [True, False])
def test_nor_do_lock_or_log_lie_there(
    spoil: Callable[[Path], None], said: str, foreground: bool, tmp_path: Path, sample_index: Path
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    spoil(tmp_path / "state" / "idcfs")
    words = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", tmp_path / "cache")
    switch = ("-f",) if foreground else ()
    done = idcfs("mount", tmp_path / "mnt", *words, *switch, state=tmp_path / "state")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert said in done.stderr
    assert not list((tmp_path / "state" / "idcfs").iterdir())


@ONLY_ROOT
def test_ones_own_link_may_lead_there(tmp_path: Path) -> None:
    (tmp_path / "large-disk").mkdir(mode=0o770)
    (tmp_path / "cache").symlink_to("large-disk")
    trust.check_directory(tmp_path / "cache", "cache directory")
    anothers(tmp_path / "theirs")
    (tmp_path / "to-theirs").symlink_to("theirs")
    with pytest.raises(UsageError, match="belongs to another user"):
        trust.check_directory(tmp_path / "to-theirs", "cache directory")


@pytest.mark.parametrize("umask", [0, 0o002, 0o077])
def test_nor_may_others_write_into_what_is_made_above_it(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        trust.make_directory(tmp_path / "a" / "b" / "idcfs")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / place).stat().st_mode) for place in ("a", "a/b", "a/b/idcfs")]
    assert modes == [0o755 & ~umask, 0o755 & ~umask, 0o700]


def test_what_a_mount_writes_is_for_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        handler = logs._handler(tmp_path / "idcfs" / "mnt.log")
        handler.emit(logging.makeLogRecord({"msg": "the patient's name"}))
        handler.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "idcfs" / "mnt.log").stat().st_mode) == 0o600

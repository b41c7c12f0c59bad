"""Checks of this machine, on devices, programs and files that are made for them."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from idcfs.commands import checking
from idcfs.commands.finding import Finding
from tests.unprivileged import as_nobody
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="idcfs-checking-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_a_device_that_is_missing_or_not_for_this_user(place: Path) -> None:
    found = checking.fuse_device(place / "fuse")
    assert (found.state, found.said) == ("fail", f"{place}/fuse is missing")
    (place / "fuse").touch(mode=0o000)
    with as_nobody():
        found = checking.fuse_device(place / "fuse")
    assert (found.state, found.remedy) == ("fail", f"as root: chmod 666 {place}/fuse")
    (place / "fuse").chmod(0o666)
    with as_nobody():
        assert checking.fuse_device(place / "fuse").state == "ok"


def test_a_fusermount3_that_may_not_mount(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Path(shutil.copy(shutil.which("true") or "", place / "fusermount3"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(place))
    with as_nobody():
        found = checking.fusermount()
    assert (found.state, found.remedy) == ("fail", f"as root: chmod u+s {program}")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("user_allow_other\n", "ok"),
        ("mount_max = 10\n  user_allow_other  ", "ok"),
        ("#user_allow_other\n", "warn"),
        ("", "warn"),
        (None, "warn"),
    ],
)
def test_who_may_let_others_see_a_mount(text: str | None, state: str, place: Path) -> None:
    if text is not None:
        (place / "fuse.conf").write_text(text)
        (place / "fuse.conf").chmod(0o644)
    with as_nobody():
        found = checking.other_users(place / "fuse.conf")
    assert found.state == state
    assert (str(place / "fuse.conf") in found.remedy) == (state == "warn")


def test_an_index_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_OLD_DAYS", -1)
    found = checking.packaged_index()
    assert (found.state, found.remedy) == ("warn", f"{sys.executable} -m pip install --upgrade idc-index-data")


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("click>=1.0", ""),
        ("click[extra]>=1.0; python_version >= '3'", ""),
        ("nonsense-package>=1; extra == 'dev'", ""),
        ("nonsense-package>=1; python_version < '3'", ""),
        ("nonsense-package", "nonsense-package is not installed"),
        ("click>=999,!=1000", f"click {version('click')} is there, and !=1000,>=999 is needed"),
    ],
)
def test_what_is_wrong_with_a_package(requirement: str, said: str) -> None:
    assert checking._wrong_with(Requirement(requirement)) == said


def test_a_directory_of_another_user_is_named_as_such(place: Path) -> None:
    (place / "cache").mkdir(mode=0o500)
    with as_nobody():
        found = checking.cache(place / "cache" / "idcfs", 0)
    assert found.state == "fail"
    assert f"{place}/cache says Permission denied, and belongs to " in found.said


def test_mounts_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    all_there = threading.Barrier(3, timeout=PATIENCE_SECONDS)

    def asked(place: Path) -> Finding:
        all_there.wait()
        return Finding.ok("mount", str(place))

    monkeypatch.setattr(checking, "mounted", asked)
    assert [one.said for one in checking.mounted_at([Path("/a"), Path("/b"), Path("/c")])] == ["/a", "/b", "/c"]


def test_a_cache_that_leads_nowhere(place: Path) -> None:
    (place / "cache").symlink_to(place / "missing")
    assert checking.cache(place / "cache", 0).state == "fail"

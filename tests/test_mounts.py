"""The machine's mounts and the places that users name, as far as no mount is needed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from idcfs import mounts
from idcfs.errors import UsageError


def test_what_happens_in_a_thread_comes_back_whatever_it_is() -> None:
    assert mounts.in_thread(lambda: 7).result() == 7
    with pytest.raises(ZeroDivisionError):
        mounts.in_thread(lambda: 1 // 0).result()


def test_a_place_is_absolute_and_its_parents_free_of_links_and_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    (real / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(real)
    monkeypatch.setenv("HOME", str(real))
    for text in ("idc", "./idc", "inner/../idc", "~/idc", "../link/idc", f"{tmp_path}/link/inner/../idc", "idc/"):
        assert mounts.absolute(Path(text)) == real / "idc", text
    assert mounts.absolute(Path()) == real
    assert mounts.absolute(Path("inner/..")) == real
    assert mounts.absolute(Path("/")) == Path("/")


def test_a_place_is_not_asked_whether_it_exists(tmp_path: Path) -> None:
    assert mounts.absolute(tmp_path / "missing" / "idc") == tmp_path.resolve() / "missing" / "idc"


def test_a_place_that_cannot_be_known_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    for make in (mounts.absolute, mounts.expanded):
        assert make(tmp_path) == tmp_path.resolve()
        with pytest.raises(UsageError, match=r"^idc: the current directory does not exist any more$"):
            make(Path("idc"))
        with pytest.raises(UsageError, match=r"^~nosuchuser/idc: "):
            make(Path("~nosuchuser/idc"))


def test_a_lock_is_held_until_let_go(tmp_path: Path) -> None:
    file = tmp_path / "state" / "mnt.lock"

    def free() -> bool:
        with file.open("rb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    with mounts.reserved(file) as let_go:
        assert not free()
        let_go()
        assert free()
    with mounts.reserved(file):
        assert not free()
    assert free()


def test_without_a_place_for_the_lock_there_is_none() -> None:
    with mounts.reserved(Path("/proc/nothing/mnt.lock")) as let_go:
        let_go()


def test_what_is_mounted_at_a_place_is_not_asked_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    lstat = os.lstat

    def watched(path: str) -> os.stat_result:
        looked_at.append(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", watched)
    assert mounts.absolute(Path("/proc/")) == Path("/proc")
    assert "/proc" not in looked_at
    assert mounts.absolute(Path("/nothing")) == Path("/nothing")
    assert "/nothing" in looked_at


def test_octal_escapes_of_mountinfo_are_read() -> None:
    assert mounts._plain(rb"/mnt/a\040b\011c\012d\134e") == b"/mnt/a b\tc\nd\\e"
    assert mounts._plain(rb"/mnt/a\134040b") == rb"/mnt/a\040b"
    assert mounts._plain(b"/mnt/idc") == b"/mnt/idc"


def test_the_mounts_of_this_machine_are_found() -> None:
    root = mounts.mount_at(Path("/"))
    assert root is not None
    assert root.device.count(":") == 1
    assert mounts.mount_at(Path("/no such mount")) is None
    assert not any(mounts.is_stale(place) for place in (Path("/"), Path("/no such mount"), Path(os.devnull)))

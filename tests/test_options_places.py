"""Where caches and logs are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from idcfs import options


@pytest.mark.parametrize(
    "place", ["/", "/mnt/idc", "/mnt/" + "é" * 300, "/mnt/患者" * 60, "/a b\n\udc80/" + "x" * 4000]
)
def test_every_mountpoint_has_a_log_file_that_can_be_made(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = options.log_file(Path(place))
    assert log.parent == tmp_path / "idcfs"
    log.parent.mkdir()
    log.touch()


def test_cache_and_log_are_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert options.default_cache_dir() == tmp_path / "cache" / "idcfs"
    assert options.log_file(Path("/mnt/idc")) == tmp_path / "state" / "idcfs" / "mnt-idc.log"


def test_no_two_mountpoints_have_the_same_log() -> None:
    places = ["/a/b-c", "/a-b/c", "/a/b/c", "/a-b-c", "/a b/c", "/a\tb/c", "/", "/root", "/-", "/a/" + "é" * 300]
    places += ["/b/" + "é" * 300, "/a\udc80", "/a\udc81", "/a/b/c+", "/a.b"]
    names = [options.log_file(Path(place)).name for place in places]
    assert len(set(names)) == len(names)
    assert names[2] == "a-b-c.log"
    assert re.fullmatch(r"a-b-c\+[0-9a-f]{8}\.log", names[0])

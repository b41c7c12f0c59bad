"""Where caches and logs are."""

from __future__ import annotations

import pwd
import re
from pathlib import Path

import pytest

from idcfs import options
from idcfs.cli import main


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


@pytest.mark.parametrize("words", [["config"], ["doctor", "--offline"], ["cache", "info"], ["mount", "/tmp/none"]])
def test_who_has_no_home_is_told_so(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("idcfs: you have no home directory: set HOME, or")

"""``idcfs cache``: what is on disk is shown, checked and removed, while a mount uses it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from idcfs import cli
from scripts.harness import IDCFS, Mount, run, status
from tests.mount.commands import warm
from tests.mount.conftest import MountMaker
from tests.mount.stage import contents, unmount
from tests.twin.client import Twin
from tests.unprivileged import only_root
from tests.waiting import eventually

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cache(capsys: pytest.CaptureFixture[str]) -> Command:
    """``cache(*words)`` runs ``idcfs cache WORDS…`` in this process, whatever comes of it."""

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["cache", *map(str, words)])
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(words, ended.value.code, *capsys.readouterr())

    return call


def info(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run([*IDCFS, "cache", "info", "--json", "--cache-dir", directory]))
    return found


@pytest.fixture
def filled(mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path) -> Mount:
    """A mount whose cache in ``tmp_path / "cache"`` holds the whole archive."""
    made = mount(twin.url, "--index", sample_index)
    assert warm(made.path).returncode == 0
    size = sum(map(len, contents(sample).values()))
    assert eventually(lambda: info(tmp_path / "cache")["content_bytes"] >= size)
    return made


def blocks(directory: Path) -> list[Path]:
    """Files with contents."""
    return sorted(path for path in (directory / "blocks").rglob("*") if re.fullmatch("[0-9a-f]{32}", path.name))


def test_info_shows_what_is_kept(cache: Command, filled: Mount, tmp_path: Path, sample: Path) -> None:
    unmount(filled)
    expected = contents(sample)
    found = info(tmp_path / "cache")
    assert found["cache_dir"] == str(tmp_path / "cache")
    assert (found["instances"], found["series"]) == (len(expected), 9)
    assert found["lists"] <= 9  # that of a series of one instance is in the index
    assert found["lists"] > 0
    assert found["sizes"] >= len(expected) - 9
    assert found["content_bytes"] >= sum(map(len, expected.values()))
    assert found["blocks"] >= len(expected)
    assert min(found["database_bytes"], found["disk_free_bytes"]) > 0
    plain = cache("info", "--cache-dir", tmp_path / "cache")
    assert (plain.returncode, plain.stderr) == (0, "")
    head, *lines = plain.stdout.splitlines()
    assert head == f"{tmp_path / 'cache'}:"
    assert f"  {'instances':<18}{len(expected):>18,}  files of which contents are kept, not always all" in lines
    assert [line[2:20].strip().replace(" ", "_") for line in lines] == list(found)[1:]
    assert all(line[37].isdigit() and line[38:40] == "  " and line[40:] for line in lines)


def test_clear_removes_it_while_a_mount_goes_on(cache: Command, filled: Mount, tmp_path: Path, sample: Path) -> None:
    held = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    done = cache("clear", "--cache-dir", tmp_path / "cache")
    assert (done.returncode, done.stderr) == (0, "")
    match = re.match(r"freed ([\d,]+) bytes \(instances: 125, lists: \d, sizes: \d+\)\n", done.stdout)
    assert match, done.stdout
    left = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert left < held / 10
    assert abs(int(match[1].replace(",", "")) - (held - left)) < held / 10
    assert not blocks(tmp_path / "cache")
    assert list((tmp_path / "cache").glob("catalog-*.arrow"))
    assert contents(filled.path) == contents(sample)
    assert warm(filled.path).returncode == 0


def test_after_clear_the_next_mount_fetches_again(
    cache: Command, filled: Mount, mount: MountMaker, twin: Twin, sample_index: Path, tmp_path: Path
) -> None:
    unmount(filled)
    assert cache("clear", "--cache-dir", tmp_path / "cache").returncode == 0
    empty = info(tmp_path / "cache")
    assert [empty[name] for name in ("blocks", "content_bytes", "instances", "series", "lists", "sizes")] == [0] * 6
    made = mount(twin.url, "--index", sample_index)
    assert len(contents(made.path / "rider_twin")) == 47
    assert status(made.path)["counters"]["wado_requests"] >= 47


def test_verify_removes_what_is_damaged_and_nothing_else(
    cache: Command, filled: Mount, mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path
) -> None:
    unmount(filled)
    good = cache("verify", "--cache-dir", tmp_path / "cache")
    assert (good.returncode, good.stderr) == (0, "")
    count = info(tmp_path / "cache")["blocks"]
    assert good.stdout.startswith(f"good blocks: {count} (")
    assert good.stdout.endswith("\ndamaged and removed: 0 (0 bytes)\n")
    damaged = blocks(tmp_path / "cache")[7]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    found = cache("verify", "--cache-dir", tmp_path / "cache")
    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout.startswith(f"good blocks: {count - 1} (")
    assert re.search(r"\ndamaged and removed: 1 \([\d,]+ bytes\)\n$", found.stdout)
    again = cache("verify", "--cache-dir", tmp_path / "cache")
    assert (again.returncode, again.stdout.startswith(f"good blocks: {count - 1} (")) == (0, True)
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    assert contents(made.path) == contents(sample)
    assert status(made.path)["counters"]["wado_requests"] == 1


def test_an_empty_directory_is_an_empty_cache(cache: Command, tmp_path: Path) -> None:
    shown = cache("info", "--cache-dir", tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"{tmp_path}: empty\n")
    assert cache("verify", "--cache-dir", tmp_path).returncode == 0
    cleared = cache("clear", "--cache-dir", tmp_path)
    assert (cleared.returncode, cleared.stderr) == (0, "")
    assert cleared.stdout == "freed 0 bytes (instances: 0, lists: 0, sizes: 0)\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("info",), ("info", "--json"), ("clear",), ("verify",)])
def test_a_directory_that_was_named_and_is_not_there_is_refused(
    words: tuple[str, ...], cache: Command, tmp_path: Path
) -> None:
    done = cache(*words, "--cache-dir", tmp_path / "missing" / "cache")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"idcfs: there is no cache directory {tmp_path / 'missing' / 'cache'}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["info", "clear", "verify"])
def test_without_cache_dir_it_is_the_users_which_need_not_exist_yet(
    command: str, cache: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shown = cache(command)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == f"nothing is kept: {tmp_path}/idcfs does not exist yet\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["info", "clear", "verify"])
def test_what_is_no_cache_is_left_alone(cache: Command, command: str, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    done = cache(command, "--cache-dir", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"idcfs: {tmp_path} is not a cache directory of idcfs: it holds other files, and none of a cache\n"
    )
    done = cache(command, "--cache-dir", tmp_path / "holiday.jpg")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@only_root("takes two users")
def test_the_contents_of_another_user_are_left_alone(cache: Command, tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    os.chown(tmp_path / "blocks", 65_534, 65_534)
    for command in ("info", "clear", "verify"):
        done = cache(command, "--cache-dir", tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"idcfs: {tmp_path / 'blocks'} belongs to another user\n"

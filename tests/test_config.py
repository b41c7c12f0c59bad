"""Settings of the user's file and of the environment: which goes before which, and what is said of wrong ones."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from idcfs import cli
from idcfs.commands.mount import mount
from idcfs.settings import GIB, MIB
from tests.served import settings_of

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the user's file."""
    file = tmp_path / "config" / "idcfs" / "config.toml"
    file.parent.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def make(text: str) -> Path:
        file.write_text(text)
        return file

    return make


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    """The one line that ``idcfs WORDS…`` ends with."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*words])
    assert ended.value.code == code
    stderr = capsys.readouterr().err
    assert len(stderr.splitlines()) == 1, stderr
    return stderr.removeprefix("idcfs: ").rstrip("\n")


def reported(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``idcfs config --json`` prints of each setting."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["config", "--json"])
    assert ended.value.code == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["settings"]
    return found


def test_options_go_before_the_environment_and_that_before_the_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('cache-size = "3GiB"\nmemory-cache = "3MiB"\nprefetch = 3\ntimeout = 3\n')
    monkeypatch.setenv("IDCFS_MEMORY_CACHE", "4MiB")
    monkeypatch.setenv("IDCFS_PREFETCH", "4")
    content = settings_of("--prefetch", "5", home=tmp_path, monkeypatch=monkeypatch).content
    assert (content.disk_cache_bytes, content.memory_cache_bytes, content.prefetch) == (3 * GIB, 4 * MIB, 5)
    assert content.timeout_seconds == 3.0


def test_an_option_of_which_there_may_be_several_is_replaced_as_a_whole(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collections(*words: str) -> tuple[str, ...]:
        return settings_of(*words, home=tmp_path, monkeypatch=monkeypatch).cohort.collections

    write('collection = "a"')
    assert collections() == ("a",)
    write('collection = ["a", "b"]\noptions = ["umask=027,ro", "uid=7"]')
    assert collections() == ("a", "b")
    owner = settings_of(home=tmp_path, monkeypatch=monkeypatch).owner
    assert (owner.uid, owner.umask) == (7, 0o027)
    monkeypatch.setenv("IDCFS_COLLECTION", "c d,e")
    assert collections() == ("c", "d", "e")
    assert collections("--collection", "f") == ("f",)


def test_flags_can_be_set_and_unset(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline() -> bool:
        return settings_of(home=tmp_path, monkeypatch=monkeypatch).offline

    write("offline = true")
    assert offline()
    monkeypatch.setenv("IDCFS_OFFLINE", "no")
    assert not offline()
    write("offline = false")
    assert not offline()
    monkeypatch.setenv("IDCFS_OFFLINE", "1")
    assert offline()
    assert not settings_of("--no-offline", home=tmp_path, monkeypatch=monkeypatch).offline


def test_an_empty_variable_is_none(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("prefetch = 3")
    monkeypatch.setenv("IDCFS_PREFETCH", "")
    assert settings_of(home=tmp_path, monkeypatch=monkeypatch).content.prefetch == 3


def test_where_each_setting_comes_from(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write('cache-size = "3GiB"\nprefetch = 3')
    monkeypatch.setenv("IDCFS_PREFETCH", "4")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    found = reported(capsys)
    place = f"cache-size in {file}"
    assert found["cache-size"] == {"value": "3GiB", "source": "file", "place": place}
    assert found["prefetch"] == {"value": 4, "source": "environment", "place": "IDCFS_PREFETCH in the environment"}
    assert found["cache-dir"] == {"value": "/somewhere/idcfs", "source": "default", "place": None}
    assert (found["offline"]["value"], found["collection"]["value"], found["where"]["value"]) == (False, [], None)
    with pytest.raises(SystemExit):
        cli.main(["config"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}:"
    assert [line.split()[0] for line in lines[1:]] == list(found)
    assert re.search(rf"  cache-size +3GiB +{re.escape(place)}$", "\n".join(lines), re.MULTILINE)


def test_every_option_of_mount_is_a_setting_but_that_of_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        word for one in mount.params if not getattr(one, "hidden", False) for word in one.opts if word[:2] == "--"
    }
    assert {f"--{name}" for name in reported(capsys)} == options - {"--foreground"}


def test_a_variable_that_is_no_setting_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("")
    monkeypatch.setenv("IDCFS_PROXY_URL", "http://127.0.0.1:9/")
    for name, hint in (("CASH_SIZE", "; did you mean IDCFS_CACHE_SIZE?"), ("FOREGROUND", ""), ("SECRET", "")):
        monkeypatch.setenv(f"IDCFS_{name}", "1")
        assert said(capsys, "config", code=0) == f"IDCFS_{name} in the environment is no setting{hint}"
        monkeypatch.delenv(f"IDCFS_{name}")


def test_a_password_is_not_shown(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write('archive = "http://me:secret@127.0.0.1/dicom-web"')
    for words in (("config",), ("config", "--json")):
        with pytest.raises(SystemExit) as ended:
            cli.main([*words])
        assert ended.value.code == 2
        shown = capsys.readouterr()
        assert "secret" not in shown.out + shown.err


def test_other_commands_take_the_cache_directory_from_there_too(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(f'cache-dir = "{tmp_path}/elsewhere"')
    for command in ("info", "clear", "verify"):
        with pytest.raises(SystemExit) as ended:
            cli.main(["cache", command])
        assert ended.value.code == 0
        assert f"{tmp_path}/elsewhere" in capsys.readouterr().out  # no mount has made it yet, which is no fault
        line = said(capsys, "cache", command, "--cache-dir", f"{tmp_path}/elsewhere")
        assert line == f"there is no cache directory {tmp_path}/elsewhere"
    monkeypatch.setenv("IDCFS_CACHE_DIR", str(file))
    assert said(capsys, "cache", "info").startswith("Invalid value for '--cache-dir': ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cache_size = 1", "cache_size in FILE: no such setting; did you mean cache-size?"),
        ("foreground = true", "foreground in FILE: no such setting; there are archive, idc-version, "),
        ("[mount]\nprefetch = 1", "[mount] in FILE: settings stand in no table; there are archive, "),
        ("prefetch = 1 2", "FILE is not TOML: "),
        ("prefetch = true", "prefetch in FILE: give a whole number"),
        ("prefetch = 3.5", "prefetch in FILE: give a whole number"),
        ('timeout = "60"', "timeout in FILE: give a number"),
        ('offline = "yes"', "offline in FILE: give true or false"),
        ("log-level = 1", "log-level in FILE: give a string: debug, info, warning, error"),
        ("cache-size = 1.5", "cache-size in FILE: give a string (SIZE)"),
        ("cache-dir = 1", "cache-dir in FILE: give a string (DIR)"),
        ('where = "a\\u0000b"', "where in FILE: give a string (SQL)"),
        ("collection = [1]", 'collection in FILE: give a list of strings, like ["first", "second"]'),
        ("prefetch = 99", "Invalid value for '--prefetch': 99 is not in the range 0<=x<=24 (prefetch in FILE)"),
        (
            'cache-size = "much"',
            "--cache-size 'much' is not a size: write it like 256MiB or 2GiB (cache-size in FILE)",
        ),
        ("timeout = nan", "--timeout nan: give 0.1 to 86400 seconds (timeout in FILE)"),
        ('options = "umask=9"', "-o umask=9: give the bits to take away in octal, from 000 to 777, like 027 (options"),
        (
            'content = "wado"\nbucket = "gcs"',
            "--bucket is of no use with --content wado: leave one of them out (content in FILE, bucket in FILE)",
        ),
    ],
)
@pytest.mark.parametrize("words", [("config",), ("mount", "/nonexistent/idc")], ids=["config", "mount"])
def test_what_is_wrong_in_the_file_is_told_with_its_place(
    text: str, line: str, words: tuple[str, ...], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(text)
    assert said(capsys, *words).startswith(line.replace("FILE", str(file)))


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PREFETCH", "many", "Invalid value for '--prefetch': 'many' is not a valid integer range"),
        ("OFFLINE", "maybe", "--offline: give yes or no"),
        ("MEMORY_CACHE", "1KiB", "--memory-cache 1KiB: give at least 2MiB"),
        ("OPTIONS", "ro allow_others", "-o allow_others: no such option; did you mean allow_other?"),
        ("ARCHIVE", "ftp://x", "--archive 'ftp://x': give proxy, google or the URL of a DICOMweb server"),
    ],
)
def test_what_is_wrong_in_the_environment_is_told_with_its_name(
    name: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"IDCFS_{name}", value)
    for words in (("config",), ("mount", "/nonexistent/idc")):
        told = said(capsys, *words)
        assert told.startswith(line)
        assert told.endswith(f"(IDCFS_{name} in the environment)")


def test_what_is_given_is_not_told_to_come_from_elsewhere(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write('cache-size = "3GiB"')
    line = said(capsys, "mount", "/nonexistent/idc", "--cache-size", "much")
    assert line == "--cache-size 'much' is not a size: write it like 256MiB or 2GiB"


def test_a_file_that_cannot_be_read_is_told(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("")
    file.write_bytes(b"where = '\xff'")
    assert said(capsys, "config").startswith(f"{file} is not TOML: ")
    file.unlink()
    file.mkdir()
    assert said(capsys, "config") == f"{file} cannot be read: Is a directory"


def test_help_is_there_for_whoever_wrote_it_wrong(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("nonsense")
    with pytest.raises(SystemExit) as ended:
        cli.main(["mount", "--help"])
    assert ended.value.code == 0
    assert "config.toml" in capsys.readouterr().out


def test_no_word_but_help_itself_leaves_the_settings_out(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("nonsense")
    for words in (("/tmp/none", "--where", "-h"), ("--", "--help"), ("/tmp/none", "--collection=--help")):
        assert said(capsys, "mount", *words).startswith(f"{file} is not TOML")
    with pytest.raises(SystemExit) as ended:
        cli.main(["mount", "/tmp/none", "-h"])
    assert ended.value.code == 0


@pytest.mark.parametrize(
    "text", ["timeout = 1" + 400 * "0", "x = " + 5_000 * "9", "x = " + 5_000 * "[", " " * 2**20 + "#"]
)
def test_a_file_that_is_too_much_is_one_line(text: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(write(text)) in said(capsys, "config")


def test_the_file_is_a_file(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("")
    file.unlink()
    os.mkfifo(file)
    assert said(capsys, "config") == f"{file} cannot be read: it is no regular file"
    file.unlink()
    file.symlink_to("/dev/zero")
    assert said(capsys, "config") == f"{file} cannot be read: it is no regular file"


def test_what_others_may_write_is_not_taken(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("prefetch = 3")
    file.chmod(0o646)
    assert said(capsys, "config").startswith(f"everybody may write {file}: ")
    file.chmod(0o664)
    assert reported(capsys)["prefetch"]["value"] == 3
    made = os.stat(file)

    def of_another(_: int) -> os.stat_result:
        return os.stat_result((made.st_mode, 1, 1, 1, os.geteuid() + 1, *made[5:]))

    monkeypatch.setattr(os, "fstat", of_another)
    assert said(capsys, "config") == f"{file} belongs to another user: its settings are not taken"


def test_paths_of_the_file_follow_no_working_directory(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cache-dir", "index", "manifest"):
        file = write(f"{name} = 'here'")
        assert said(capsys, "config").startswith(f"{name} in {file}: give a path from / or ~ on")
    write("cache-dir = '~/x'\nindex = 'qido'")
    assert reported(capsys)["index"]["value"] == "qido"

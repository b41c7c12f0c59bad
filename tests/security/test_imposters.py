"""A filesystem that looks like ours and is not: no command hangs that meets it, or shows what a terminal would obey."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

from scripts.harness import IDCFS
from tests.mount.commands import idcfs
from tests.security.imposter import ESCAPES, EVIL_UID, GOOD_UID, UID, imposter


def is_plain(text: str) -> bool:
    """Whether there is nothing in it that a terminal would obey, and no line that passes for ours."""
    return text.replace("\n", "").isprintable() and "\nidcfs: all is well" not in text


def test_what_it_says_is_shown_as_plain_text(tmp_path: Path) -> None:
    with imposter(tmp_path.resolve() / "mnt", "talking") as place:
        commands = [
            ("status", place),
            ("doctor", place, "--offline", "--cache-dir", tmp_path / "cache"),
            ("info", place / "directory"),
            ("info", place / "file"),
            ("info", "--json", place / "file"),
        ]
        for command in commands:
            done = idcfs(*command)
            assert "Traceback" not in done.stderr, command
            assert is_plain(done.stdout + done.stderr), command
            assert done.stdout, command
        [told] = json.loads(idcfs("info", "--json", place / "file").stdout)
    assert (told["path"], told["what"], told["mountpoint"]) == (f"{place}/file", "instance", str(place))
    assert "series_count" not in told


def test_its_links_lead_nowhere_else(tmp_path: Path) -> None:
    with imposter(tmp_path.resolve() / "mnt", "talking") as place:
        done = idcfs("path", "--mount", place, UID)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"idcfs: {place}/.uid/{UID} leads out of the mount: it is not followed\n"
        assert idcfs("path", "--mount", place, GOOD_UID).stdout == f"{place}/file\n"
        assert idcfs("path", "--mount", place, EVIL_UID).stdout == f"{place}/{ESCAPES}\n"  # a program wants the bytes
        assert is_plain(on_terminal("path", "--mount", str(place), EVIL_UID))


def test_what_has_no_end_is_read_to_a_bound(tmp_path: Path) -> None:
    with imposter(tmp_path.resolve() / "mnt", "endless") as place:
        done = idcfs("status", place)
        assert done.returncode == 2
        assert done.stderr == f"idcfs: the idcfs at {place} is of another version: mount it anew\n"
        assert idcfs("umount", "--lazy", place).returncode == 0


def on_terminal(*words: str) -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen([*IDCFS, *words], stdout=theirs, stderr=theirs) as process:
            assert process.wait(60) == 0
        return os.read(ours, 65_536).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        os.close(theirs)

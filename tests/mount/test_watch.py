"""``idcfs status --watch``: what mounts do, as it happens."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from scripts.harness import IDCFS, Mount
from tests.mount.commands import idcfs, read_terminal
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, errno_of, unmount
from tests.twin.client import Twin

LINE = r"\d\d:\d\d:\d\d  {}  rate .+  received .+  hits .+  open files \d+  downloads \d+  errors \d+"


def test_a_terminal_shows_each_download_as_it_comes(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    path = min(a_series(made).iterdir())
    twin.set(match="/instances/", stall_after_bytes=300_000)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(path.read_bytes)
        shown = on_a_terminal(made, lambda text: bool(re.search(r"[1-9]\d+\.\d kB of", text)))
        twin.hang_up()
        twin.set(stall_after_bytes=None)
        size = len(reading.result())
    assert re.search(rf"{path.stem[:20]}.*━.* \d+\.\d kB of {size / 1000:.1f} kB", shown), shown
    for words in (r"rate +\d+(\.\d)? \w+/s", "open files +1 ", "downloads +1 ", "errors +0 ", "server.*circuit closed"):
        assert re.search(words, shown), words


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_whatever_ends_it_the_terminal_has_its_cursor_again(
    number: signal.Signals, mount: MountMaker, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    terminal, end = pty.openpty()
    command = [*IDCFS, "status", "--watch", "--interval", "0.1", str(made.path)]
    with subprocess.Popen(command, stdout=end, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(end)
        shown, is_told = b"", False
        while piece := read_terminal(terminal):
            shown += piece
            if b"errors" in shown and not is_told:
                is_told = True
                process.send_signal(number)
    os.close(terminal)
    assert process.returncode == {signal.SIGHUP: 129, signal.SIGTERM: 130}[number]
    assert 0 <= shown.rfind(b"\x1b[?25l") < shown.rfind(b"\x1b[?25h")


def on_a_terminal(mount: Mount, enough: Callable[[str], bool]) -> str:
    """What the command shows there, up to when it is ``enough`` and somebody presses Ctrl-C."""
    terminal, end = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    command = [*IDCFS, "status", "--watch", "--interval", "0.1", str(mount.path)]
    with subprocess.Popen(command, stdout=end, stderr=subprocess.PIPE, env=env, text=True) as process:
        os.close(end)
        shown, plain, is_told = b"", "", False
        while piece := read_terminal(terminal):
            shown += piece
            plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode(errors="ignore"))
            if enough(plain) and "/s" in plain and not is_told:
                is_told = True
                process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read().strip() == "idcfs: stopped"
    os.close(terminal)
    assert process.returncode == 130
    return plain


def test_without_a_terminal_there_are_lines_until_the_mount_is_gone(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    command = [*IDCFS, "status", "--watch", "--interval", "0.1", str(made.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert re.fullmatch(LINE.format(re.escape(str(made.path))), process.stdout.readline().rstrip())
        assert errno_of(lambda: os.listdir(min(made.path.glob("*/*/*/*"))))
        said = re.compile(r"  errors [1-9]\d*  127.0.0.1:9: circuit open until \d\d:\d\d:\d\d: .*127.0.0.1:9")
        assert any(said.search(line) for line in islice(process.stdout, 300))
        unmount(made)
        process.stdout.read()
        assert process.stderr.read() == f"idcfs: {made.path} is not mounted any more\n"
    assert process.returncode == 1


@pytest.mark.parametrize("words", [("--interval", "0"), ("--interval", "x"), ("--json",)], ids=str)
def test_what_cannot_be_watched_is_one_line(words: tuple[str, ...], mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    done = idcfs("status", "--watch", *words, made.path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)

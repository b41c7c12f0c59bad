"""Who asks a mount for the attributes of one directory and one file, again and again, and how long that takes.

    python -m scripts.soak.watching DIRECTORY PLACE MOUNT

Twice each: as programs ask, which the kernel answers from what it remembers, and so that it has to ask the mount
(statx(2) with AT_STATX_FORCE_SYNC). Both are of what is listed: whatever the archive does, neither may fail.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scripts.soak.calls import NO_STAT, CallFailed, Calls
from scripts.soak.marks import END, Marks
from scripts.soak.reading import EVENTS, MARKS, MOUNTS, TRUTH
from scripts.soak.truth import Truth, directory_of, files_of

TIMES = "stat.json"
"""Name in the soak's directory: what came out, in s, by what was asked."""
_PAUSE_SECONDS = 0.02
_AT_FDCWD, _AT_STATX_FORCE_SYNC, _STATX_BASIC_STATS = -100, 0x2000, 0x7FF
_STATX_BYTES = 256

_libc = ctypes.CDLL(None, use_errno=True)
_answer = ctypes.create_string_buffer(_STATX_BYTES)


def stat_anew(path: str) -> None:
    """Have the kernel ask whose filesystem it is; Python's ``os.stat`` cannot.

    :raises OSError: if that fails.
    """
    if _libc.statx(_AT_FDCWD, path.encode(), _AT_STATX_FORCE_SYNC, _STATX_BASIC_STATS, _answer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def seconds_to(ask: Callable[[str], object], calls: Calls, mount: str, path: str) -> float:
    """How long it takes; that it fails no fault permits."""
    began = time.monotonic()
    try:
        with calls.call("stat", mount, path):
            ask(path)
    except CallFailed:
        calls.note(NO_STAT, mount, path, began)
    return time.monotonic() - began


def main(directory: Path, place: int, mount: str) -> None:
    truth = Truth.load(directory / TRUTH)
    marks = Marks(directory / MARKS)
    calls = Calls(marks, place, directory / EVENTS / f"{place}-{mount}.jsonl")
    mountpoint = json.loads((directory / MOUNTS).read_text())[mount]
    file = files_of(truth.series[0])[0]
    asked: dict[str, tuple[Callable[[str], object], str]] = {
        "directory": (os.stat, directory_of(file.series)),
        "file": (os.stat, file.path),
        "directory, asked anew": (stat_anew, directory_of(file.series)),
        "file, asked anew": (stat_anew, file.path),
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    while marks.word != END:
        for name, (ask, path) in asked.items():
            times[name].append(seconds_to(ask, calls, mount, f"{mountpoint}/{path}"))
        time.sleep(_PAUSE_SECONDS)
    calls.tell()
    (directory / TIMES).write_text(json.dumps(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

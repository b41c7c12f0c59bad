"""What ``/.status.json`` says beside its counters: what runs now, and whether servers are asked."""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.harness import status
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, counters, errno_of
from tests.twin.client import Twin
from tests.waiting import eventually


def test_what_runs_now_is_listed_with_its_bytes(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    path = min(a_series(made).iterdir())
    assert status(made.path)["downloads"] == []

    def arriving() -> list[dict[str, Any]]:
        return [one for one in status(made.path)["downloads"] if one["got"] > 100_000]

    twin.set(match="/instances/", stall_after_bytes=300_000)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(path.read_bytes)
        assert eventually(lambda: bool(arriving()))
        (one,) = arriving()
        twin.hang_up()
        twin.set(stall_after_bytes=None)
        size = len(reading.result())
    assert (one["uid"], one["start"], one["size"]) == (path.stem, 0, size)
    assert one["got"] < size
    assert eventually(lambda: status(made.path)["downloads"] == [])
    (circuit,) = status(made.path)["circuits"]
    assert circuit == {"archive": f"127.0.0.1:{twin.port}", "open": False, "quota": False, "why": None, "until": None}


def test_a_server_that_is_not_asked_is_listed_with_the_reason(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    assert status(made.path)["circuits"] == []
    series = min(made.path.glob("*/*/*/*"))
    assert errno_of(lambda: os.listdir(series)) == errno.EHOSTUNREACH
    (circuit,) = status(made.path)["circuits"]
    assert (circuit["archive"], circuit["open"], circuit["quota"]) == ("127.0.0.1:9", True, False)
    assert "127.0.0.1:9" in circuit["why"]
    assert circuit["until"] <= time.time() + 60


GAUGES = ("open_files", "open_directories", "files_in_use", "running_downloads", "prefetching", "unwritten_bytes")


def test_what_is_in_use_is_counted_and_comes_back(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    before = counters(made)
    paths = sorted(a_series(made).iterdir())
    assert paths[0].read_bytes()
    twin.set(match="/instances/", stall_after_bytes=300_000)
    with ThreadPoolExecutor(1) as readers, os.scandir(paths[0].parent) as scanned:
        assert next(scanned).name
        reading = readers.submit(paths[1].read_bytes)
        assert eventually(lambda: counters(made)["files_in_use"] > 1)  # others of the series are fetched ahead
        now = counters(made)
        assert (now["open_files"], now["open_directories"]) == (1, 1)
        assert now["tasks"] > before["tasks"]
        twin.set(stall_after_bytes=None)
        assert reading.result()
    assert eventually(lambda: not any(counters(made)[name] for name in GAUGES))
    assert eventually(lambda: counters(made)["tasks"] <= before["tasks"])

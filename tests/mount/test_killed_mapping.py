"""A mount that is killed while it asks a bucket what its files are: the next one asks about the rest."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from idcfs.settings import STORE_NAME
from scripts.harness import IDCFS
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, contents
from tests.twin.client import Twin
from tests.waiting import eventually


def kept_objects(cache: Path) -> int:
    """Of how many of a bucket's files it stands in the cache directory what they are."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(cache / STORE_NAME)) as store:
        return int(store.execute("SELECT coalesce(sum(instances), 0) FROM objects").fetchone()[0])
    return 0


def test_after_kill_9_only_what_is_not_known_yet_is_asked_for(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path
) -> None:
    options = ("--index", sample_index, "--content", "bucket", "--bucket", twin.bucket_url("{bucket}"))
    place = a_series(mount(twin.url, "--index", sample_index, at="look", cache=tmp_path / "other"))
    place = Path(*place.parts[-4:])
    twin.reset()
    twin.set(match="7.dcm", latency_seconds=1_000)  # one in sixteen, so that it never gets through
    killed = mount(NOWHERE, *options)
    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(os.listdir, killed.path / place)
        assert eventually(lambda: kept_objects(tmp_path / "cache") >= 24)
        os.kill(killed.pid, signal.SIGKILL)
        assert isinstance(listing.exception(), OSError)
    subprocess.run([*IDCFS, "umount", killed.path], check=True)
    known = kept_objects(tmp_path / "cache")
    assert 24 <= known < 60
    twin.reset()
    again = mount(NOWHERE, *options)
    shown = {path.stem: path.stat().st_size for path in (again.path / place).iterdir()}
    assert shown == {uid: len(data) for uid, data in contents(sample).items() if uid in shown}
    assert len(shown) == 60
    assert twin.counters()["requests"] == {"bucket_list": 1, "bucket_object": 60 - known}

"""The log of a mount in the background, to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from scripts.harness import IDCFS
from tests.mount.conftest import MountMaker
from tests.mount.stage import a_series, errno_of
from tests.twin.client import Twin


def test_how_often_a_warning_came_is_told_when_the_mount_ends(
    mount: MountMaker, twin: Twin, sample_index: Path, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    series = a_series(made)
    path = min(series.iterdir())
    twin.set(missing=[path.stem])
    assert all(errno_of(path.read_bytes) for _ in range(3))
    assert "more times" not in log_of()
    subprocess.run([*IDCFS, "umount", made.path], check=True)
    (line,) = [line for line in log_of().splitlines() if line.endswith("more times in the last 60 s)")]
    assert path.stem in line

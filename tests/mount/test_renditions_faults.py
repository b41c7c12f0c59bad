"""What goes wrong with pictures and metadata arrives as the errno that is promised for files, in time."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.harness import Mount
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.faults import FAULTS, LIMIT_SECONDS, TIMEOUT_SECONDS, Fault
from tests.mount.stage import Stage, errno_of, make_files, stages
from tests.twin.client import Twin
from tests.twin.rendered import PNG, picture
from tests.waiting import eventually

NOT_OFFERED = (400, 406, 501)
CONTENTS_ONLY = ("corrupt", "part_length", "part_length_error", "closing_boundary", "unasked_206", "boundary")
"""Knobs that say nothing of pictures and metadata."""


@pytest.fixture(scope="module")
def stage(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    options = ("--timeout", str(TIMEOUT_SECONDS), "--content", "wado")
    with stages(make_files(data_dir / "faults"), tmp_path_factory.mktemp("stages"), lambda _: options) as made:
        yield made("multipart")


def expected(fault: Fault) -> int:
    if fault.knobs.get("fail_always") in NOT_OFFERED:
        return errno.EOPNOTSUPP
    if fault.knobs == {"framing": "close"}:
        return 0  # a picture's end, and that of JSON, are seen
    return fault.expected


def applies(fault: Fault) -> bool:
    """Whether it says something of small answers that are no files."""
    sizes = [value for name, value in fault.knobs.items() if name.endswith("_bytes")]
    return not any(name in fault.knobs for name in CONTENTS_ONLY) and max(sizes, default=0) < 1_000


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if applies(fault)], ids=lambda fault: fault.name)
def test_a_picture_and_metadata_that_go_wrong(fault: Fault, stage: Stage) -> None:
    path = stage.unread.pop()
    place = path.relative_to(stage.mount.path)
    files = [
        stage.mount.path / ".rendered" / place.with_suffix(".png"),
        stage.mount.path / ".metadata" / f"{place}.json",
    ]
    stage.twin.set(match="/instances/", **fault.knobs)
    for file in files:
        began = time.monotonic()
        assert errno_of(file.read_bytes) == expected(fault)
        assert time.monotonic() - began < LIMIT_SECONDS
        stage.twin.set(**fault.knobs)  # what happens once
    stage.twin.reset()
    assert eventually(lambda: errno_of(files[0].read_bytes) == 0)
    assert files[0].read_bytes() == picture(path.stem, 1, PNG)
    assert eventually(lambda: errno_of(files[1].read_bytes) == 0)


def test_one_that_is_too_large(stage: Stage) -> None:
    path = stage.unread.pop()
    file = stage.mount.path / ".rendered" / path.relative_to(stage.mount.path).with_suffix(".png")
    stage.twin.set(rendition="padded", rendition_padding_bytes=64 * 2**20)
    assert errno_of(file.read_bytes) == errno.EIO
    stage.twin.reset()
    assert file.read_bytes() == picture(path.stem, 1, PNG)


def test_what_was_listed_and_is_gone(made: Mount, twin: Twin) -> None:
    series = next(made.path.glob("chest_twin/*/*/*"))
    names = os.listdir(series)
    twin.set(missing=[series.name])
    place = series.relative_to(made.path)
    assert errno_of((made.path / ".metadata" / f"{place}.json").read_bytes) == errno.ESTALE
    assert errno_of((made.path / ".rendered" / place / f"{Path(names[0]).stem}.png").read_bytes) == errno.ESTALE


def test_an_archive_that_nobody_serves(mount: MountMaker, sample_index: Path, log_of: Callable[[], str]) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--timeout", "10")
    place = next(made.path.glob("chest_twin/*/*/*")).relative_to(made.path)
    assert (made.path / ".metadata" / f"{place}.json").stat().st_size
    assert errno_of((made.path / ".metadata" / f"{place}.json").read_bytes) == errno.EHOSTUNREACH
    assert errno_of(lambda: os.listdir(made.path / ".rendered" / place)) == errno.EHOSTUNREACH

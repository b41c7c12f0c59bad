"""``/.uid/<SOPInstanceUID>``: from the lists that are kept, else from the archive."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scripts.harness import Mount
from tests.data import write_index
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, buckets, counters, errno_of, unmount
from tests.twin.client import Twin


def searches(twin: Twin) -> int:
    """How often it was asked where an instance is."""
    return sum("SOPInstanceUID" in one["query"] for one in twin.counters()["last"])


@pytest.mark.parametrize("index", ["sample", "qido"])
def test_every_instance_is_found(index: str, mount: MountMaker, twin: Twin, sample: Path, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index if index == "sample" else index)
    for path in sample.rglob("*.dcm"):
        link = made.path / ".uid" / path.stem
        assert link.is_symlink()
        assert link.lstat().st_size == len(os.readlink(link))
        assert link.resolve(strict=True).name == path.name
    series = len(list(made.path.glob("*/*/*/*")))
    assert 1 <= searches(twin) <= series  # each was listed then, and answers for its others


def test_kept_lists_are_asked_first_also_offline(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    series = a_series(made)
    names = os.listdir(series)
    place = series.relative_to(made.path)
    assert os.readlink(made.path / ".uid" / Path(names[0]).stem) == f"../{place}/{names[0]}"
    unmount(made)
    again = mount(NOWHERE, "--index", sample_index, "--offline")
    assert os.readlink(again.path / ".uid" / Path(names[1]).stem) == f"../{place}/{names[1]}"
    assert errno_of(lambda: os.readlink(again.path / ".uid" / "1.2.3")) == errno.EHOSTUNREACH
    assert searches(twin) == 0


def test_lists_of_a_server_are_kept_too(mount: MountMaker, twin: Twin) -> None:
    made = mount(twin.url, "--index", "qido")
    names = os.listdir(a_series(made, collection="127*"))
    unmount(made)
    again = mount(twin.url, "--index", "qido", "--offline")
    assert (again.path / ".uid" / Path(names[0]).stem).resolve(strict=True).name == names[0]


@pytest.mark.parametrize("knobs", [{}, {"qido_ignore_filters": True}, {"qido_empty": "[]"}, {"qido_empty": "empty"}])
def test_what_the_archive_does_not_know_is_not_there(knobs: dict[str, object], made: Mount, twin: Twin) -> None:
    twin.set(**knobs)
    assert errno_of(lambda: os.readlink(made.path / ".uid" / "1.2.3")) == errno.ENOENT
    assert searches(twin) == 1
    for name in ("1.2.x", "nothing", "1" * 65, "1.2.", "1..2", "1.2.3.."):
        assert errno_of(lambda name=name: os.readlink(made.path / ".uid" / name)) == errno.ENOENT  # type: ignore[misc]
    assert searches(twin) == 1
    assert counters(made)["errors"] == 0


def test_what_the_catalog_does_not_have_is_not_there(
    mount: MountMaker, twin: Twin, sample: Path, tmp_path: Path
) -> None:
    index = tmp_path / "less.parquet"
    rows = pq.read_table(write_index(sample, tmp_path / "all.parquet"))
    pq.write_table(rows.slice(1), index)
    made = mount(twin.url, "--index", index)
    listed = {path.name for path in made.path.rglob("*.dcm")}
    left_out = next(path for path in sample.rglob("*.dcm") if path.name not in listed)
    assert errno_of(lambda: os.readlink(made.path / ".uid" / left_out.stem)) == errno.ENOENT


def test_it_is_asked_once_and_failures_are_no_absence(made: Mount, twin: Twin, sample: Path) -> None:
    uid = next(sample.rglob("*.dcm")).stem
    link = made.path / ".uid" / uid
    twin.set(match="SOPInstanceUID", fail_always=403)
    assert errno_of(lambda: os.readlink(link)) == errno.EACCES
    twin.reset()
    twin.set(latency_seconds=0.2)
    with ThreadPoolExecutor(8) as readers:
        assert len(set(readers.map(os.readlink, [link] * 8))) == 1
    assert searches(twin) == 1


def test_buckets_cannot_be_searched(mount: MountMaker, twin: Twin, sample: Path, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--content", "bucket", *buckets(twin))
    uid = next(sample.rglob("*.dcm")).stem
    assert errno_of(lambda: os.readlink(made.path / ".uid" / uid)) == errno.EOPNOTSUPP
    assert searches(twin) == 0

"""``/.uid``: a link from every UID to its place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scripts.harness import status
from tests.mount.conftest import NOWHERE, MountMaker
from tests.twin.client import Twin


@pytest.mark.parametrize("layout", ["default", "readable", "%SeriesInstanceUID"])
def test_every_study_and_series_is_found_by_its_uid_without_a_request(
    layout: str, mount: MountMaker, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--layout", layout)
    links = made.path / ".uid"
    for row in pq.read_table(sample_index).to_pylist():
        series, study = (links / row[f"{level}InstanceUID"] for level in ("Series", "Study"))
        assert series.is_symlink()
        assert series.lstat().st_size == len(os.readlink(series))
        assert row["SeriesInstanceUID"] in series.resolve(strict=True).name
        if layout == "%SeriesInstanceUID":
            assert not study.exists()  # no directory holds the study and nothing else
        else:
            assert study.resolve(strict=True) == series.resolve().parent
            assert row["StudyInstanceUID"] in study.resolve().name
    assert status(made.path)["counters"]["requests"] == 0


def test_links_are_there_but_not_listed(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    links = made.path / ".uid"
    assert links.is_dir()
    assert ".uid" not in os.listdir(made.path)
    assert os.listdir(links) == []
    assert not any(path.is_symlink() for path in made.path.rglob("*"))


@pytest.mark.parametrize("name", ["1.2.x", "nothing", "..%2F", "é", "x" * 255, "%~"])
def test_what_is_no_uid_of_the_index_is_not_there(name: str, mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    with pytest.raises(FileNotFoundError):
        os.readlink(made.path / ".uid" / name)


def test_what_is_no_link_is_not_read_as_one_and_the_links_cannot_be_changed(
    mount: MountMaker, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    links = made.path / ".uid"
    uid = pq.read_table(sample_index).column("SeriesInstanceUID")[0].as_py()
    for call, number in (
        (lambda: os.readlink(links), errno.EINVAL),
        (lambda: os.readlink(made.path / ".status.json"), errno.EINVAL),
        (lambda: os.symlink("x", links / "new"), errno.EROFS),
        (lambda: os.unlink(links / uid), errno.EROFS),
        (lambda: os.open(links / uid, os.O_RDONLY | os.O_NOFOLLOW), errno.ELOOP),
    ):
        with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
            call()


def test_what_a_server_lists_is_found_too(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", "qido")
    for uid in pq.read_table(sample_index).column("SeriesInstanceUID").to_pylist():
        assert (made.path / ".uid" / uid).resolve(strict=True).name == uid

"""The same files under other directories."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scripts.harness import Failure, status
from tests.mount.conftest import NOWHERE, MountMaker
from tests.twin.client import Twin


def shown(place: Path) -> dict[str, Path]:
    """The instances below ``place`` by their UID."""
    return {path.stem: path for path in place.rglob("*.dcm")}


@pytest.mark.parametrize("layout", ["idc-index", "readable", "%Modality/%PatientID"])
def test_every_file_is_there_once_and_is_the_stored_one(
    layout: str, mount: MountMaker, twin: Twin, sample: Path, sample_index: Path
) -> None:
    usual = mount(twin.url, "--index", sample_index)
    other = mount(twin.url, "--index", sample_index, "--layout", layout, at="other")
    assert status(other.path)["layout"].startswith("%")
    expected, found = shown(usual.path), shown(other.path)
    assert found.keys() == expected.keys()
    assert {path.relative_to(other.path).parts[:-1] for path in found.values()}.isdisjoint(
        path.relative_to(usual.path).parts[:-1] for path in expected.values()
    )
    originals = {path.name: path.read_bytes() for path in sample.rglob("*.dcm")}
    for path in found.values():
        assert path.read_bytes() == originals[path.name]


@pytest.mark.parametrize("layout", ["%collection_id/%StudyInstanceUID", "%PatientID", "%Modality/%collection_id"])
def test_series_whose_directories_had_to_be_told_apart_are_what_the_index_says(
    layout: str, mount: MountMaker, twin: Twin, sample_index: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, "--layout", layout)  # alone: nothing is kept that could hide it
    rows = {row["SeriesInstanceUID"]: row for row in pq.read_table(sample_index).to_pylist()}
    assert len(shown(made.path)) == sum(row["instanceCount"] for row in rows.values())
    names = {"study_uid": "StudyInstanceUID", "patient_id": "PatientID", "collection_id": "collection_id"}
    for uid, row in rows.items():
        series = made.path / ".uid" / uid
        assert {name: os.getxattr(series, f"user.idc.{name}").decode() for name in names} == {
            name: row[column] for name, column in names.items()
        }
    if layout.startswith("%collection_id/"):
        assert all((made.path / ".uid" / row["StudyInstanceUID"]).is_dir() for row in rows.values())


def test_what_a_server_lists_can_be_shown_without_its_name(mount: MountMaker, twin: Twin) -> None:
    usual = mount(twin.url, "--index", "qido")
    other = mount(twin.url, "--index", "qido", "--layout", "%PatientID/%SeriesInstanceUID", at="other")
    requests = status(other.path)["counters"]["requests"]
    patients = {path.name for path in usual.path.glob("*/*")}
    assert {path.name for path in other.path.iterdir()} == patients  # the first look asks
    assert status(other.path)["counters"]["requests"] > requests == 0
    assert not (other.path / "nobody").exists()
    assert shown(other.path).keys() == shown(usual.path).keys()


def test_a_layout_that_is_none_is_one_line_and_nothing_is_mounted(mount: MountMaker, tmp_path: Path) -> None:
    line = r"\(exit code 2\): idcfs: --layout %PatientId: no placeholder %PatientId; did you mean %PatientID\?$"
    with pytest.raises(Failure, match=line):
        mount(NOWHERE, "--layout", "%PatientId")
    assert not (tmp_path / "mnt").exists()

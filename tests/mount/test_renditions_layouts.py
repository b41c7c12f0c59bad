"""``/.metadata`` and ``/.rendered`` in other layouts, and where names meet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import counters
from tests.namespace.making import ROW, Row, with_path, write_rows
from tests.twin.client import Twin
from tests.twin.rendered import PNG, picture


def with_series(*series: str) -> list[Row]:
    return [with_path(ROW, "lung", "P1", "1.1", uid) for uid in series]


@pytest.mark.parametrize("layout", ["%SeriesInstanceUID", "%collection_id/%SeriesInstanceUID"])
def test_a_directory_of_many_series_lists_each_with_its_metadata(
    layout: str, mount: MountMaker, tmp_path: Path
) -> None:
    """In pieces, as many as the kernel asks for."""
    uids = [f"1.2.{number}" for number in range(3_000)]
    made = mount(NOWHERE, "--index", write_rows(tmp_path / "index.parquet", with_series(*uids)), "--layout", layout)
    place = Path(*["lung"][: layout.count("/")])
    listed = os.listdir(made.path / ".metadata" / place)
    assert sorted(listed) == sorted([*uids, *(f"{uid}.json" for uid in uids)])
    assert sorted(os.listdir(made.path / ".rendered" / place)) == sorted(uids)
    with os.scandir(made.path / ".metadata" / place) as entries:
        assert all(entry.is_dir() is not entry.name.endswith(".json") for entry in entries)
    assert counters(made)["requests"] == 0


def test_names_that_end_like_metadata_and_names_that_leave_no_room(mount: MountMaker, tmp_path: Path) -> None:
    long = "1." * 126
    index = write_rows(tmp_path / "index.parquet", with_series("1", "1.json", long))
    made = mount(NOWHERE, "--index", index)
    study = made.path / ".metadata" / "lung" / "P1" / "1.1"
    listed = os.listdir(study)
    assert len(listed) == len(set(listed))
    assert {"1", "1.json", "1.json.json", long} == {*listed}
    assert (study / "1.json").is_dir()  # what the tree has comes first
    assert (study / "1.json.json").is_file()


def test_pictures_in_another_layout(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--layout", "readable")
    path = next(made.path.glob("chest_twin/**/*.dcm"))
    file = made.path / ".rendered" / path.relative_to(made.path).with_suffix(".png")
    assert file.read_bytes() == picture(path.stem, 1, PNG)

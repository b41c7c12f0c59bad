"""The packaged index of the whole IDC, as it is: every directory, and files drawn from all over."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import idc_index_data
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydicom
import pytest

from idcfs.settings import BLOCK_BYTES
from scripts.harness import Mount, status
from tests.mount.conftest import NOWHERE, MountMaker
from tests.twin.client import Twin
from tests.twin.synthetic import instance_size, instance_uid, series_from_row, synthetic_bytes

COLUMNS = ["collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
RSS_ANON_KIB = 160 * 1024
"""What the mount may take after a full find."""
GROWTH_KIB = 20 * 1024
"""What it may take more at the end of a find than after its first quarter."""
DIRECTORIES = 1_299_000
"""There are some more; newer releases have yet more."""
SMALL_MB = 60.0
"""Series up to this size are small enough to read all of an instance."""


@pytest.fixture(scope="module")
def index() -> Path:
    return Path(str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH))


@pytest.fixture(scope="module")
def idc_twin() -> Iterator[Twin]:
    """A twin that answers for any series of the packaged index."""
    with Twin(index="packaged") as twin:
        yield twin


def anonymous_kib(mount: Mount) -> int:
    """Anonymous memory of the mount's process."""
    (line,) = [
        line for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines() if line.startswith("RssAnon")
    ]
    return int(line.split()[1])


def two_series(collection: pa.Table, chance: random.Random) -> list[dict[str, Any]]:
    """Two small series of a collection, or as many as there are; its smallest one if none is small."""
    small = collection.filter(pc.less(collection["series_size_MB"], SMALL_MB))
    if not len(small):
        small = collection.sort_by("series_size_MB").slice(0, 1)
    drawn: list[dict[str, Any]] = small.take(chance.sample(range(len(small)), min(2, len(small)))).to_pylist()
    return drawn


def test_find_walks_all_directories_without_a_request(mount: MountMaker, packaged_cache: Path, index: Path) -> None:
    made = mount(NOWHERE, cache=packaged_cache)
    found: list[str] = []
    after_a_quarter = 0
    for collection in sorted(os.listdir(made.path)):
        command = ["find", collection, "-maxdepth", "3"]
        listed = subprocess.run(command, cwd=made.path, capture_output=True, text=True, check=True)
        found.extend(listed.stdout.splitlines())
        if not after_a_quarter and len(found) > DIRECTORIES // 4:
            after_a_quarter = anonymous_kib(made)
    assert anonymous_kib(made) - after_a_quarter < GROWTH_KIB
    assert anonymous_kib(made) < RSS_ANON_KIB
    table = pq.read_table(index, columns=COLUMNS)
    expected: set[str] = set()
    for depth in range(1, 5):
        names = table.select(COLUMNS[:depth]).group_by(COLUMNS[:depth]).aggregate([])
        columns = [column.cast(pa.string()) for column in names.columns]  # some releases have large strings
        joined = columns[0] if depth == 1 else pc.binary_join_element_wise(*columns, "/")
        expected.update(joined.to_pylist())
    assert len(expected) > DIRECTORIES
    assert len(found) == len(expected)
    assert set(found) == expected
    counters = status(made.path)["counters"]
    assert counters["requests"] == counters["errors"] == 0


def test_paths_from_every_collection_open_and_read(
    mount: MountMaker, packaged_cache: Path, idc_twin: Twin, index: Path
) -> None:
    made = mount(idc_twin.url, cache=packaged_cache)
    chance = random.Random(25)
    table = pq.read_table(index)
    for collection in sorted(os.listdir(made.path)):
        rows = two_series(table.filter(pc.equal(table["collection_id"], collection)), chance)
        assert rows, collection
        for row in rows:
            directory = made.path.joinpath(*(row[name] for name in COLUMNS))
            series = series_from_row(row)
            names = os.listdir(directory)
            assert len(names) == row["instanceCount"]
            ordinal = chance.randrange(len(names))
            path = directory / f"{instance_uid(series.series_uid, ordinal)}.dcm"
            size = instance_size(series, ordinal)
            start = chance.randrange(size if row["series_size_MB"] < SMALL_MB else min(size, BLOCK_BYTES))
            with path.open("rb", buffering=0) as file:
                assert os.fstat(file.fileno()).st_size == size
                assert os.pread(file.fileno(), 4096, start) == synthetic_bytes(series, ordinal, start, start + 4096)
            header = pydicom.dcmread(path, stop_before_pixels=True)
            assert header.PatientID == row["PatientID"]
            assert header.SOPInstanceUID == path.stem
    assert status(made.path)["counters"]["errors"] == 0


def test_the_largest_series_lists_whole(mount: MountMaker, packaged_cache: Path, idc_twin: Twin, index: Path) -> None:
    made = mount(idc_twin.url, cache=packaged_cache)
    table = pq.read_table(index, columns=[*COLUMNS, "instanceCount", "series_size_MB"])
    row, *_ = table.filter(pc.equal(table["instanceCount"], 91_980)).to_pylist()
    directory = made.path.joinpath(*(row[name] for name in COLUMNS))
    names = os.listdir(directory)
    assert len(names) == len(set(names)) == 91_980
    assert set(names) == {f"{instance_uid(row['SeriesInstanceUID'], number)}.dcm" for number in range(91_980)}
    blocks = sum(entry.stat().st_blocks for entry in os.scandir(directory))
    assert blocks == -(-round(row["series_size_MB"] * 1e6) // 512)


def test_the_same_study_under_two_patients_is_two_directories(
    mount: MountMaker, packaged_cache: Path, idc_twin: Twin, index: Path
) -> None:
    made = mount(idc_twin.url, cache=packaged_cache)
    table = pq.read_table(index, columns=COLUMNS)
    patients = table.group_by(["collection_id", "StudyInstanceUID"]).aggregate([("PatientID", "count_distinct")])
    (shared,) = patients.filter(pc.equal(patients["PatientID_count_distinct"], 2)).to_pylist()
    rows = table.filter(pc.equal(table["StudyInstanceUID"], shared["StudyInstanceUID"])).to_pylist()
    expected: dict[Path, set[str]] = {}
    for row in rows:
        study = made.path / row["collection_id"] / row["PatientID"] / row["StudyInstanceUID"]
        expected.setdefault(study, set()).add(row["SeriesInstanceUID"])
    assert len(expected) == 2
    assert {study: set(os.listdir(study)) for study in expected} == expected

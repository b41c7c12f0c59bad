"""The catalog of the real index, counted and compared with the parquet by other means."""

from __future__ import annotations

import random
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from idcfs.namespace.build import packaged_index
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.nodes import Level
from tests.namespace.making import Row, children, paths, row_at

PATH = ["collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"]

COUNTED = {"25.0.5": (179, 86_451, 168_507, 1_044_191, 58_784_975, 99_944_891_647_274)}
"""What was counted once, by hand: collections, patients, studies, series, instances, bytes."""

Key = tuple[bytes, ...]


@pytest.fixture(scope="module")
def parquet() -> Any:
    """The index itself, as far as a catalog repeats it."""
    return pq.read_table(packaged_index()[0], columns=list(Row.__dataclass_fields__))


@pytest.fixture(scope="module")
def sample(parquet: Any) -> list[Row]:
    chosen = random.Random(0).sample(range(parquet.num_rows), 5_000)
    return [Row(**row) for row in parquet.take(sorted(chosen)).to_pylist()]


def key_of(row: Row) -> Key:
    values = (row.collection_id, row.PatientID, row.StudyInstanceUID, row.SeriesInstanceUID)
    return tuple((value or "").encode() for value in values)


def test_every_series_of_the_index_has_its_path_and_there_is_no_other(packaged: Catalog, parquet: Any) -> None:
    wanted = pc.binary_join_element_wise(*(parquet.column(name) for name in PATH), pa.scalar("/", pa.large_string()))
    found = pa.array([b"/".join(path) for path in paths(packaged)], pa.large_binary())
    assert len(found) == packaged.rows
    wanted = pc.cast(wanted, pa.large_binary()).combine_chunks()
    assert found.take(pc.sort_indices(found)).equals(wanted.take(pc.sort_indices(wanted)))


def test_directories_and_totals_are_those_of_the_parquet(packaged: Catalog, parquet: Any) -> None:
    def distinct(level: int) -> int:
        return int(parquet.select(PATH[:level]).group_by(PATH[:level], use_threads=False).aggregate([]).num_rows)

    def directories(level: int) -> int:
        return sum(1 for row in range(packaged.rows) if row == 0 or packaged.end(level, row - 1) == row)

    # The one study that two patients share makes the paths one more than the StudyInstanceUIDs.
    studies = pc.count_distinct(parquet.column("StudyInstanceUID")).as_py()
    assert [directories(level) for level in (1, 2, 3)] == [distinct(level) for level in (1, 2, 3)]
    assert directories(Level.STUDY) >= studies
    sizes = pc.sum(pc.cast(pc.round(pc.multiply(parquet.column("series_size_MB"), 1e6)), pa.int64())).as_py()
    assert packaged.total_bytes == sizes
    assert packaged.total_instances == pc.sum(parquet.column("instanceCount")).as_py()
    counted = (
        directories(Level.COLLECTION),
        directories(Level.PATIENT),
        studies,
        packaged.rows,
        packaged.total_instances,
        packaged.total_bytes,
    )
    assert COUNTED.get(version("idc-index-data"), counted) == counted


def test_a_path_leads_to_what_the_index_says_of_its_series(packaged: Catalog, sample: list[Row]) -> None:
    for row in sample:
        series = packaged.series(row_at(packaged, *key_of(row)))
        assert series.study_uid == row.StudyInstanceUID
        assert series.series_uid == row.SeriesInstanceUID
        assert series.instances == row.instanceCount
        assert series.total_bytes == Decimal(str(row.series_size_MB)) * 10**6
        assert series.content == row.crdc_series_uuid
        assert series.bucket == row.aws_bucket
        assert series.transfer_syntaxes == set((row.TransferSyntaxUID or "").split(","))


def test_every_patient_of_the_largest_collection_is_listed_in_order_and_found(packaged: Catalog, parquet: Any) -> None:
    nlst = parquet.filter(pc.equal(parquet.column("collection_id"), "nlst"))
    patients = sorted(name.encode() for name in pc.unique(nlst.column("PatientID")).to_pylist())
    row = row_at(packaged, b"nlst")
    listed = children(packaged, Level.COLLECTION, row)
    assert [name for name, _, _ in listed] == patients
    assert [packaged.find(Level.COLLECTION, row, name) for name in patients] == [child for _, child, _ in listed]
    assert len(patients) == 26_410
    assert packaged.find(Level.COLLECTION, row, b"no such patient") is None


def test_the_study_of_two_patients_holds_under_each_the_series_of_that_patient(packaged: Catalog, parquet: Any) -> None:
    pairs = parquet.select(PATH[:3]).group_by(PATH[:3]).aggregate([])
    counts = pairs.group_by("StudyInstanceUID").aggregate([("PatientID", "count")])
    shared = counts.filter(pc.greater(counts.column("PatientID_count"), 1)).column("StudyInstanceUID").to_pylist()
    assert shared
    places: dict[Key, set[bytes]] = {}
    mask = pc.is_in(parquet.column("StudyInstanceUID"), value_set=pa.array(shared, pa.large_string()))
    for *above, name in (key_of(Row(**row)) for row in parquet.filter(mask).to_pylist()):
        places.setdefault(tuple(above), set()).add(name)
    assert len(places) > len(shared)
    for place, series in places.items():
        assert {name for name, _, _ in children(packaged, Level.STUDY, row_at(packaged, *place))} == series


def test_a_patient_id_of_several_collections_stands_in_each(packaged: Catalog, parquet: Any) -> None:
    pairs = parquet.select(PATH[:2]).group_by(PATH[:2]).aggregate([])
    counts = pairs.group_by("PatientID").aggregate([("collection_id", "list"), ("collection_id", "count")])
    several = counts.filter(pc.greater(counts.column("collection_id_count"), 1)).to_pylist()
    assert len(several) >= 89
    for one in several:
        rows = {row_at(packaged, name.encode(), one["PatientID"].encode()) for name in one["collection_id_list"]}
        assert len(rows) == one["collection_id_count"]


def test_directories_are_as_old_as_a_release(packaged: Catalog) -> None:
    releases = set(packaged_index()[1].values())
    levels = (Level.ROOT, Level.COLLECTION, Level.PATIENT, Level.STUDY, Level.SERIES)
    for _, row, _ in packaged.children(Level.ROOT, 0, 0):
        assert {packaged.revised_time(level, row) for level in levels} <= releases

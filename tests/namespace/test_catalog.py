"""The catalog against dictionaries of dictionaries, over small tables with all that a real one may hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.namespace.catalog import UNKNOWN_TIME, Catalog, Series
from idcfs.namespace.names import escape
from idcfs.namespace.nodes import Level
from tests.namespace.making import (
    INDEX,
    ROW,
    Record,
    Row,
    catalog_of,
    catalog_of_records,
    children,
    encodable_text,
    hostile,
    one_of_few,
    patient,
    row_at,
    with_path,
)

few = settings(patient, max_examples=20)
RELEASES = {1: 1_000, 2: 2_000, 3: 3_000}

names = st.none() | one_of_few(hostile(encodable_text))
rows = st.builds(
    Row,
    collection_id=names,
    PatientID=names,
    StudyInstanceUID=names,
    SeriesInstanceUID=names,
    instanceCount=st.none() | st.integers(0, 2**31 - 1),
    series_size_MB=st.none() | st.integers(1, 10**12).map(lambda size: size / 10**6),
    crdc_series_uuid=st.none() | st.uuids().map(str),
    aws_bucket=st.none() | st.sampled_from(["idc-open-data", "idc-open-data-two"]),
    TransferSyntaxUID=st.sampled_from([None, "", "1.2", "1.2,1.3", "1.3, 1.2"]),
    series_revised_idc_version=st.none() | st.integers(1, 3),
)
tables = st.lists(rows, min_size=1, max_size=12)

Tree = dict[bytes, "Tree | list[Row]"]


def path_of(row: Row) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        escape(row.collection_id or "", hidden=False),
        escape(row.PatientID or ""),
        escape(row.StudyInstanceUID or ""),
        escape(row.SeriesInstanceUID or ""),
    )


def tree_of(table: list[Row]) -> Tree:
    """The naive model: what the directories should hold, at their ends the rows of that path."""
    tree: Tree = {}
    for row in table:
        *above, last = path_of(row)
        place = tree
        for name in above:
            below = place.setdefault(name, {})
            assert isinstance(below, dict)
            place = below
        series = place.setdefault(last, [])
        assert isinstance(series, list)
        series.append(row)
    return tree


def every_directory(catalog: Catalog, visit: Callable[[int, int, Tree], None], model: Tree) -> None:
    """Calls ``visit`` for each directory above the series, with what the model says is in it."""

    def walk(level: int, row: int, model: Tree) -> None:
        visit(level, row, model)
        for name, below in model.items():
            child = catalog.find(level, row, name)
            assert child is not None
            if isinstance(below, dict):
                walk(catalog.below(level), child, below)

    walk(Level.ROOT, 0, model)


def rows_below(model: Tree) -> list[Row]:
    return [row for below in model.values() for row in (rows_below(below) if isinstance(below, dict) else below)]


@few
@given(tables)
def test_every_directory_lists_its_children_in_byte_order_and_resumes_anywhere(table: list[Row]) -> None:
    def visit(level: int, row: int, model: Tree) -> None:
        listed = children(catalog, level, row)
        assert [name for name, _, _ in listed] == sorted(model)
        assert [catalog.name(catalog.below(level), child) for _, child, _ in listed] == sorted(model)
        for position, (_, _, after) in enumerate(listed):
            assert list(catalog.children(level, row, after)) == listed[position + 1 :]
        starts, ends = [child for _, child, _ in listed], [after for _, _, after in listed]
        assert starts == [row, *ends[:-1]]
        assert ends[-1] == catalog.end(level, row)
        assert ends == [catalog.end(catalog.below(level), child) for child in starts]

    with catalog_of(table) as catalog:
        every_directory(catalog, visit, tree_of(table))
        assert catalog.rows == catalog.end(Level.ROOT, 0) == len({path_of(row) for row in table})


@few
@given(tables, st.lists(st.binary(max_size=4)))
def test_names_are_found_if_they_are_there(table: list[Row], others: list[bytes]) -> None:
    everywhere = {name for row in table for name in path_of(row)}
    tried = everywhere | {name + b"\0" for name in everywhere} | {name[:-1] for name in everywhere} | set(others)

    def visit(level: int, row: int, model: Tree) -> None:
        listed = {name: child for name, child, _ in children(catalog, level, row)}
        for name in tried:
            assert catalog.find(level, row, name) == (listed[name] if name in model else None)

    with catalog_of(table) as catalog:
        every_directory(catalog, visit, tree_of(table))


@few
@given(tables)
def test_a_row_says_what_the_index_says(table: list[Row]) -> None:
    def series_of(row: Row) -> Series:
        return Series(
            study_uid=row.StudyInstanceUID or "",
            series_uid=row.SeriesInstanceUID or "",
            instances=row.instanceCount,
            total_bytes=None if row.series_size_MB is None else round(row.series_size_MB * 10**6),
            content=row.crdc_series_uuid or "",
            transfer_syntaxes=frozenset((row.TransferSyntaxUID or "").replace(" ", "").split(",")) - {""},
            bucket=row.aws_bucket or "",
            collection_id=row.collection_id or "",
            patient_id=row.PatientID or "",
            modality=row.Modality or "",
            license=row.license_short_name or "",
            source_doi=row.source_DOI or "",
        )

    def visit(level: int, row: int, model: Tree) -> None:
        for name, below in model.items():
            if isinstance(below, list):
                found = catalog.find(level, row, name)
                assert found is not None
                assert catalog.series(found) in [series_of(one) for one in below]

    with catalog_of(table) as catalog:
        every_directory(catalog, visit, tree_of(table))
        kept = [catalog.series(row) for row in range(catalog.rows)]
        assert catalog.total_bytes == sum(one.total_bytes or 0 for one in kept)
        assert catalog.total_instances == sum(one.instances or 0 for one in kept)


@few
@given(tables)
def test_a_directory_is_as_old_as_the_newest_series_below_it(table: list[Row]) -> None:
    once = list({path_of(row): row for row in table}.values())

    def visit(level: int, row: int, model: Tree) -> None:
        revised = max(one.series_revised_idc_version or 0 for one in rows_below(model))
        if level > Level.ROOT:
            assert catalog.revised_time(level, row) == RELEASES.get(revised, UNKNOWN_TIME)

    with catalog_of(once, RELEASES) as catalog:
        every_directory(catalog, visit, tree_of(once))
        assert catalog.revised_time(Level.ROOT, 0) == 3_000
        for row in once:
            place = row_at(catalog, *path_of(row))
            revised = row.series_revised_idc_version or 0
            assert catalog.revised_time(Level.SERIES, place) == RELEASES.get(revised, UNKNOWN_TIME)


def test_an_unknown_release_is_as_old_as_the_file() -> None:
    with catalog_of([replace(ROW, series_revised_idc_version=99)], {0: 7_000, 1: 1_000}) as catalog:
        assert catalog.revised_time(Level.SERIES, 0) == catalog.revised_time(Level.COLLECTION, 0) == 7_000


def test_a_study_under_two_patients_stands_under_both() -> None:
    table = [with_path(ROW, "nlst", "P1", "1.2", "1.2.3"), with_path(ROW, "nlst", "P2", "1.2", "1.2.4")]
    with catalog_of(table) as catalog:
        assert catalog.series(row_at(catalog, b"nlst", b"P1", b"1.2", b"1.2.3")).series_uid == "1.2.3"
        assert catalog.series(row_at(catalog, b"nlst", b"P2", b"1.2", b"1.2.4")).series_uid == "1.2.4"
        assert catalog.find(Level.STUDY, row_at(catalog, b"nlst", b"P1", b"1.2"), b"1.2.4") is None


def test_a_patient_in_two_collections_stands_in_both() -> None:
    table = [with_path(ROW, "a", "P1", "1.2", "1.2.3"), with_path(ROW, "b", "P1", "1.2", "1.2.3")]
    with catalog_of(table) as catalog:
        assert row_at(catalog, b"a", b"P1", b"1.2", b"1.2.3") != row_at(catalog, b"b", b"P1", b"1.2", b"1.2.3")


def test_a_series_listed_twice_stands_once() -> None:
    with catalog_of([ROW, ROW, replace(ROW, instanceCount=9)]) as catalog:
        assert catalog.rows == 1
        assert catalog.total_instances in (2, 9)


def test_the_same_name_in_two_cases_is_two_names() -> None:
    with catalog_of([with_path(ROW, "a", "p", "1", "2"), with_path(ROW, "A", "p", "1", "2")]) as catalog:
        assert [name for name, _, _ in children(catalog, Level.ROOT, 0)] == [b"A", b"a"]


def test_a_sum_of_nothing_is_taken_for_unknown() -> None:
    with catalog_of([replace(ROW, instanceCount=1, series_size_MB=0.0)]) as catalog:
        assert catalog.series(0).total_bytes is None


def test_an_empty_catalog_is_an_empty_directory() -> None:
    catalog = catalog_of_records("archive", [])
    assert catalog.rows == catalog.total_bytes == catalog.total_instances == 0
    assert children(catalog, Level.ROOT, 0) == []
    assert catalog.find(Level.ROOT, 0, b"archive") is None
    assert catalog.revised_time(Level.ROOT, 0) == UNKNOWN_TIME


# --- what a server lists ---------------------------------------------------------------------------------------------


def test_what_a_server_lists_is_one_collection_of_unknown_sizes() -> None:
    catalog = catalog_of_records("host:8042", [Record(), Record("", "1.3", "1.3.1", None)])
    assert [name for name, _, _ in children(catalog, Level.ROOT, 0)] == [b"host:8042"]
    assert [name for name, _, _ in children(catalog, Level.COLLECTION, 0)] == [b"%~", b"P1"]
    assert catalog.series(1) == Series(
        "1.2", "1.2.3", 2, None, "", frozenset(), collection_id="host:8042", patient_id="P1"
    )
    assert catalog.series(0).instances is None
    assert catalog.total_instances == 2


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", "\0", "/", "..", "%2F"])
def test_whatever_a_server_sends_for_a_patient_becomes_a_directory(value: str) -> None:
    catalog = catalog_of_records("archive", [Record(value), Record("plain")])
    assert {catalog.value("PatientID", row) for row in range(2)} == {value, "plain"}
    assert catalog.find(Level.COLLECTION, 0, escape(value)) is not None


@pytest.mark.parametrize("count", [-1, -5, 2**31, 2**63, 10**30])
def test_a_number_of_instances_that_cannot_be_is_not_known(count: int) -> None:
    catalog = catalog_of_records("archive", [Record(instance_count=count)])
    assert catalog.series(0).instances is None
    assert catalog.total_instances == 0


def test_the_helpers_write_every_column_they_promise() -> None:
    assert INDEX.names == list(Row.__dataclass_fields__)


def test_words_of_a_server_that_are_no_unicode_are_shown_as_far_as_they_can_be() -> None:
    catalog = catalog_of_records("here", [Record(modality="C\ud800T")])
    assert catalog.distinct("modality", 0, 1) == {catalog.series(0).modality}
    assert catalog.series(0).modality.encode().decode() == "C\ufffd\ufffd\ufffdT"

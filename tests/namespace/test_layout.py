"""Layouts: what a template means, and that every series has one path in every layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from idc_index.index import IDCClient

from idcfs.errors import UsageError
from idcfs.layout import NAMED_LAYOUTS, parse_layout
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.columns import read_index
from idcfs.namespace.index import unsearched_catalog
from idcfs.namespace.nodes import Level
from tests.namespace.making import (
    ROW,
    Record,
    Row,
    assert_legal,
    catalog_of,
    catalog_of_records,
    children,
    encodable_text,
    hostile,
    one_of_few,
    patient,
    with_path,
    write_rows,
)

few = settings(patient, max_examples=20)


def paths(catalog: Catalog) -> Iterator[str]:
    """Every series' path, in the order of the directories."""

    def below(level: int, row: int, path: tuple[str, ...]) -> Iterator[str]:
        if level == Level.SERIES:
            yield "/".join(path)
            return
        for name, child, _ in catalog.children(level, row, 0):
            yield from below(catalog.below(level), child, (*path, name.decode()))

    return below(Level.ROOT, 0, ())


# --- templates -------------------------------------------------------------------------------------------------------


def test_the_layout_of_idc_index_is_the_one_it_downloads_to() -> None:
    assert NAMED_LAYOUTS["idc-index"] == IDCClient.DOWNLOAD_HIERARCHY_DEFAULT, version("idc-index")


@pytest.mark.parametrize("name", NAMED_LAYOUTS)
def test_a_name_is_as_good_as_the_template_it_stands_for(name: str) -> None:
    assert parse_layout(name) == parse_layout(NAMED_LAYOUTS[name]) == parse_layout(f"/{NAMED_LAYOUTS[name]}/")


def test_a_template_names_its_columns_and_the_directories_that_are_identifiers() -> None:
    layout = parse_layout("%PatientID/%Modality-%StudyDate_%collection_id_%StudyInstanceUID/%SeriesInstanceUID")
    assert layout.columns == (
        "PatientID", "Modality", "StudyDate", "collection_id", "StudyInstanceUID", "SeriesInstanceUID",
    )  # fmt: skip
    found = [layout.directory_of(column) for column in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")]
    assert found == [0, None, 2]


WRONG = {
    "nonsense": r"give default, idc-index, readable, or a template like %collection_id/",
    "": r"give default, idc-index",
    "%PatientId": r"no placeholder %PatientId; did you mean %PatientID\?",
    "%PatientID/%Modalities": r"did you mean %Modality\?",
    "%xyzzy": r"no placeholder %xyzzy; there are %collection_id, ",
    "%PatientID//%Modality": r"the directory '' has no placeholder",
    "%PatientID/-/%Modality": r"the directory '-' has no placeholder",
    "%PatientID/CT%Modality": r"'CT%Modality' is neither a placeholder nor one of the characters between them",
    "%PatientIDs": r"no placeholder %PatientIDs; did you mean %PatientID",
    "%": r"no placeholder %; there are",
    "%%PatientID": r"no placeholder %; there are",
    "/".join(["%Modality"] * 7): r"7 directories above the files; 6 at most",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_layout_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(UsageError, match=f"^--layout .*{WRONG[text]}"):
        parse_layout(text)


@few
@given(st.lists(st.sampled_from(["%PatientID", "%Modality", "_", "-", "/", " ", "é", "\n", "%", "P", "."]), max_size=9))
def test_a_template_is_understood_whole_or_refused(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        layout = parse_layout(text)
    except UsageError:
        return
    spelled = ("".join(f"%{p.text}" if p.is_column else p.text for p in found) for found in layout.directories)
    assert "/".join(spelled) == layout.text


# --- catalogs --------------------------------------------------------------------------------------------------------

LUNG = replace(ROW, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", Modality="CT")


def test_the_layout_of_idc_index_has_the_modality_before_the_series() -> None:
    with catalog_of([LUNG], layout=parse_layout("idc-index")) as catalog:
        assert list(paths(catalog)) == ["lung/P1/1.2/CT_1.2.3"]


def test_the_readable_layout_has_words_before_uids() -> None:
    row = replace(
        LUNG,
        StudyDate="1999-01-02",
        StudyDescription="CT Thorax w/o  contrast (low dose)",
        SeriesNumber="4",
        SeriesDescription="Gated, 10.0%",
    )
    with catalog_of([row, replace(LUNG, SeriesInstanceUID="1.2.4")], layout=parse_layout("readable")) as catalog:
        assert list(paths(catalog)) == [
            "lung/P1/1.2/CT_1.2.4",  # what is not known leaves no mark
            "lung/P1/1999-01-02_CT_Thorax_w_o_contrast_low_dose_1.2/4_CT_Gated_10.0_1.2.3",
        ]


def test_fewer_directories_than_usual_and_more() -> None:
    rows = [LUNG, replace(LUNG, PatientID="P2", SeriesInstanceUID="1.2.9")]
    with catalog_of(rows, layout=parse_layout("%SeriesInstanceUID")) as catalog:
        assert list(paths(catalog)) == ["1.2.3", "1.2.9"]
        assert catalog.series(1).patient_id == "P2"
    deep = "%license_short_name/%collection_id/%Modality/%PatientID/%StudyInstanceUID/%SeriesInstanceUID"
    with catalog_of(rows, layout=parse_layout(deep)) as catalog:
        assert list(paths(catalog)) == ["CC BY 4.0/lung/CT/P1/1.2/1.2.3", "CC BY 4.0/lung/CT/P2/1.2/1.2.9"]


def test_series_that_would_share_a_directory_get_their_uid_whatever_their_order() -> None:
    rows = [replace(LUNG, SeriesInstanceUID=uid) for uid in ("1.2.10", "1.2.9")]
    rows += [replace(LUNG, SeriesInstanceUID="1.3", Modality="MR")]
    for order in (rows, rows[::-1]):
        with catalog_of(order, layout=parse_layout("%PatientID/%Modality")) as catalog:
            assert list(paths(catalog)) == ["P1/CT_1.2.10", "P1/CT_1.2.9", "P1/MR"]
            assert [catalog.value("SeriesInstanceUID", row) for row in range(3)] == ["1.2.10", "1.2.9", "1.3"]


@pytest.mark.parametrize("template", ["%collection_id", "%PatientID", "%collection_id/%StudyInstanceUID"])
def test_what_identifies_series_is_what_the_index_says_though_their_directories_had_to_be_told_apart(
    template: str,
) -> None:
    rows = [replace(LUNG, SeriesInstanceUID=uid) for uid in ("1.2.9", "1.3", "1.4")]
    with catalog_of(rows, layout=parse_layout(template)) as catalog:
        assert [path.rpartition("_")[2] for path in paths(catalog)] == ["1.2.9", "1.3", "1.4"]
        for row in range(3):
            series = catalog.series(row)
            assert (series.collection_id, series.patient_id, series.study_uid) == ("lung", "P1", "1.2")
        assert list(catalog.rows_of("StudyInstanceUID", "1.2")) == [0, 1, 2]
        assert catalog.common_value("PatientID", 0, 3) == "P1"


def test_a_dot_at_the_front_is_escaped_in_the_root_alone() -> None:
    with catalog_of([replace(LUNG, PatientID=".uid")], layout=parse_layout("%PatientID/%PatientID")) as catalog:
        assert list(paths(catalog)) == ["%2Euid/.uid"]


def test_a_layout_names_columns_that_the_index_has(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "mine.parquet")
    with pytest.raises(UsageError, match=r"mine\.parquet has no column BodyPartExamined, which the layout names"):
        read_index(source, parse_layout("%BodyPartExamined/%SeriesInstanceUID").columns)


names = one_of_few(hostile(encodable_text))
rows = st.builds(
    Row,
    collection_id=names,
    PatientID=names,
    StudyInstanceUID=names,
    SeriesInstanceUID=names,
    Modality=st.none() | st.sampled_from(["CT", "CT_1", "CT1"]),
    StudyDescription=st.none() | names,
)
TEMPLATES = [*NAMED_LAYOUTS, "%SeriesInstanceUID", "%PatientID/%Modality", "%Modality%SeriesInstanceUID"]
TEMPLATES += ["%StudyDescription/%PatientID%collection_id", "%collection_id/%StudyInstanceUID", "%PatientID"]
TEMPLATES += ["%Modality/%collection_id", "%SeriesInstanceUID/%StudyInstanceUID", "%PatientID/%PatientID"]


@few
@pytest.mark.parametrize("template", TEMPLATES)
@given(table=st.lists(rows, min_size=1, max_size=12))
def test_every_series_has_a_path_of_its_own_that_leads_to_it(template: str, table: list[Row]) -> None:
    with catalog_of(table, layout=parse_layout(template)) as catalog:
        listed = list(paths(catalog))
        assert len(listed) == len(set(listed)) == catalog.rows
        assert {catalog.value("SeriesInstanceUID", row) for row in range(catalog.rows)} == {
            row.SeriesInstanceUID for row in table
        }
        known = {(one.collection_id, one.PatientID, one.StudyInstanceUID, one.SeriesInstanceUID) for one in table}
        for row, path in enumerate(listed):
            parts = [part.encode() for part in path.split("/")]
            level, found = int(Level.ROOT), 0
            for part in parts:
                assert_legal(part)
                child = catalog.find(level, found, part)
                assert child is not None
                level, found = catalog.below(level), child
            assert (level, found) == (Level.SERIES, row)
            series = catalog.series(row)
            assert (series.collection_id, series.patient_id, series.study_uid, series.series_uid) in known


@few
@pytest.mark.parametrize("template", TEMPLATES)
@given(table=st.lists(rows, min_size=1, max_size=12))
def test_rows_are_found_by_uid(template: str, table: list[Row]) -> None:
    with catalog_of(table, layout=parse_layout(template)) as catalog:
        for column in ("StudyInstanceUID", "SeriesInstanceUID"):
            values = [catalog.value(column, row) for row in range(catalog.rows)]
            for value in {*values, "1.2.3", "", "no such"}:
                found = list(catalog.rows_of(column, value))
                assert found == [row for row, one in enumerate(values) if one == value]


# --- what a server lists ---------------------------------------------------------------------------------------------


def test_what_a_server_does_not_tell_is_missing_from_names() -> None:
    catalog = catalog_of_records("here", [Record()], parse_layout("readable"))
    assert list(paths(catalog)) == ["here/P1/1.2/1.2.3"]


@pytest.mark.parametrize("template", ["default", "idc-index", "readable", "%collection_id/%Modality"])
def test_before_a_server_is_asked_its_name_is_there(template: str) -> None:
    catalog = unsearched_catalog("here:8042", parse_layout(template))
    assert [name for name, _, _ in children(catalog, Level.ROOT, 0)] == [b"here:8042"]


@pytest.mark.parametrize(
    "template", ["%PatientID/%SeriesInstanceUID", "%collection_id", "%collection_id-%PatientID/%Modality"]
)
def test_before_a_server_is_asked_nothing_else_is_known(template: str) -> None:
    assert unsearched_catalog("here:8042", parse_layout(template)).rows == 0


def test_paths_of_the_same_series_differ_only_by_layout() -> None:
    table = [with_path(LUNG, "lung", f"P{n}", f"1.{n}", f"1.{n}.1") for n in range(5)]
    with catalog_of(table) as one, catalog_of(table, layout=parse_layout("idc-index")) as other:
        assert {one.series(row) for row in range(5)} == {other.series(row) for row in range(5)}

"""What the extended attributes of directories and files say, without the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from idcfs.filesystem import Filesystem
from idcfs.layout import DEFAULT, Layout, parse_layout
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import unsearched_catalog
from idcfs.namespace.nodes import ROOT_INODE, Level
from idcfs.views.xattrs import facts_of
from tests.namespace.making import ROW, Row, catalog_of, with_path
from tests.without_kernel import RELEASES, ROWS, Source, at, serving

STUDY = [
    replace(with_path(ROW, "lung", "P1", "1.1", "1.1.1"), instanceCount=3, series_size_MB=0.3),
    replace(with_path(ROW, "lung", "P1", "1.1", "1.1.2"), Modality="SEG", source_DOI="10.1/seg", instanceCount=1),
]


async def facts(rows: Iterable[Row], *names: str, layout: Layout = DEFAULT) -> Mapping[str, str]:
    """Of the directory that ``names`` lead to."""
    with catalog_of(rows, RELEASES, layout) as catalog:
        return await facts_in(catalog, *names)


async def facts_in(catalog: Catalog, *names: str) -> Mapping[str, str]:
    level, row = Level.ROOT, 0
    for name in names:
        found = catalog.find(level, row, name.encode())
        assert found is not None, names
        level, row = catalog.below(level), found
    return await facts_of(catalog, level, row)


async def told(fs: Filesystem, path: str) -> dict[str, str]:
    """The attributes of what is at ``path``, by the end of their names."""
    inode = (await at(fs, path)).inode if path else ROOT_INODE
    found = await fs.xattrs(inode)
    assert all(name.startswith(b"user.idc.") for name in found)
    assert [await fs.xattr(inode, name) for name in found] == list(found.values())
    assert await fs.xattr(inode, b"user.idc.nothing") is None
    return {name.decode().removeprefix("user.idc."): value.decode() for name, value in found.items()}


async def test_a_series_says_all_that_the_index_does() -> None:
    assert await facts(STUDY, "lung", "P1", "1.1", "1.1.1") == {
        "collection_id": "lung",
        "patient_id": "P1",
        "study_uid": "1.1",
        "series_uid": "1.1.1",
        "modality": "CT",
        "license": "CC BY 4.0",
        "source_doi": "10.7937/k9",
        "source_url": "https://doi.org/10.7937/k9",
        "idc_version": "1",
        "instance_count": "3",
        "size_bytes": "300000",
        "crdc_series_uuid": "uuid of 1.1.1",
        "aws_url": "s3://idc-open-data/uuid of 1.1.1/*",
        "viewer_url": "https://viewer.imaging.datacommons.cancer.gov/v3/viewer/"
        "?StudyInstanceUIDs=1.1&initialSeriesInstanceUID=1.1.1",
    }


async def test_a_directory_above_says_what_its_series_have_in_common_and_sums() -> None:
    assert await facts(STUDY, "lung", "P1", "1.1") == {
        "collection_id": "lung",
        "patient_id": "P1",
        "study_uid": "1.1",
        "modality": "CT,SEG",
        "license": "CC BY 4.0",
        "source_doi": "10.1/seg,10.7937/k9",
        "source_url": "https://doi.org/10.1/seg,https://doi.org/10.7937/k9",
        "idc_version": "1",
        "series_count": "2",
        "instance_count": "4",
        "size_bytes": "1800000",
        "viewer_url": "https://viewer.imaging.datacommons.cancer.gov/v3/viewer/?StudyInstanceUIDs=1.1",
    }


async def test_identifiers_that_differ_below_are_not_told() -> None:
    assert not {"patient_id", "study_uid", "series_uid", "viewer_url"} & (await facts(ROWS, "lung")).keys()
    assert "collection_id" not in await facts(ROWS)
    assert (await facts(ROWS))["series_count"] == str(len(ROWS))


async def test_they_follow_the_layout() -> None:
    found = await facts(STUDY, "SEG", layout=parse_layout("%Modality/%SeriesInstanceUID"))
    assert (found["series_uid"], found["patient_id"], found["modality"]) == ("1.1.2", "P1", "SEG")


async def test_a_sum_of_which_a_part_is_unknown_is_not_told() -> None:
    rows = [*STUDY, replace(with_path(ROW, "lung", "P1", "1.1", "1.1.3"), series_size_MB=None, instanceCount=None)]
    found = await facts(rows, "lung")
    assert not {"size_bytes", "instance_count"} & found.keys()
    assert found["series_count"] == "3"


async def test_of_too_many_different_values_none_is_told() -> None:
    def rows(count: int) -> list[Row]:
        return [
            replace(with_path(ROW, "c", "p", "1", f"1.{n}"), Modality=f"M{n:02}", source_DOI=f"10.1/{n:02}")
            for n in range(count)
        ]

    assert (await facts(rows(16), "c"))["modality"] == ",".join(f"M{n:02}" for n in range(16))
    assert not {"modality", "source_doi", "source_url"} & (await facts(rows(17), "c")).keys()


async def test_what_the_index_does_not_say_has_no_attribute() -> None:
    bare = Row("c", "p", "1", "1.1", None, None, None, None, None, None, None, None, None)
    assert await facts([bare], "c", "p", "1", "1.1") == {
        "collection_id": "c",
        "patient_id": "p",
        "study_uid": "1",
        "series_uid": "1.1",
    }


async def test_sums_over_many_rows_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idcfs.views.xattrs._ROWS_AT_ONCE", 7)
    rows = [
        replace(with_path(ROW, "c", f"p{n % 5}", f"1.{n}", f"1.{n}.1"), instanceCount=n, Modality=f"M{n // 20}")
        for n in range(1, 60)
    ]
    found = await facts(rows, "c")
    assert found["instance_count"] == str(sum(range(1, 60)))
    assert found["size_bytes"] == str(59 * 1_500_000)
    assert found["modality"] == "M0,M1,M2"


# --- through the filesystem ------------------------------------------------------------------------------------------


async def test_each_level_has_its_own_and_no_request_is_sent_for_them(tmp_path: Path) -> None:
    source = Source()
    with catalog_of(ROWS, RELEASES) as catalog:
        async with serving(source, catalog, tmp_path) as fs:
            assert "instance_count" in await told(fs, "")
            assert (await told(fs, "lung/P1/1.1"))["series_count"] == "2"
            assert (await told(fs, "lung/P1/1.1/1.1.1"))["instance_count"] == "3"
            assert (await told(fs, "brain"))["idc_version"] == "2"
    assert source.listed == source.sized == []


async def test_a_file_has_those_of_its_series_and_its_own(tmp_path: Path) -> None:
    source = Source()
    with catalog_of(ROWS, RELEASES) as catalog:
        async with serving(source, catalog, tmp_path) as fs:
            path = "lung/P1/1.1/1.1.1/1.9.2.dcm"
            found = await told(fs, path)
            assert found["instance_uid"] == "1.9.2"
            assert (found["size_bytes"], found["size_exact"], found["cached_bytes"]) == ("131072", "false", "0")
            assert found["series_uid"] == "1.1.1"
            assert not {"aws_url", "instance_count", "series_count"} & found.keys()
            fs.release((await fs.open((await at(fs, path)).inode)).handle)
            found = await told(fs, path)
            assert (found["size_bytes"], found["size_exact"]) == (str(source.size), "true")
            assert found["cached_bytes"] == str(source.size)
            assert (await told(fs, "lung/P1/1.1/1.1.1"))["cached_bytes"] == str(source.size)
    assert source.listed == ["1.1.1"]


async def test_what_is_hidden_has_none(tmp_path: Path) -> None:
    with catalog_of(ROWS, RELEASES) as catalog:
        async with serving(Source(), catalog, tmp_path) as fs:
            for path in (".status.json", ".bulk", ".uid", ".uid/1.1.1"):
                assert await fs.xattrs((await at(fs, path)).inode) == {}


async def test_before_an_archive_is_searched_only_its_collection_is_told(tmp_path: Path) -> None:
    async def search() -> Catalog:
        raise AssertionError("nobody looked below")

    async with serving(Source(), unsearched_catalog("here:8042"), tmp_path, search=search) as fs:
        assert await told(fs, "") == {}
        assert await told(fs, "here:8042") == {"collection_id": "here:8042"}


async def test_values_that_a_copy_would_have_no_room_for_are_left_out(tmp_path: Path) -> None:
    row = replace(with_path(ROW, "c", "p", "1", "1.1"), license_short_name="x" * 1_025, source_DOI="é")
    with catalog_of([row], RELEASES) as catalog:
        async with serving(Source(), catalog, tmp_path) as fs:
            found = await told(fs, "c")
            assert "license" not in found
            assert found["source_doi"] == "é"

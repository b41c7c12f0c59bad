"""Cohorts: lists of series in every form, and what narrows an index."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from idcfs import cohort
from idcfs.cohort import ALL, Cohort, Manifest, spoken, take_manifest
from idcfs.errors import UsageError
from idcfs.namespace.build import build_from_parquet
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import catalog_path, open_catalog
from idcfs.namespace.manifest import read_manifest
from tests.namespace.making import ROW, write_rows

UID, CONTENT = "SeriesInstanceUID", "crdc_series_uuid"
PORTAL = """\
# To download the files in this manifest, install idc-index, then run
# idc download manifest.s5cmd

cp s3://idc-open-data/uuid-1/* .
cp 's3://idc-open-data-two/uuid-2/*' "some where"
cp --show-progress s3://public-datasets-idc/uuid-1/* .
cp gs://idc-open-cr/uuid-3/* .
"""

ROWS = [
    replace(ROW, collection_id="lung", SeriesInstanceUID="1.1", crdc_series_uuid="a", Modality="CT"),
    replace(ROW, collection_id="lung", SeriesInstanceUID="1.2", crdc_series_uuid="b", Modality="SEG"),
    replace(ROW, collection_id="Brain", SeriesInstanceUID="1.3", crdc_series_uuid="c", Modality="MR"),
    replace(ROW, collection_id="brain", SeriesInstanceUID="1.4", crdc_series_uuid="d", Modality="CT"),
]


def manifest(text: str | bytes, name: str = "list.txt") -> Manifest:
    content = text if isinstance(text, bytes) else text.encode()
    return Manifest(name, "", io.BytesIO(content))


@pytest.mark.parametrize(
    ("text", "column", "values"),
    [
        ("1.2\n1.3", UID, ["1.2", "1.3"]),
        ("\ufeff1.2\r\n\r\n  1.3  \r\n1.2\r\n", UID, ["1.2", "1.3"]),
        ("# mine\n1.2\n # and\n'1.3'\n", UID, ["1.2", "1.3"]),
        ("SeriesInstanceUID\n1.2\n1.3\n", UID, ["1.2", "1.3"]),
        ("Modality,SeriesInstanceUID\nCT,1.2\nCT,1.3\n", UID, ["1.2", "1.3"]),
        ('\ufeff"a, b"\t"SeriesInstanceUID"\r\n"x\r\ny"\t"1.2"\r\n\r\nz\t1.3\r\n', UID, ["1.2", "1.3"]),
        ("SeriesInstanceUID; Modality\n1.2; CT\n;\n", UID, ["1.2"]),
        ("# export\n\nx, SeriesInstanceUID\n1, 1.2\n", UID, ["1.2"]),
        ("seriesinstanceuid\n1.2\n", UID, ["1.2"]),
        ("Modality;SERIESINSTANCEUID\nCT;1.2\n", UID, ["1.2"]),
        (f"{UID},a\n1.2,x\n# of, 2026 \"\n\n #1.4\n'1.3',y\n".replace("'", '"'), UID, ["1.2", "1.3"]),
        (f'a,{UID}\n"#1",1.2\n#2,1.3\n', UID, ["1.2"]),
        (f'a,{UID}\n"2.5, mm\n# of\n",1.2\n5" wide,1.3\n"5"" wide",1.4\n', UID, ["1.2", "1.3", "1.4"]),
        (PORTAL, CONTENT, ["uuid-1", "uuid-2", "uuid-3"]),
        ("s3://idc-open-data/uuid-1/", CONTENT, ["uuid-1"]),
    ],
)
def test_a_list_is_read_in_every_form(text: str, column: str, values: Sequence[str]) -> None:
    file = manifest(text).file
    assert read_manifest(file, "x") == (column, values)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it lists no series"),
        (b"\xef\xbb\xbf\r\n \n# nothing\n", "it lists no series"),
        (b"SeriesInstanceUID\n\n", "it lists no series"),
        (b"\x7fELF\x02\x01\x01\0", "it is no list of series"),
        (b"\xff\xfe1\x00.\x00", "it is no text in UTF-8"),
        (b"1.2\n\xff\n", "it is no text in UTF-8"),
        (b"1" * 2_000_000, "it is no list of series"),
        (b"1" * 200_000, "it is no list of series"),
        (b"SeriesInstanceUID," + b"x" * 200_000 + b"\n1.2,\n", "it is no list of series"),
        (b"StudyInstanceUID,Modality\n1.2,CT\n", "its first line names no column SeriesInstanceUID: 'StudyInstanceUID"),
        (b"a,SeriesInstanceUID\n1,1.2\n2\n", "a row has no SeriesInstanceUID: '2'"),
        (b"a,SeriesInstanceUID\n1,1.2\n2, \n", "a row has no SeriesInstanceUID: '2,"),
        (b"1.2 1.3\n", "this is no SeriesInstanceUID: '1.2 1.3'"),
        (b"1.2\n" + b"x " * 500, "this is no SeriesInstanceUID: 'x x x"),
        (b"cp s3://idc-open-data/uuid-1/* .\nrm -rf /\n", "this copies no series: 'rm -rf /'"),
        (b'1.2\n""\n', "this is no SeriesInstanceUID: '\"\"'"),
        (
            b'#\nSeriesInstanceUID,a\n1.2.1,"T1\n1.2.2,b\n',
            "unexpected end of data (line 3: is there a quote too many?)",
        ),
        (
            b'SeriesInstanceUID,a\n1.2.1,"T1\n1.2.2,b"\n1.2.3,c\n',
            "line 2: a quoted field goes on over lines with UIDs: is there a quote too many?",
        ),
        (b'SeriesInstanceUID,a\r1.2.1,"T1\r1.2.2,b"\r1.2.3,c\r', "line 2: a quoted field goes on over lines with UIDs"),
        (b'a,SeriesInstanceUID\n"T1,1.2.1\nT2",1.2.2\n', "line 2: a quoted field goes on over lines with UIDs"),
        (b'SeriesInstanceUID\ta\n1.2.1\t"5 inch\n1.2.2\t"6 inch\n', "'a tab' expected after '\"' (line 2: is there a"),
        (b'SeriesInstanceUID,"a\n1.2.1,b\n', "unexpected end of data (line 1"),
        (b'SeriesInstanceUID,a\n"' + b"x\n" * 100_000, "field larger than field limit"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_manifest(manifest(content).file, "x.txt")
    assert str(caught.value).startswith(f"--manifest x.txt: {reason}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


def test_a_manifest_is_taken_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("1.2\n")
    first = take_manifest(str(path))
    path.write_text("1.3\n")
    second = take_manifest(str(path))
    assert first.rewound().read() == first.rewound().read() == b"1.2\n"
    assert Cohort(manifest=first).digest != Cohort(manifest=second).digest
    path.write_text("1.2\n")
    again = take_manifest(str(path))
    assert Cohort(manifest=first).digest == Cohort(manifest=again).digest
    for one in (first, second, again):
        Cohort(manifest=one).close()


@pytest.mark.parametrize(
    ("text", "reason"), [("", "empty"), ("/none", "No such file"), ("/", "Is a directory"), ("~nobody-here/x", ".")]
)
def test_a_manifest_that_cannot_be_read_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        take_manifest(text)


def test_a_manifest_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "_MOST_BYTES", 3 * 1024 * 1024)
    with pytest.raises(UsageError, match="larger than 3 MiB"):
        take_manifest("/dev/zero")


def narrowed(tmp_path: Path, wanted: Cohort) -> set[str]:
    """The SeriesInstanceUIDs of ``ROWS`` that a catalog of the cohort has."""
    target = tmp_path / "catalog.arrow"
    build_from_parquet(write_rows(tmp_path / "index.parquet", ROWS), target, {}, cohort=wanted)
    catalog = Catalog.open(target)
    return {catalog.series(row).series_uid for row in range(catalog.rows)}


@pytest.mark.parametrize(
    ("collections", "where", "listed", "found"),
    [
        ((), "", None, {"1.1", "1.2", "1.3", "1.4"}),
        (("lung",), "", None, {"1.1", "1.2"}),
        (("lung", "Brain", "lung"), "", None, {"1.1", "1.2", "1.3"}),
        (("lung",), "Modality = 'CT'", None, {"1.1"}),
        ((), "Modality = 'CT'", "1.1\n1.2", {"1.1"}),
        (("brain",), "Modality = 'CT'", "1.4\n1.2", {"1.4"}),
        ((), "", "cp s3://x/c/* .", {"1.3"}),
    ],
)
def test_all_that_is_given_narrows(
    collections: tuple[str, ...], where: str, listed: str | None, found: set[str], tmp_path: Path
) -> None:
    wanted = Cohort(collections, where, None if listed is None else manifest(listed))
    assert narrowed(tmp_path, wanted) == found


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Cohort(("lunq",)), "--collection lunq: the index has no such collection; did you mean lung?"),
        (Cohort(("lung", "LUNG")), "--collection LUNG: the index has no such collection; did you mean lung?"),
        (Cohort(("zzz",)), "--collection zzz: the index has no such collection"),
        (
            Cohort(("lung",), "Modality = 'MR'"),
            "the cohort is empty: the index has no such series (collection lung, where",
        ),
        (
            Cohort(manifest=manifest("1.1\n1.9\n1.8\n1.7\n1.6\n")),
            "--manifest list.txt: not in the index: 4 of 5 series (1.9, 1.8, 1.7, …)",
        ),
        (Cohort(manifest=manifest("1.1\n1.9\n")), "--manifest list.txt: not in the index: 1 of 2 series (1.9)"),
        (Cohort(where="x = 1", manifest=manifest("1.1\n")), "--where: Binder Error"),
    ],
)
def test_what_the_index_does_not_have_is_refused_in_one_line(wanted: Cohort, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        narrowed(tmp_path, wanted)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "catalog.arrow").exists()


def test_each_cohort_has_a_catalog_of_its_own_that_is_built_once(source: Path, cache: Path) -> None:
    cohorts = [ALL, Cohort(("lung",)), Cohort(("lung", "x")), Cohort(where="true"), Cohort(("lung",), "true")]
    assert len({catalog_path(str(source), cache, cohort=one) for one in cohorts}) == len(cohorts)
    assert Cohort(("a", "b")).digest == Cohort(("b", "a", "b")).digest
    wanted = Cohort(("lung",), "true", manifest("1.2.3\n"))
    path = catalog_path(str(source), cache, cohort=wanted)
    for _ in range(2):
        with (cache / "list").open("wb+") as file:
            file.write(b"1.2.3\n")
            assert open_catalog(str(source), cache, cohort=replace(wanted, manifest=Manifest("x", "", file))).rows == 1
    assert [path] == list(cache.glob("catalog-*"))


def test_a_cohort_is_said_in_words() -> None:
    assert not ALL
    assert ALL.report() is None
    full = Cohort(("a", "b"), "x = 1", manifest("", "-"))
    assert full
    assert str(full) == spoken(full.report() or {}) == "collection a or b, where x = 1, listed in stdin"

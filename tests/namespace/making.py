"""What the tests of the namespace are made of: rows, indexes, catalogs, and what a name must look like."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import settings
from hypothesis import strategies as st

from idcfs.errors import DeadlinePassed, QuotaSpent, Unreachable
from idcfs.layout import DEFAULT, Layout
from idcfs.namespace import build, index
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.nodes import Level

patient = settings(deadline=None)
"""For hypothesis on a machine that others use as well."""

AWAY = [Unreachable("no route"), DeadlinePassed("too slow"), QuotaSpent("tomorrow")]
"""What an archive that is away is met with."""


@dataclass(frozen=True)
class Row:
    """A series as idc-index lists it."""

    collection_id: str | None = "lung"
    PatientID: str | None = "P1"
    StudyInstanceUID: str | None = "1.2"
    SeriesInstanceUID: str | None = "1.2.3"
    instanceCount: int | None = 2
    series_size_MB: float | None = 1.5
    crdc_series_uuid: str | None = "uuid"
    aws_bucket: str | None = "idc-open-data"
    TransferSyntaxUID: str | None = "1.2.840.10008.1.2.1"
    series_revised_idc_version: int | None = 1
    Modality: str | None = "CT"
    license_short_name: str | None = "CC BY 4.0"
    source_DOI: str | None = "10.7937/k9"
    StudyDate: str | None = None
    StudyDescription: str | None = None
    SeriesNumber: str | None = None
    SeriesDescription: str | None = None


ROW = Row()


@dataclass(frozen=True)
class Record:
    """A series as a search returns it."""

    patient_id: str = "P1"
    study_uid: str = "1.2"
    series_uid: str = "1.2.3"
    instance_count: int | None = 2
    modality: str = ""
    study_date: str = ""
    study_description: str = ""
    series_number: str = ""
    series_description: str = ""


INDEX = pa.schema(
    [
        ("collection_id", pa.string()),
        ("PatientID", pa.string()),
        ("StudyInstanceUID", pa.string()),
        ("SeriesInstanceUID", pa.string()),
        ("instanceCount", pa.int64()),
        ("series_size_MB", pa.float64()),
        ("crdc_series_uuid", pa.string()),
        ("aws_bucket", pa.string()),
        ("TransferSyntaxUID", pa.string()),
        ("series_revised_idc_version", pa.int64()),
        ("Modality", pa.string()),
        ("license_short_name", pa.string()),
        ("source_DOI", pa.string()),
        ("StudyDate", pa.string()),
        ("StudyDescription", pa.string()),
        ("SeriesNumber", pa.string()),
        ("SeriesDescription", pa.string()),
    ]
)


def table_of(rows: Iterable[Row]) -> Any:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=INDEX)


def write_rows(path: Path, rows: Iterable[Row] = (ROW,)) -> Path:
    pq.write_table(table_of(rows), path)
    return path


@contextmanager
def catalog_of(
    rows: Iterable[Row], releases: dict[int, int] | None = None, layout: Layout = DEFAULT
) -> Iterator[Catalog]:
    """The catalog of ``rows``, by the way of a parquet file and a catalog file."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "catalog.arrow"
        build.build_from_parquet(write_rows(Path(directory) / "index.parquet", rows), target, releases or {}, layout)
        yield Catalog.open(target)


def catalog_of_records(collection: str, records: Iterable[Record], layout: Layout = DEFAULT) -> Catalog:
    """The catalog, in memory, of what a DICOMweb server lists under one collection."""
    return Catalog(build.table_of_records(collection, records, layout))


def catalogs(cache: Path) -> list[Path]:
    """The catalog files in a cache directory."""
    return list(cache.glob("catalog-*"))


def built(source: Path, cache: Path) -> Path:
    """The catalog file of ``source``, built without the cost of another process."""
    path = index.catalog_path(str(source), cache)
    assert build.main([str(path), str(source)]) == 0
    return path


def is_right(catalog: Catalog) -> bool:
    """Whether it holds ``ROW``, and nothing else."""
    return (catalog.rows, catalog.total_bytes, catalog.series(0).series_uid) == (1, 1_500_000, "1.2.3")


def row_at(catalog: Catalog, *names: bytes) -> int:
    """The row of the directory that ``names`` lead to."""
    row = 0
    for level, name in enumerate(names):
        found = catalog.find(level, row, name)
        assert found is not None, names
        row = found
    return row


def children(catalog: Catalog, level: int, row: int) -> list[tuple[bytes, int, int]]:
    return list(catalog.children(level, row, 0))


def paths(catalog: Catalog) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Every series' path, in the order of the directories."""
    for collection, first, _ in catalog.children(Level.ROOT, 0, 0):
        for patient_name, second, _ in catalog.children(Level.COLLECTION, first, 0):
            for study, third, _ in catalog.children(Level.PATIENT, second, 0):
                for series, _, _ in catalog.children(Level.STUDY, third, 0):
                    yield collection, patient_name, study, series


def everything(catalog: Catalog) -> list[tuple[object, ...]]:
    """All that a catalog says."""
    levels = (Level.COLLECTION, Level.PATIENT, Level.STUDY, Level.SERIES)
    rows = [
        (
            catalog.series(row),
            *((catalog.name(level, row), catalog.end(level, row)) for level in levels),
            *(catalog.revised_time(level, row) for level in levels),
        )
        for row in range(catalog.rows)
    ]
    return [*rows, (catalog.total_bytes, catalog.total_instances, catalog.revised_time(Level.ROOT, 0))]


def assert_legal(name: bytes) -> None:
    """``name`` can stand in a path, and shows in a terminal."""
    assert 1 <= len(name) <= 255
    assert name not in (b".", b"..")
    assert not any(unicodedata.category(character) == "Cc" or character == "/" for character in name.decode())


any_text = st.text(st.one_of(st.characters(exclude_categories=()), st.characters(categories=["Cs", "Cc"])))
"""Surrogates and control characters too, and often."""
encodable_text = st.text()

_TRAPS = [
    "",
    ".",
    "..",
    "...",
    ".hidden",
    "%",
    "%%",
    "%~",
    "~",
    "%2",
    "%2E",
    "%2e",
    "%25",
    "%2F",
    "/",
    "a/b",
    "\0",
    "\n",
]
_TRAPS += ["\x7f", "\x80", "\x9f", "\xa0", "%\x00", "%4\x01", "ZZ RIDER MR8 1", "a=b", "é" * 128, "x" * 250, "x" * 251]
_TRAPS += ["x" * 255, "x" * 256, "x" * 256 + "y", "/" * 85, "/" * 86, "%~" + "0" * 32, "\U0001f9e0" * 64]
traps = st.sampled_from(_TRAPS)


def hostile(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Values that make bad names: traps, long ones, and whatever hypothesis thinks of."""
    long = st.builds(lambda start, times, end: start * times + end, text, st.integers(1, 300), text)
    percent = st.text(st.sampled_from("%~2fFAE0./\0a")).map(str)
    return st.one_of(traps, text, long, percent, st.builds(str.__add__, traps, traps))


def one_of_few(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Names that meet again."""
    return st.one_of(st.sampled_from(["a", "b", "A", "a b", "a.", "a-", "..", "/", "x" * 300, "x" * 299 + "y"]), text)


def with_path(row: Row, *values: str) -> Row:
    """``row`` as another series, with a content of its own."""
    collection, patient_id, study, series = values
    return replace(
        row,
        collection_id=collection,
        PatientID=patient_id,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        crdc_series_uuid=f"uuid of {series}",
    )

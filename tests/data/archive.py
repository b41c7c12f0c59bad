"""Whole archives: a small mixed one, pydicom's test files, and an index over any directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
from pydicom.uid import UID

from tests.data.multiframe import multiframe
from tests.data.series import ct_series, mr_series, rgb_series, rt_struct
from tests.data.spec import complete
from tests.twin.directory import group, scan
from tests.twin.model import Series

_TEXT_COLUMNS = [
    "collection_id",
    "analysis_result_id",
    "PatientID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "source_DOI",
    "PatientAge",
    "PatientSex",
    "StudyDate",
    "StudyDescription",
    "BodyPartExamined",
    "Modality",
    "SOPClassUID",
    "sop_class_name",
    "TransferSyntaxUID",
    "transfer_syntax_name",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "Manufacturer",
    "ManufacturerModelName",
    "SeriesDate",
    "SeriesDescription",
    "SeriesNumber",
]
_INDEX_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(_TEXT_COLUMNS, pa.large_string()),
    "instanceCount": pa.int64(),
    "license_short_name": pa.large_string(),
    "series_init_idc_version": pa.int64(),
    "series_revised_idc_version": pa.int64(),
    "aws_bucket": pa.large_string(),
    "crdc_series_uuid": pa.large_string(),
    "series_aws_url": pa.large_string(),
    "series_size_MB": pa.float64(),
}
"""The columns of idc-index-data 25.0.5, in its order and with its types."""


def pydicom_files() -> list[Path]:
    """Every test file packaged with pydicom itself; none is downloaded."""
    root = Path(pydicom.__file__).parent / "data"
    folders = [root / "test_files", root / "charset_files"]
    skipped = {".py", ".pyc", ".md", ".txt", ".json", ".zip", ".gz", ".dump", ".icc"}
    found = (path for folder in folders for path in folder.rglob("*"))
    return sorted(path for path in found if path.is_file() and path.suffix not in skipped and path.name != "README")


def sample_archive(directory: Path) -> Path:
    """A small mixed archive of 42 MB: 2 collections, 3 patients, 6 studies, 9 series; returns ``directory``.

    Its first level are the collections: ``write_index`` takes their names from there.
    """
    if directory.exists():
        return directory
    with complete(directory, None) as temporary:
        assert temporary is not None
        rider, chest = temporary / "rider_twin", temporary / "chest_twin"
        mr = {"patient_id": "ZZ=RIDER MR8 1", "study_date": "20080831"}
        mr_series(rider / "mr", 40, 256, **mr)
        mr_series(rider / "localizer", 1, 256, description="Localizer", **mr)
        mr_series(rider / "repeat", 6, 256, study="repeat", description="T1 axial repeat", **mr)
        ct_series(chest / "ct", 60, 512)
        rt_struct(chest / "structures")
        ct_series(chest / "follow-up", 12, 256, study="follow-up", study_date="20210304")
        slide: dict[str, Any] = {"patient_id": "TWIN-SM-0003", "study": "slides"}
        multiframe(chest / "slide", 9, 256, "SM", description="H&E", **slide)
        multiframe(chest / "slide-rle", 4, 256, "SM", encapsulated=True, description="H&E RLE", **slide)
        rgb_series(chest / "screens", 3, 256, patient_id="TWIN-SM-0003", study="screens")
    return directory


def write_index(directory: Path, parquet: Path, collection_id: str | None = None) -> Path:
    """An idc-index-shaped parquet over the DICOM files of a directory; returns ``parquet``.

    The collection is ``collection_id``, or the first level below ``directory``. ``round(series_size_MB * 1e6)`` is the
    exact byte sum of each series, as in the real index.
    """
    series = [
        replace(series, collection_id=folder)
        for folder, files in _collections(directory, collection_id)
        for series in group([f for f in scan(directory) if f.path in files])
    ]
    return write_index_of(series, parquet)


def write_index_of(series: Iterable[Series], parquet: Path) -> Path:
    """An idc-index-shaped parquet of ``series``, as they say of themselves; returns ``parquet``."""
    rows = [_index_row(one) for one in series]
    columns = {name: [row.get(name) for row in rows] for name in _INDEX_COLUMNS}
    arrays = {name: pa.array(columns[name], type=kind) for name, kind in _INDEX_COLUMNS.items()}
    parquet.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), parquet)
    return parquet


def _collections(directory: Path, collection_id: str | None) -> Iterator[tuple[str, set[Path]]]:
    """Names of the collections and the files in them."""
    files = {path for path in directory.rglob("*") if path.is_file()}
    if collection_id is not None:
        yield collection_id, files
        return
    by_name: dict[str, set[Path]] = {}
    for path in sorted(files):
        first, *rest = path.relative_to(directory).parts
        by_name.setdefault(first if rest else "twin", set()).add(path)
    yield from by_name.items()


def _index_row(series: Series) -> dict[str, Any]:
    date = series.study_date
    return {
        "collection_id": series.collection_id,
        "PatientID": series.patient_id,
        "StudyInstanceUID": series.study_uid,
        "SeriesInstanceUID": series.series_uid,
        "StudyDate": f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else None,
        "SeriesDate": f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else None,
        "Modality": series.modality,
        "SOPClassUID": series.sop_class_uid,
        "sop_class_name": UID(series.sop_class_uid).name,
        "TransferSyntaxUID": ",".join(series.transfer_syntaxes),
        "transfer_syntax_name": ",".join(UID(syntax).name for syntax in series.transfer_syntaxes),
        "SeriesDescription": series.description or None,
        "instanceCount": series.instance_count,
        "license_short_name": "CC BY 4.0",
        "series_init_idc_version": 1,
        "series_revised_idc_version": 1,
        "aws_bucket": series.aws_bucket,
        "crdc_series_uuid": series.crdc_series_uuid,
        "series_aws_url": f"s3://{series.aws_bucket}/{series.crdc_series_uuid}/*",
        "series_size_MB": series.size_bytes / 1e6,
    }

"""A directory of DICOM files as the IDC's buckets hold them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.twin.directory import crdc_uuid, group, scan
from tests.twin.model import Series


def stored_series(directory: Path) -> Iterator[tuple[Series, dict[str, Path]]]:
    """Each series of ``directory`` and its files by SOPInstanceUID."""
    for series, files in group(scan(directory)).items():
        yield series, {file.text("SOPInstanceUID"): file.path for file in files}


def object_key(series: Series, instance_uid: str) -> str:
    """``{crdc_series_uuid}/{crdc_instance_uuid}.dcm``, the same as the twin's."""
    return f"{series.crdc_series_uuid}/{crdc_uuid(instance_uid)}.dcm"

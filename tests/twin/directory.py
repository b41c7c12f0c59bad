"""Holdings of a directory of DICOM files: scanned once at the start, served from disk unchanged."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from tests.twin.model import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Holdings, Instance, Series, SeriesQuery, date_matches

log = logging.getLogger(__name__)

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "Modality",
    "SeriesDescription",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "Rows",
    "Columns",
]


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """What the scan of one DICOM file tells."""

    path: Path
    size_bytes: int
    transfer_syntax: str
    values: dict[str, Any]

    def text(self, keyword: str) -> str:
        return str(self.values.get(keyword) or "")


@dataclass(frozen=True, slots=True)
class FileSource:
    """The bytes of a file."""

    path: Path

    def chunks(self, start: int, stop: int, chunk_bytes: int) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(chunk_bytes, stop - start))):
                start += len(chunk)
                yield chunk


def scan(directory: Path) -> list[ScannedFile]:
    """Every DICOM file below a directory, in the order of their paths; what is none is passed over."""
    found = (scan_file(path) for path in sorted(directory.rglob("*")) if path.is_file())
    return [file for file in found if file is not None]


def scan_file(path: Path) -> ScannedFile | None:
    """One file's identity, or None if it has no series and instance UID."""
    try:
        # By force: some have no preamble, and Orthanc takes those too.
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
        values = {tag: getattr(dataset, tag, None) for tag in _TAGS}
    except (InvalidDicomError, EOFError, ValueError, KeyError, NotImplementedError, AttributeError, TypeError) as error:
        log.info("%s is not served: %s", path, error)
        return None
    if not (values["SOPInstanceUID"] and values["SeriesInstanceUID"] and values["StudyInstanceUID"]):
        return None
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", IMPLICIT_LITTLE))
    return ScannedFile(path, path.stat().st_size, syntax, values)


def crdc_uuid(uid: str) -> str:
    """A bucket name for a UID: IDC's are random, these can be recomputed."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, uid))


def group(files: Sequence[ScannedFile], collection_id: str = "") -> dict[Series, list[ScannedFile]]:
    """The files of each series, without second copies of an instance."""
    members: dict[tuple[str, str, str], dict[str, ScannedFile]] = defaultdict(dict)
    for file in files:
        key = (file.text("PatientID"), file.text("StudyInstanceUID"), file.text("SeriesInstanceUID"))
        members[key].setdefault(file.text("SOPInstanceUID"), file)
    grouped = {}
    for (patient_id, study_uid, series_uid), instances in members.items():
        kept = list(instances.values())
        first = kept[0]
        series = Series(
            patient_id=patient_id,
            study_uid=study_uid,
            series_uid=series_uid,
            modality=first.text("Modality"),
            sop_class_uid=first.text("SOPClassUID"),
            transfer_syntaxes=tuple(sorted({file.transfer_syntax for file in kept})) or (EXPLICIT_LITTLE,),
            instance_count=len(kept),
            size_bytes=sum(file.size_bytes for file in kept),
            study_date=first.text("StudyDate"),
            description=first.text("SeriesDescription"),
            collection_id=collection_id,
            crdc_series_uuid=crdc_uuid(series_uid),
        )
        grouped[series] = kept
    return grouped


class DirectoryHoldings:
    """Every DICOM file below a directory."""

    def __init__(self, directory: Path) -> None:
        grouped = group(scan(directory))
        self._series = list(grouped)
        self._instances = {series: _instances(series, files) for series, files in grouped.items()}

    def series(self, query: SeriesQuery) -> Sequence[Series]:
        return [series for series in self._series if _matches(series, query)]

    def studies(self, query: SeriesQuery) -> Sequence[Series]:
        first: dict[tuple[str, str], Series] = {}
        for series in self.series(query):
            first.setdefault((series.patient_id, series.study_uid), series)
        return list(first.values())

    def instances(self, series: Series) -> Sequence[Instance]:
        return self._instances.get(series, [])

    def instance(self, series: Series, instance_uid: str) -> Instance | None:
        return next((i for i in self.instances(series) if i.instance_uid == instance_uid), None)

    def stored(self, series: Series, crdc_instance_uuid: str) -> Instance | None:
        return next((i for i in self.instances(series) if i.crdc_instance_uuid == crdc_instance_uuid), None)

    def by_uuid(self, crdc_series_uuid: str) -> Series | None:
        return next((series for series in self._series if series.crdc_series_uuid == crdc_series_uuid), None)


class CombinedHoldings:
    """Several holdings as one; the first that knows a series serves it."""

    def __init__(self, parts: Sequence[Holdings]) -> None:
        self._parts = parts

    def series(self, query: SeriesQuery) -> Sequence[Series]:
        return _chain([part.series(query) for part in self._parts])

    def studies(self, query: SeriesQuery) -> Sequence[Series]:
        return _chain([part.studies(query) for part in self._parts])

    def instances(self, series: Series) -> Sequence[Instance]:
        return self._holder(series).instances(series)

    def instance(self, series: Series, instance_uid: str) -> Instance | None:
        return self._holder(series).instance(series, instance_uid)

    def stored(self, series: Series, crdc_instance_uuid: str) -> Instance | None:
        return self._holder(series).stored(series, crdc_instance_uuid)

    def by_uuid(self, crdc_series_uuid: str) -> Series | None:
        return next((found for part in self._parts if (found := part.by_uuid(crdc_series_uuid))), None)

    def _holder(self, series: Series) -> Holdings:
        return next(part for part in self._parts if series in part.series(SeriesQuery(series_uid=series.series_uid)))


def _chain(lists: Sequence[Sequence[Series]]) -> Sequence[Series]:
    """The lists behind one another, without a copy where only one has something."""
    filled = [items for items in lists if len(items)]
    return filled[0] if len(filled) == 1 else [item for items in filled for item in items]


def _matches(series: Series, query: SeriesQuery) -> bool:
    return (
        query.series_uid in (None, series.series_uid)
        and query.study_uid in (None, series.study_uid)
        and query.patient_id in (None, series.patient_id)
        and query.modality in (None, series.modality)
        and (query.study_date is None or date_matches(series.study_date, query.study_date))
    )


def _instances(series: Series, files: Sequence[ScannedFile]) -> list[Instance]:
    return [
        Instance(
            series=series,
            ordinal=ordinal,
            instance_uid=file.text("SOPInstanceUID"),
            sop_class_uid=file.text("SOPClassUID"),
            transfer_syntax=file.transfer_syntax,
            size_bytes=file.size_bytes,
            number=int(file.values["InstanceNumber"] or 0),
            rows=int(file.values["Rows"] or 0),
            columns=int(file.values["Columns"] or 0),
            crdc_instance_uuid=crdc_uuid(file.text("SOPInstanceUID")),
            source=FileSource(file.path),
        )
        for ordinal, file in enumerate(files)
    ]

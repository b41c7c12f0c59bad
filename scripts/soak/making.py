"""Makes the archive of the soak: hundreds of series, most of them small, some of very large instances."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from scripts.soak.truth import Truth
from tests.data.archive import write_index_of
from tests.data.spec import uid
from tests.twin.model import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Series
from tests.twin.synthetic import series_from_row

_JPEG = "1.2.840.10008.1.2.4.50"
_COLLECTIONS, _PATIENTS, _STUDIES = 4, 40, 80
_BUCKET = "idc-open-data"


@dataclass(frozen=True, slots=True)
class _Kind:
    """Series that are alike."""

    series: int
    modality: str
    sop_class_uid: str
    syntax: str
    instances: tuple[int, int]
    """From … to."""
    instance_bytes: tuple[int, int]
    """From … to, on average."""


_KINDS = (
    _Kind(110, "CT", "1.2.840.10008.5.1.4.1.1.2", EXPLICIT_LITTLE, (1, 8), (20_000, 150_000)),
    _Kind(40, "MR", "1.2.840.10008.5.1.4.1.1.4", IMPLICIT_LITTLE, (1, 12), (30_000, 130_000)),
    _Kind(30, "RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3", EXPLICIT_LITTLE, (1, 1), (2_000, 400_000)),
    _Kind(10, "SR", "1.2.840.10008.5.1.4.1.1.88.33", DEFLATED, (1, 3), (2_000, 40_000)),
    _Kind(100, "CT", "1.2.840.10008.5.1.4.1.1.2", EXPLICIT_LITTLE, (8, 40), (200_000, 700_000)),
    _Kind(16, "MG", "1.2.840.10008.5.1.4.1.1.1.2", EXPLICIT_LITTLE, (1, 4), (5_000_000, 14_000_000)),
    _Kind(14, "SM", "1.2.840.10008.5.1.4.1.1.77.1.6", _JPEG, (1, 2), (42_000_000, 64_000_000)),
)


def make_truth(parquet: Path, seed: int) -> Truth:
    """Write the index of the archive of that seed, and say what it holds."""
    write_index_of(_series(random.Random(f"{seed}/archive")), parquet)
    # As the twin reads it.
    return Truth([series_from_row(row) for row in pq.read_table(parquet).to_pylist()], seed)


def _series(choice: random.Random) -> list[Series]:
    return [_one(choice, kind, f"{kind.modality} {number}") for kind in _KINDS for number in range(kind.series)]


def _one(choice: random.Random, kind: _Kind, name: str) -> Series:
    count = choice.randint(*kind.instances)
    study = choice.randrange(_STUDIES)
    patient = study % _PATIENTS
    series_uid = uid("soak", name, kind.syntax, str(kind.instance_bytes))
    return Series(
        patient_id=f"SOAK-{patient:04}",
        study_uid=uid("soak", "study", str(study)),
        series_uid=series_uid,
        modality=kind.modality,
        sop_class_uid=kind.sop_class_uid,
        transfer_syntaxes=(kind.syntax,),
        instance_count=count,
        size_bytes=count * choice.randint(*kind.instance_bytes) // 2 * 2,
        study_date=f"2020{1 + study % 12:02}{1 + study % 28:02}",
        description=name,
        collection_id=f"soak_{patient % _COLLECTIONS}",
        aws_bucket=_BUCKET,
        crdc_series_uuid=str(_uuid(series_uid)),
    )


def _uuid(series_uid: str) -> str:
    digits = f"{int(series_uid.rpartition('.')[2]):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

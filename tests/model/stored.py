"""What the model's archive stores: DICOM files made up from a name, in versions that differ from the first pixel on."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from idcfs.settings import MIB
from tests.namespace.making import Row, write_rows
from tests.twin.directory import crdc_uuid

COLLECTION = "model"
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"
BUCKET = "idc-open-data"


@dataclass(frozen=True)
class SeriesPlan:
    """A series, and how large its files are when the archive is new."""

    patient: str
    study: str
    uid: str
    is_fixed: bool
    """Whether the index has a content UUID for it, which names bytes for ever; and a bucket."""
    sizes: tuple[int, ...]
    """In bytes, of as many files as the index counts."""
    spare: int = 0
    """So many more files, of 50 kB, that the archive does not have at the start."""

    @property
    def path(self) -> tuple[str, ...]:
        """Directories from the root."""
        return COLLECTION, self.patient, self.study, self.uid

    def file_uid(self, number: int) -> str:
        """SOPInstanceUIDs are not in the order of the numbers."""
        return f"{self.uid}.{(number * 7 + 3) % 11}"

    def row(self) -> Row:
        """What the index says of it."""
        return Row(
            collection_id=COLLECTION,
            PatientID=self.patient,
            StudyInstanceUID=self.study,
            SeriesInstanceUID=self.uid,
            instanceCount=len(self.sizes),
            series_size_MB=sum(self.sizes) / 1e6,
            crdc_series_uuid=crdc_uuid(self.uid) if self.is_fixed else None,
            aws_bucket=BUCKET if self.is_fixed else None,
            TransferSyntaxUID=EXPLICIT,
        )


PLANS = (
    SeriesPlan("P1", "1.1", "1.1.1", True, (3_001, 70_000, 131_072, 300_000)),
    SeriesPlan("P1", "1.1", "1.1.2", False, (2_000, MIB, 2_500_000), spare=2),
    SeriesPlan("P1", "1.2", "1.2.1", True, (700_001,)),
    SeriesPlan("P2", "1.3", "1.3.1", True, (5 * MIB + 7, MIB + 1)),
    SeriesPlan("P2", "1.3", "1.3.2", False, (901,)),
)


def write_index(path: Path) -> Path:
    """An index of ``PLANS``."""
    return write_rows(path, [plan.row() for plan in PLANS])


@lru_cache(maxsize=128)
def stored(plan: SeriesPlan, uid: str, size: int, version: int) -> bytes:
    """The file ``uid`` of so many bytes, in that version: a head that does not change, and then nothing alike."""
    elements = [
        (0x0008, 0x0016, b"UI", SOP_CLASS),
        (0x0008, 0x0018, b"UI", uid),
        (0x0008, 0x0060, b"CS", "OT"),
        (0x0010, 0x0020, b"LO", plan.patient),
        (0x0020, 0x000D, b"UI", plan.study),
        (0x0020, 0x000E, b"UI", plan.uid),
        (0x0020, 0x0013, b"IS", uid.rpartition(".")[2]),
    ]
    meta = [(2, 2, b"UI", SOP_CLASS), (2, 3, b"UI", uid), (2, 0x10, b"UI", EXPLICIT)]
    head = bytes(128) + b"DICM" + _group(meta) + b"".join(_element(*one) for one in elements)
    filling = size - len(head) - 12
    assert filling > 0
    head += struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, filling)
    return head + random.Random(f"{uid} {size} {version}").randbytes(filling)


def _group(elements: Sequence[tuple[int, int, bytes, str]]) -> bytes:
    version = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\0\1"
    body = version + b"".join(_element(*one) for one in elements)
    return struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _element(group: int, number: int, kind: bytes, text: str) -> bytes:
    value = text.encode()
    value += (b"\0" if kind == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value


def write_files(directory: Path, contents: Mapping[str, tuple[SeriesPlan, bytes]]) -> None:
    """Have in ``directory`` these files by SOPInstanceUID, and no others."""
    wanted = {directory / plan.uid / f"{uid}.dcm": data for uid, (plan, data) in contents.items()}
    for path in set(directory.rglob("*.dcm")) - wanted.keys():
        path.unlink()
    for path, data in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            new = path.with_suffix(".new")  # what is being sent goes on as it began
            new.write_bytes(data)
            new.rename(path)

"""What a sample series is like, and the parts of its datasets that do not depend on the form of its pixels."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

THICKNESS_MM = 1.25

Pixels = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """What a sample series is like; different specs have different UIDs."""

    patient_id: str = "TWIN-CT-0001"
    study: str = "baseline"
    """Series with the same patient and study label stand in one study."""
    description: str = "Chest 1.25mm"
    modality: str = "CT"
    slices: int = 300
    size: int = 512
    """Rows and columns."""
    rgb: bool = False
    study_date: str = "20200102"
    """YYYYMMDD"""

    @property
    def study_uid(self) -> str:
        return uid(self.patient_id, self.study)

    @property
    def series_uid(self) -> str:
        return uid(repr(self))

    def instance_uid(self, index: int) -> str:
        """The SOPInstanceUID of a slice: a hash, so that the order of names is not the order of slices."""
        return uid(repr(self), str(index))


@contextmanager
def complete(directory: Path, names: set[str] | None) -> Iterator[Path | None]:
    """A temporary directory that becomes ``directory`` at the end; None if that is there already."""
    if directory.exists():
        if names is not None and {path.name for path in directory.iterdir()} != names:
            raise ValueError(f"{directory} holds something else than what is asked for")
        yield None
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        # A rename onto a directory that is not empty fails: another process was faster, and wrote the same.
        if not directory.exists():
            temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def phantom(size: int) -> Pixels:
    """A body, two lungs and a spine in Hounsfield units + 1024, with noise that compresses as badly as a real scan."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.zeros((size, size), dtype=np.float32)
    image[(x / 0.85) ** 2 + (y / 0.65) ** 2 < 1] = 1064
    for side in (-0.38, 0.38):
        image[((x - side) / 0.28) ** 2 + (y / 0.45) ** 2 < 1] = 200
    image[(x / 0.1) ** 2 + ((y - 0.45) / 0.1) ** 2 < 1] = 1700
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 20, image.shape)
    return np.clip(image + noise, 0, 4095).astype(np.uint16)


def frame(spec: SeriesSpec, index: int, base: Pixels) -> bytes:
    """The pixels of a slice: the phantom moved a little, so that every slice differs."""
    moved = np.roll(base, (index % spec.size, index // spec.size + index // 7), axis=(0, 1))
    if not spec.rgb:
        return moved.astype("<u2").tobytes()
    grey = (moved >> 4).astype(np.uint8)
    return np.stack([grey, np.roll(grey, 1, axis=0), 255 - grey], axis=-1).tobytes()


def new_dataset(spec: SeriesSpec, index: int, sop_class: str, syntax: UID = ExplicitVRLittleEndian) -> FileDataset:
    """Who, when and what: everything but the image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(spec.instance_uid(index))
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, spec.instance_uid(index)
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = spec.study_date
    dataset.StudyTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    dataset.Modality, dataset.Manufacturer = spec.modality, "Twin"
    dataset.StudyDescription, dataset.SeriesDescription = spec.study, spec.description
    dataset.PatientName, dataset.PatientID = spec.patient_id.replace("=", " "), spec.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = spec.study_uid, spec.series_uid
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, index + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return dataset


def describe_pixels(dataset: Dataset, spec: SeriesSpec) -> None:
    bits = 8 if spec.rgb else 16
    dataset.SamplesPerPixel = 3 if spec.rgb else 1
    dataset.PhotometricInterpretation = "RGB" if spec.rgb else "MONOCHROME2"
    if spec.rgb:
        dataset.PlanarConfiguration = 0
    dataset.Rows = dataset.Columns = spec.size
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = 0


def uid(*words: str) -> str:
    return f"2.25.{int.from_bytes(hashlib.blake2b('/'.join(words).encode(), digest_size=16).digest(), 'big')}"

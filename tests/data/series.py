"""Series of single-frame images, and a structure set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from tests.data.spec import (
    THICKNESS_MM,
    Pixels,
    SeriesSpec,
    complete,
    describe_pixels,
    frame,
    new_dataset,
    phantom,
    uid,
)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"

_SOP_CLASSES = {"CT": CT_IMAGE, "MR": MR_IMAGE, "OT": SECONDARY_CAPTURE}
_SPACING_MM = 0.7


def ct_series(directory: Path, slices: int = 300, size: int = 512, **changes: Any) -> list[Path]:
    """A CT of 16 bits, Explicit VR Little Endian, ``{SOPInstanceUID}.dcm`` each; the paths in order of slices.

    300 slices of 512 × 512 are 157 MB. ``changes`` go into the spec.
    """
    return write_series(directory, SeriesSpec(slices=slices, size=size, **changes))


def mr_series(directory: Path, slices: int = 40, size: int = 256, **changes: Any) -> list[Path]:
    """An MR of 16 bits; otherwise like ``ct_series``."""
    spec = SeriesSpec(patient_id="TWIN-MR-0002", description="T1 axial", modality="MR", slices=slices, size=size)
    return write_series(directory, replace(spec, **changes))


def rgb_series(directory: Path, slices: int = 5, size: int = 256, **changes: Any) -> list[Path]:
    """Secondary captures of 3 × 8 bits; otherwise like ``ct_series``."""
    spec = SeriesSpec(description="Screenshots", modality="OT", slices=slices, size=size, rgb=True)
    return write_series(directory, replace(spec, **changes))


def write_series(directory: Path, spec: SeriesSpec) -> list[Path]:
    """The series of a spec; the paths in order of slices."""
    names = [f"{spec.instance_uid(index)}.dcm" for index in range(spec.slices)]
    with complete(directory, set(names)) as temporary:
        if temporary is not None:
            base = phantom(spec.size)
            for index, name in enumerate(names):
                _slice(spec, index, base).save_as(temporary / name, enforce_file_format=True)
    return [directory / name for name in names]


def rt_struct(directory: Path, contours: int = 8, **changes: Any) -> Path:
    """One small RT structure set, without pixels."""
    spec = replace(SeriesSpec(description="Structures", modality="RTSTRUCT", slices=1), **changes)
    name = f"{spec.instance_uid(0)}.dcm"
    with complete(directory, {name}) as temporary:
        if temporary is not None:
            dataset = new_dataset(spec, 0, RT_STRUCTURE_SET)
            dataset.StructureSetLabel = "TWIN"
            dataset.ROIContourSequence = [_contour(number) for number in range(1, contours + 1)]
            dataset.save_as(temporary / name, enforce_file_format=True)
    return directory / name


def _slice(spec: SeriesSpec, index: int, base: Pixels) -> FileDataset:
    dataset = new_dataset(spec, index, _SOP_CLASSES[spec.modality])
    describe_pixels(dataset, spec)
    dataset.ImagePositionPatient = [-180, -180, round(index * THICKNESS_MM, 4)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [_SPACING_MM, _SPACING_MM]
    dataset.SliceThickness = THICKNESS_MM
    dataset.SliceLocation = round(index * THICKNESS_MM, 4)
    dataset.FrameOfReferenceUID = uid(spec.patient_id, spec.study, "frame of reference")
    if spec.modality == "CT":
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    dataset.add_new(0x7FE00010, "OB" if spec.rgb else "OW", frame(spec, index, base))
    return dataset


def _contour(number: int) -> Dataset:
    contour = Dataset()
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    points = np.stack([40 * np.cos(angles), 40 * np.sin(angles), np.full_like(angles, number * THICKNESS_MM)], axis=-1)
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(angles)
    contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
    roi = Dataset()
    roi.ReferencedROINumber = number
    roi.ContourSequence = [contour]
    return roi

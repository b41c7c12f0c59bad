"""A whole-slide image as pathology scanners' files are in the IDC: a pyramid of JPEG tiles, a level an instance."""

from __future__ import annotations

import functools
import io
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, JPEGBaseline8Bit

from tests.data.multiframe import SLIDE_MICROSCOPY
from tests.data.spec import SeriesSpec, complete, new_dataset, uid

TILE = 512
"""Rows and columns of a tile."""
TILES_ACROSS = 50
"""Of the largest level: 2,500 tiles of some 100 kB are 250 MB."""
DIFFERENT_TILES = 23
"""Prime, so that no tile has its like beside or below it: drawing all of them would take minutes."""
_SPACING_MM = 0.00025


def whole_slide(directory: Path, across: int = TILES_ACROSS, levels: int = 3, **changes: Any) -> list[Path]:
    """A series of one instance a level, ``{SOPInstanceUID}.dcm`` each, the largest one first.

    TILED_FULL, JPEG baseline, one fragment a frame, with a basic offset table. The largest level is noisy and has some
    100 kB a tile, the others are smooth. ``changes`` go into the spec.
    """
    spec = SeriesSpec(patient_id="TWIN-SM-0004", study="slide", description="H&E", modality="SM", slices=levels)
    spec = replace(spec, size=across * TILE, **changes)
    names = [f"{spec.instance_uid(level)}.dcm" for level in range(levels)]
    with complete(directory, set(names)) as temporary:
        if temporary is not None:
            for level, name in enumerate(names):
                _write(temporary / name, spec, level)
    return [directory / name for name in names]


def _write(path: Path, spec: SeriesSpec, level: int) -> None:
    pixels = spec.size >> level
    count = math.ceil(pixels / TILE) ** 2
    tiles = [_tile(number, noisy=level == 0) for number in range(min(count, DIFFERENT_TILES))]
    frames = [tiles[frame % len(tiles)] for frame in range(count)]
    header = io.BytesIO()
    _level(spec, level, pixels, count).save_as(header, enforce_file_format=True)
    with path.open("wb") as file:
        file.write(header.getvalue())
        file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
        file.write(struct.pack("<HHL", 0xFFFE, 0xE000, 4 * count) + _offsets(frames))
        for frame in frames:
            file.write(struct.pack("<HHL", 0xFFFE, 0xE000, len(frame)))
            file.write(frame)
        file.write(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))


def _offsets(frames: Sequence[bytes]) -> bytes:
    """The basic offset table: where the item of each frame begins, from the first one."""
    ends = np.cumsum([8 + len(frame) for frame in frames])
    return np.concatenate([[0], ends[:-1]]).astype("<u4").tobytes()


@functools.cache
def _tile(number: int, *, noisy: bool) -> bytes:
    """A tile like no other: stained tissue, with a number of cells of its own. Even in length, as items must be."""
    chance = np.random.Generator(np.random.PCG64(number))
    image = np.empty((TILE, TILE, 3), np.float32)
    image[:] = (225, 150 + 3 * number, 205)
    y, x = np.mgrid[0:TILE, 0:TILE]
    for cell_x, cell_y in chance.integers(0, TILE, (8 + number, 2)):
        image[(x - cell_x) ** 2 + (y - cell_y) ** 2 < 300] = (90, 50, 140)
    if noisy:
        image += chance.normal(0, 22, (TILE, TILE, 1)).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80, subsampling="4:2:2")
    return buffer.getvalue() + bytes(buffer.tell() % 2)


def _level(spec: SeriesSpec, level: int, pixels: int, count: int) -> FileDataset:
    """Everything of a level but its pixels (PS3.3, A.32.8)."""
    dataset = new_dataset(spec, level, SLIDE_MICROSCOPY, UID(JPEGBaseline8Bit))
    dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if level else "NONE"]
    if level == 0:
        dataset.ImageType[0] = "ORIGINAL"
    dataset.AcquisitionDateTime = f"{spec.study_date}120000"
    dataset.ManufacturerModelName, dataset.DeviceSerialNumber, dataset.SoftwareVersions = "Twin", "1", "1"
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = uid(repr(spec), "frame"), "SLIDE_CORNER"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "YBR_FULL_422", 0
    dataset.Rows = dataset.Columns = TILE
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", 8
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.BurnedInAnnotation, dataset.VolumetricProperties, dataset.SpecimenLabelInImage = "NO", "VOLUME", "NO"
    dataset.FocusMethod, dataset.ExtendedDepthOfField = "AUTO", "NO"
    dataset.NumberOfFrames, dataset.TotalPixelMatrixFocalPlanes = count, 1
    dataset.TotalPixelMatrixColumns = dataset.TotalPixelMatrixRows = pixels
    dataset.ImagedVolumeWidth = dataset.ImagedVolumeHeight = spec.size * _SPACING_MM
    dataset.ImagedVolumeDepth = 0.001
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    dataset.TotalPixelMatrixOriginSequence = [
        _item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)
    ]
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=uid(repr(spec), "dimensions"))]
    dataset.ContainerIdentifier, dataset.ContainerTypeCodeSequence = "slide", [_code("258661006", "SCT", "Slide")]
    dataset.IssuerOfTheContainerIdentifierSequence, dataset.AcquisitionContextSequence = [], []
    dataset.SpecimenDescriptionSequence = [
        _item(
            SpecimenIdentifier="specimen",
            SpecimenUID=uid(repr(spec), "specimen"),
            IssuerOfTheSpecimenIdentifierSequence=[],
            SpecimenPreparationSequence=[],
        )
    ]
    dataset.NumberOfOpticalPaths = 1
    dataset.OpticalPathSequence = [
        _item(
            OpticalPathIdentifier="1",
            IlluminationTypeCodeSequence=[_code("111744", "DCM", "Brightfield illumination")],
            IlluminationColorCodeSequence=[_code("414298005", "SCT", "Full Spectrum")],
        )
    ]
    measures = _item(PixelSpacing=[_SPACING_MM * 2**level] * 2, SliceThickness=0.001)
    kind = _item(FrameType=list(dataset.ImageType))
    path = _item(OpticalPathIdentifier="1")
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PixelMeasuresSequence=[measures],
            WholeSlideMicroscopyImageFrameTypeSequence=[kind],
            OpticalPathIdentificationSequence=[path],
        )
    ]
    return dataset


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)

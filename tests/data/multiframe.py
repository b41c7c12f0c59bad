"""Multi-frame instances, native and encapsulated."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from tests.data.spec import THICKNESS_MM, SeriesSpec, complete, describe_pixels, frame, new_dataset, phantom, uid

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SLIDE_MICROSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.6"


def multiframe(
    directory: Path,
    frames: int = 480,
    size: int = 512,
    modality: str = "CT",
    *,
    encapsulated: bool = False,
    **changes: Any,
) -> Path:
    """One multi-frame instance: enhanced CT of 16 bits (480 × 512 × 512 are 252 MB), or SM-like tiles of RGB.

    ``encapsulated``: RLE Lossless, one fragment a frame, with a basic offset table; decodable by anyone.
    """
    spec = replace(SeriesSpec(description="Multi-frame", modality=modality, slices=frames, size=size), **changes)
    spec = replace(spec, rgb=modality == "SM")
    name = f"{uid(repr(spec), 'rle' if encapsulated else 'native')}.dcm"
    with complete(directory, {name}) as temporary:
        if temporary is not None:
            _write_multiframe(temporary / name, spec, encapsulated)
    return directory / name


def _write_multiframe(path: Path, spec: SeriesSpec, encapsulated: bool) -> None:
    """The header by pydicom, the frames one by one behind it: a gigabyte needs no gigabyte of memory."""
    sop_class = SLIDE_MICROSCOPY if spec.modality == "SM" else ENHANCED_CT
    dataset = new_dataset(spec, 0, sop_class, RLELossless if encapsulated else ExplicitVRLittleEndian)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(path.stem)
    describe_pixels(dataset, spec)
    dataset.NumberOfFrames = spec.slices
    if spec.modality == "SM":
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        dataset.DimensionOrganizationType = "TILED_FULL"
        dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = spec.size * spec.slices, spec.size
    else:
        dataset.PerFrameFunctionalGroupsSequence = [_frame_group(index) for index in range(spec.slices)]
    base = phantom(spec.size)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    with path.open("wb") as file:
        file.write(buffer.getvalue())
        write = _write_encapsulated if encapsulated else _write_native
        write(file, spec, lambda index: frame(spec, index, base))


def _frame_group(index: int) -> Dataset:
    position = Dataset()
    position.ImagePositionPatient = [-180, -180, round(index * THICKNESS_MM, 4)]
    frame = Dataset()
    frame.PlanePositionSequence = [position]
    return frame


def _write_native(file: io.BufferedWriter, spec: SeriesSpec, frame: Callable[[int], bytes]) -> None:
    length = spec.slices * spec.size * spec.size * (3 if spec.rgb else 2)
    vr = b"OB" if spec.rgb else b"OW"
    file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, vr, 0, length + length % 2))
    file.writelines(frame(index) for index in range(spec.slices))
    file.write(bytes(length % 2))


def _write_encapsulated(file: io.BufferedWriter, spec: SeriesSpec, frame: Callable[[int], bytes]) -> None:
    file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
    samples = 3 if spec.rgb else 2
    length = len(_rle(frame(0), samples))  # literal runs only: every frame is as long as the first
    file.write(struct.pack("<HHL", 0xFFFE, 0xE000, 4 * spec.slices))
    file.write(np.arange(0, spec.slices * (length + 8), length + 8, dtype="<u4").tobytes())
    item = struct.pack("<HHL", 0xFFFE, 0xE000, length)
    file.writelines(item + _rle(frame(index), samples) for index in range(spec.slices))
    file.write(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))


def _rle(frame: bytes, planes: int) -> bytes:
    """A frame as RLE Lossless (PS3.5, annex G) in literal runs of 128 bytes, one segment a byte plane, high first."""
    bytes_of = np.frombuffer(frame, np.uint8).reshape(-1, planes)
    order = range(planes) if planes == 3 else reversed(range(planes))
    segments = []
    for plane in order:
        runs = np.full((len(bytes_of) // 128, 129), 127, np.uint8)
        runs[:, 1:] = bytes_of[:, plane].reshape(-1, 128)
        data = runs.tobytes()
        segments.append(data + bytes(len(data) % 2))
    offsets = [64 + sum(len(segment) for segment in segments[:n]) for n in range(planes)]
    return struct.pack("<16L", planes, *offsets, *[0] * (15 - planes)) + b"".join(segments)

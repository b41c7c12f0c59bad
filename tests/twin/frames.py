"""Where the frames of an instance lie in its file: exactly the stored bitstream, pad byte included.

Google and Orthanc answer ``/frames`` with ``transfer-syntax=*`` that way. As with Orthanc, Big Endian and Deflated
cannot be served (500), nor 1-bit frames that do not end on a byte (400).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.twin.model import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, Instance, open_instance

_UNDEFINED = 0xFFFFFFFF


class Unservable(Exception):
    """This instance cannot be served that way; ``status`` is the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes [start, stop) of a file."""

    start: int
    stop: int


def header(instance: Instance) -> Dataset:
    """Everything before the pixel data, read by pydicom."""
    with open_instance(instance) as file:
        return pydicom.dcmread(cast("BinaryIO", file), stop_before_pixels=True, force=True)


@lru_cache(maxsize=64)
def frame_spans(instance: Instance) -> tuple[tuple[Span, ...], ...]:
    """For every frame the spans its bytes are in (several fragments may make one frame); raises Unservable."""
    if instance.transfer_syntax in (EXPLICIT_BIG, DEFLATED):
        raise Unservable(500, "frames of Big Endian and Deflated instances are not served")
    with open_instance(instance) as raw:
        file = cast("BinaryIO", raw)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        length = _pixel_data_length(file, instance.transfer_syntax)
        if length != _UNDEFINED:
            if file.tell() + length > instance.size_bytes:
                raise Unservable(500, "the file ends inside PixelData")
            return tuple((span,) for span in _native(dataset, file.tell(), length))
        return _encapsulated(file, int(dataset.get("NumberOfFrames") or 1))


def _pixel_data_length(file: BinaryIO, syntax: str) -> int:
    """Reads the header of PixelData; the file stands at its value then."""
    data = file.read(8)
    if len(data) < 8 or struct.unpack("<HH", data[:4]) != (0x7FE0, 0x0010):
        raise Unservable(404, "the instance has no PixelData")
    if syntax == IMPLICIT_LITTLE:
        return int(struct.unpack("<L", data[4:])[0])
    return int(struct.unpack("<L", file.read(4))[0])


def _native(dataset: Dataset, start: int, length: int) -> list[Span]:
    count = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel", 1))
    bits = samples * int(dataset.BitsAllocated)
    if bits % 8:
        raise Unservable(400, "frames do not end on a byte")
    size = bits // 8
    if str(dataset.get("PhotometricInterpretation", "")) == "YBR_FULL_422":
        size = size * 2 // 3
    if size * count > length:
        raise Unservable(500, "PixelData is too short")
    return [Span(start + size * n, start + size * (n + 1)) for n in range(count)]


def _encapsulated(file: BinaryIO, count: int) -> tuple[tuple[Span, ...], ...]:
    """Fragments grouped into frames: by the offset table, or one each, or all in the only frame."""
    table_bytes = _item(file)
    offsets = struct.unpack(f"<{table_bytes // 4}L", file.read(table_bytes // 4 * 4))
    first = file.tell()
    fragments: list[Span] = []
    while (length := _item(file)) >= 0:
        fragments.append(Span(file.tell(), file.tell() + length))
        file.seek(length, 1)
    if count == 1:
        return (tuple(fragments),)
    if len(fragments) == count:
        return tuple((fragment,) for fragment in fragments)
    if len(offsets) != count:
        raise Unservable(500, "several fragments a frame and no offset table")
    groups: list[list[Span]] = [[] for _ in offsets]
    for fragment in fragments:
        frame = sum(1 for offset in offsets if first + offset <= fragment.start - 8) - 1
        groups[frame].append(fragment)
    return tuple(tuple(group) for group in groups)


def _item(file: BinaryIO) -> int:
    """Length of the next item, or -1 at the sequence delimiter or the end."""
    data = file.read(8)
    if len(data) < 8:
        return -1
    group, element, length = struct.unpack("<HHL", data)
    return int(length) if (group, element) == (0xFFFE, 0xE000) else -1


def transcoded(instance: Instance) -> bytes:
    """The instance as a server that transcodes would send it: Explicit VR Little Endian, other bytes.

    Nothing is decoded: pixels become zeros of the decoded size (at most 64 MiB). Whoever looks at the file meta must
    reject the body anyway. Raises Unservable where pydicom cannot write the dataset.
    """
    buffer = io.BytesIO()
    try:
        dataset = header(instance)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if "Rows" in dataset:
            dataset.add_new(0x7FE00010, "OW", bytes(min(_decoded_bytes(dataset), 64 * 1024 * 1024)))
        pydicom.dcmwrite(buffer, dataset, little_endian=True, implicit_vr=False)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, struct.error) as error:
        raise Unservable(406, f"cannot be re-encoded: {error}") from error
    return buffer.getvalue()


def _decoded_bytes(dataset: Dataset) -> int:
    frames = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel", 1)) * int(dataset.get("BitsAllocated", 8))
    return (int(dataset.Rows) * int(dataset.Columns) * samples * frames + 15) // 16 * 2

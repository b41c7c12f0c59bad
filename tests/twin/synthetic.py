"""Instances that exist only as a formula: any byte of a petabyte, computed when asked for.

A series of idc-index tells how many instances it has and how many bytes they sum up to
(``round(series_size_MB * 1e6)``). From that follow, by hashing the SeriesInstanceUID and the ordinal, each instance's
UID, its size, and each of its bytes, so that a test can compute what an archive must have sent.

Each instance is a Part-10 file: preamble, DICM, file meta with the first transfer syntax of the series, then the UIDs,
PatientID, Modality and InstanceNumber, then filling up to the exact size:

- native images: PixelData of 16 bits, square; what is left over in DataSetTrailingPadding (FFFC,FFFC);
- encapsulated images: an empty offset table and one fragment (not a decodable one);
- everything else: DataSetTrailingPadding;
- Deflated: the filling follows the deflated stream, where zlib stops reading.

Sizes are even except in a series of odd total, whose last instance ends in one stray zero byte (no series of IDC v25
has an odd total). An instance too small for all that keeps its exact size and is cut off (none in IDC v25, where the
smallest share is 1,266 bytes).
"""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Any

from tests.twin.model import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Instance, Series

_PERIOD = 4_194_301
"""Length of the table of noise: a prime, so that no two blocks of one instance are alike."""
_OVERLAP = 1024 * 1024
"""The table's beginning is repeated behind its end: reads up to this size are one slice."""
_MAX_SIDE = 46_340
"""Rows and columns of the largest 16-bit square image below 4 GiB."""
_ENCAPSULATED_SIDE = 512
"""Rows and columns that an encapsulated image claims to have."""
_ENCAPSULATION_BYTES = 12 + 8 + 8 + 8
"""Headers of PixelData, of the empty offset table and of the fragment, and the delimiter."""
_IMPLEMENTATION_UID = "2.25.188041284207553124893517716520284513000"
_LONG_VRS = frozenset({"OB", "OW", "UN", "UT", "SQ"})
_NO_PIXELS = frozenset({"SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "REG", "FID", "ANN", "DOC", "RTRECORD", "RWV", "AU"})
_NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})


@lru_cache(maxsize=1)
def _noise() -> bytes:
    table = hashlib.shake_128(b"idcfs twin").digest(_PERIOD)
    return table + table[:_OVERLAP]


def _digest(series_uid: str, word: str | int) -> bytes:
    return hashlib.blake2b(f"{series_uid}/{word}".encode(), digest_size=16).digest()


def instance_uid(series_uid: str, ordinal: int) -> str:
    """SOPInstanceUID of the ``ordinal``-th instance: ``2.25.`` and a 128-bit hash in decimals."""
    return f"2.25.{int.from_bytes(_digest(series_uid, ordinal), 'big')}"


def crdc_instance_uuid(series_uid: str, ordinal: int) -> str:
    """Name of the instance's object in its bucket, without ``.dcm``."""
    return str(uuid.UUID(bytes=_digest(series_uid, f"object {ordinal}"), version=4))


def _boundary(series: Series, ordinal: int) -> int:
    """Bytes of the series before the instance ``ordinal``: its even share, moved by up to an eighth of a share."""
    if ordinal <= 0:
        return 0
    if ordinal >= series.instance_count:
        return series.size_bytes
    swing = series.size_bytes // series.instance_count // 8
    noise = int.from_bytes(_digest(series.series_uid, f"size {ordinal}")[:8], "big")
    jitter = noise % (2 * swing + 1) - swing
    return (series.size_bytes * ordinal // series.instance_count + jitter) & ~1


def instance_size(series: Series, ordinal: int) -> int:
    """Exact size of an instance in bytes; the sizes of a series differ and sum up to ``size_bytes``."""
    return _boundary(series, ordinal + 1) - _boundary(series, ordinal)


def synthetic_bytes(series: Series, ordinal: int, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of an instance, clipped to its size."""
    return b"".join(_chunks(series, ordinal, start, stop, _OVERLAP))


def synthetic_instance(series: Series, ordinal: int) -> Instance:
    """The instance of that ordinal as the twin lists it."""
    size = instance_size(series, ordinal)
    side = _side(series, ordinal, size & ~1)
    return Instance(
        series=series,
        ordinal=ordinal,
        instance_uid=instance_uid(series.series_uid, ordinal),
        sop_class_uid=series.sop_class_uid,
        transfer_syntax=series.transfer_syntaxes[0],
        size_bytes=size,
        number=ordinal + 1,
        rows=side,
        columns=side,
        crdc_instance_uuid=crdc_instance_uuid(series.series_uid, ordinal),
        source=_SyntheticSource(series, ordinal),
    )


def series_from_row(row: Mapping[str, Any]) -> Series:
    """The series of one idc-index row, given as a mapping from column to value."""
    return Series(
        patient_id=row["PatientID"] or "",
        study_uid=row["StudyInstanceUID"],
        series_uid=row["SeriesInstanceUID"],
        modality=row["Modality"] or "",
        sop_class_uid=row["SOPClassUID"] or "1.2.840.10008.5.1.4.1.1.7",
        transfer_syntaxes=tuple((row["TransferSyntaxUID"] or EXPLICIT_LITTLE).split(",")),
        instance_count=int(row["instanceCount"]),
        size_bytes=round(row["series_size_MB"] * 1e6),
        study_date=str(row.get("StudyDate") or "").replace("-", ""),
        description=row.get("SeriesDescription") or "",
        collection_id=row.get("collection_id") or "",
        aws_bucket=row.get("aws_bucket") or "idc-open-data",
        crdc_series_uuid=row.get("crdc_series_uuid") or "",
    )


@dataclass(frozen=True, slots=True)
class _SyntheticSource:
    series: Series
    ordinal: int

    def chunks(self, start: int, stop: int, chunk_bytes: int) -> Iterator[bytes]:
        return _chunks(self.series, self.ordinal, start, stop, chunk_bytes)


@dataclass(frozen=True, slots=True)
class _Layout:
    """An instance's size, and the bytes of it that are not noise."""

    size: int
    literals: tuple[tuple[int, bytes], ...]
    """(offset, bytes), in order; whatever lies between is noise."""
    shift: int
    """Where in the table of noise byte 0 of this instance stands."""


def _chunks(series: Series, ordinal: int, start: int, stop: int, chunk_bytes: int) -> Iterator[bytes]:
    layout = _layout(series, ordinal)
    position, stop = max(0, start), min(stop, layout.size)
    step = min(chunk_bytes, _OVERLAP)
    while position < stop:
        upper = min(stop, position + step)
        yield _piece(layout, position, upper)
        position = upper


def _piece(layout: _Layout, start: int, stop: int) -> bytes:
    """The bytes [start, stop), at most ``_OVERLAP`` of them: noise with the literals laid over it."""
    first = (start + layout.shift) % _PERIOD
    noise = _noise()[first : first + stop - start]
    if not any(offset < stop and offset + len(literal) > start for offset, literal in layout.literals):
        return noise
    data = bytearray(noise)
    for offset, literal in layout.literals:
        low, high = max(start, offset), min(stop, offset + len(literal))
        if low < high:
            data[low - start : high - start] = literal[low - offset : high - offset]
    return bytes(data)


@lru_cache(maxsize=4096)
def _layout(series: Series, ordinal: int) -> _Layout:
    size = instance_size(series, ordinal)
    even = size & ~1
    literals = _literals(series, ordinal, even)
    if size != even:
        literals = [*literals, (even, b"\0")]
    clipped = tuple((offset, literal[: size - offset]) for offset, literal in literals if offset < size)
    shift = int.from_bytes(_digest(series.series_uid, f"noise {ordinal}")[:8], "big") % _PERIOD
    return _Layout(size, clipped, shift)


def _literals(series: Series, ordinal: int, size: int) -> list[tuple[int, bytes]]:
    """Everything in an instance of ``size`` bytes that is not noise."""
    syntax = series.transfer_syntaxes[0]
    side = _side(series, ordinal, size)
    head = _head(series, ordinal, side)
    if side:
        image = _native_image if syntax in _NATIVE else _encapsulated_image
        return image(head, side, size, syntax)
    room = size - len(head)
    if syntax == DEFLATED or room < _padding_bytes(syntax):
        return [(0, head)]
    return [(0, head + _padding(syntax, room))]


def _side(series: Series, ordinal: int, size: int) -> int:
    """Rows and columns of the image in an instance of ``size`` bytes; 0: it has none."""
    syntax = series.transfer_syntaxes[0]
    if series.modality in _NO_PIXELS or syntax == DEFLATED:
        return 0
    # UIDs and numbers are padded to even lengths: a few lengths serve a series of 91,980 instances.
    lengths = (len(instance_uid(series.series_uid, ordinal)), len(str(ordinal + 1)))
    room = size - _image_head_bytes(series, *[length + length % 2 for length in lengths])
    if syntax not in _NATIVE:
        return _ENCAPSULATED_SIDE if 2 <= room - _ENCAPSULATION_BYTES <= 0xFFFFFFFE else 0
    room -= _padding_bytes(syntax)  # the header of PixelData is as long
    side = min(isqrt(max(0, room) // 2), _MAX_SIDE)
    while side and 0 < room - 2 * side * side < _padding_bytes(syntax):
        side -= 1
    return side


@lru_cache(maxsize=4096)
def _image_head_bytes(series: Series, uid_bytes: int, number_bytes: int) -> int:
    """Length of the head of an image whose padded UID and number are so long."""
    return len(_head_with(series, "1" * uid_bytes, "1" * number_bytes, 1))


def _native_image(head: bytes, side: int, size: int, syntax: str) -> list[tuple[int, bytes]]:
    """PixelData of the largest square image that fits, the rest in DataSetTrailingPadding."""
    length = 2 * side * side
    head += _element_header(0x7FE0, 0x0010, "OW", length, syntax)
    room = size - len(head) - length
    return [(0, head), (len(head) + length, _padding(syntax, room))] if room else [(0, head)]


def _encapsulated_image(head: bytes, side: int, size: int, syntax: str) -> list[tuple[int, bytes]]:
    """PixelData of undefined length: an empty offset table, one fragment, the delimiter."""
    head += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    head += struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    head += struct.pack("<HHL", 0xFFFE, 0xE000, size - len(head) - 16)
    return [(0, head), (size - 8, struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))]


def _head(series: Series, ordinal: int, side: int) -> bytes:
    """Everything before the filling: preamble, file meta and the first elements of the dataset."""
    return _head_with(series, instance_uid(series.series_uid, ordinal), str(ordinal + 1), side)


def _head_with(series: Series, uid: str, number: str, side: int) -> bytes:
    syntax = series.transfer_syntaxes[0]
    values: list[tuple[int, int, str, str | int]] = [
        (0x0008, 0x0005, "CS", "ISO_IR 192"),
        (0x0008, 0x0016, "UI", series.sop_class_uid),
        (0x0008, 0x0018, "UI", uid),
        (0x0008, 0x0020, "DA", series.study_date),
        (0x0008, 0x0060, "CS", series.modality),
        (0x0010, 0x0010, "PN", series.patient_id),
        (0x0010, 0x0020, "LO", series.patient_id),
        (0x0020, 0x000D, "UI", series.study_uid),
        (0x0020, 0x000E, "UI", series.series_uid),
        (0x0020, 0x0013, "IS", number),
    ]
    if side:
        values += [
            (0x0028, 0x0002, "US", 1),
            (0x0028, 0x0004, "CS", "MONOCHROME2"),
            (0x0028, 0x0010, "US", side),
            (0x0028, 0x0011, "US", side),
            (0x0028, 0x0100, "US", 16),
            (0x0028, 0x0101, "US", 16),
            (0x0028, 0x0102, "US", 15),
            (0x0028, 0x0103, "US", 0),
        ]
    dataset = b"".join(_element(*value, syntax) for value in values)
    if syntax == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        dataset = deflate.compress(dataset) + deflate.flush()
    return _file_meta(series.sop_class_uid, uid, syntax) + dataset


def _file_meta(sop_class_uid: str, uid: str, syntax: str) -> bytes:
    """Preamble, DICM and file meta; always Explicit VR Little Endian (PS3.10, 7.1)."""
    version = _element_header(0x0002, 0x0001, "OB", 2, EXPLICIT_LITTLE) + b"\x00\x01"
    uids = ((0x0002, sop_class_uid), (0x0003, uid), (0x0010, syntax), (0x0012, _IMPLEMENTATION_UID))
    meta = version + b"".join(_element(0x0002, element, "UI", value, EXPLICIT_LITTLE) for element, value in uids)
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(meta)) + meta


def _element(group: int, element: int, vr: str, value: str | int, syntax: str) -> bytes:
    if isinstance(value, int):
        data = struct.pack(">H" if syntax == EXPLICIT_BIG else "<H", value)
    else:
        data = value.encode()
        data += (b"\0" if vr == "UI" else b" ") * (len(data) % 2)
    return _element_header(group, element, vr, len(data), syntax) + data


def _element_header(group: int, element: int, vr: str, length: int, syntax: str) -> bytes:
    if syntax == IMPLICIT_LITTLE:
        return struct.pack("<HHL", group, element, length)
    order = ">" if syntax == EXPLICIT_BIG else "<"
    if vr in _LONG_VRS:
        return struct.pack(order + "HH2sHL", group, element, vr.encode(), 0, length)
    return struct.pack(order + "HH2sH", group, element, vr.encode(), length)


def _padding_bytes(syntax: str) -> int:
    """Size of the header of DataSetTrailingPadding, in bytes."""
    return 8 if syntax == IMPLICIT_LITTLE else 12


def _padding(syntax: str, room: int) -> bytes:
    """Header of a DataSetTrailingPadding that takes ``room`` bytes together with its value."""
    return _element_header(0xFFFC, 0xFFFC, "OB", room - _padding_bytes(syntax), syntax)

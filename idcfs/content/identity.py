"""Whether the first bytes of an answer prove it to be the instance asked for, stored as the index says.

A well-kept file says so in its file meta. Real archives also hold, and return unchanged, files whose file meta names
another instance than their dataset does, and files that never had a file meta: Orthanc takes both kinds, and pydicom's
test files have them. For those the dataset's own SOPInstanceUID (0008,0018) decides; it stands near the start, since a
dataset is sorted by tag (PS3.5 section 7.1).
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from typing import NamedTuple

from ..errors import Damaged
from ..filemeta import (
    FILE_META_START,
    NO_FILE_META,
    after_file_meta,
    explicit_value,
    has_file_meta,
    parse_file_meta,
)
from ..printable import quoted
from ..settings import KIB
from .instance import Instance

_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"

_INSTANCE_UID = (0x0008, 0x0018)
_UNDEFINED = 0xFFFFFFFF
_MAX_BYTES = 64 * KIB
"""Of the dataset, within which (0008,0018) must have come; in real files it is within the first kilobyte."""
_MAX_START_BYTES = 3 * _MAX_BYTES
"""Of the file. What can be told is told by it, so that the answer is the same in whatever pieces the bytes arrive."""

Bytes = bytes | memoryview


class _Encoding(NamedTuple):
    order: str
    """``<`` little endian, ``>`` big endian, as struct has it."""
    explicit: bool


def is_proven(instance: Instance, start: Bytes, *, whole: bool) -> bool:
    """Whether ``start`` is known to begin ``instance``; False while more bytes are needed to tell.

    :param whole: that no more bytes will come.
    :raises Damaged: if it is something else.
    """
    if len(start) < FILE_META_START and not whole:
        return False
    whole = whole or len(start) >= _MAX_START_BYTES
    start = start[:_MAX_START_BYTES]
    if not has_file_meta(start):
        encoding = _guessed(start)
        if encoding is None or instance.transfer_syntaxes:
            raise Damaged(f"{instance}: {NO_FILE_META}")
        return _is_named_by(instance, start, encoding, "a dataset without file meta", whole=whole)
    meta = parse_file_meta(start, whole=whole)
    if meta is None:
        return False
    _agree_on_syntax(instance, meta.transfer_syntax)
    if meta.instance_uid == instance.instance_uid:
        return True
    dataset = start[after_file_meta(start) :]
    if meta.transfer_syntax == _DEFLATED:
        dataset = _inflated(dataset)
    sent = f"instance {quoted(meta.instance_uid) or '(unnamed)'}"
    return _is_named_by(instance, dataset, _encoding(meta.transfer_syntax), sent, whole=whole)


def _agree_on_syntax(instance: Instance, sent: str) -> None:
    listed = instance.transfer_syntaxes
    if listed and sent not in listed:
        raise Damaged(
            f"{instance}: not the stored bytes: the archive sent transfer syntax {quoted(sent) or '(none)'}, "
            f"the index lists {', '.join(sorted(listed))}"
        )


def _is_named_by(instance: Instance, dataset: Bytes, encoding: _Encoding, sent: str, *, whole: bool) -> bool:
    """Whether the dataset names ``instance``; False while that cannot be told.

    :raises Damaged: if it names another, or none; ``sent`` is what was sent then.
    """
    found = _dataset_uid(dataset[:_MAX_BYTES], encoding)
    if found == instance.instance_uid:
        return True
    if found is None and not whole and len(dataset) < _MAX_BYTES:
        return False
    raise Damaged(f"{instance}: the archive sent {sent}")


def _dataset_uid(data: Bytes, encoding: _Encoding) -> str | None:
    """(0008,0018) of the dataset that starts with ``data``: empty if not where it should be, None if not there yet."""
    offset = 0
    while len(data) >= offset + 12:
        tag = struct.unpack_from(f"{encoding.order}HH", data, offset)
        start, length = _value(data, offset, encoding)
        if tag > _INSTANCE_UID or length == _UNDEFINED:
            return ""
        if tag == _INSTANCE_UID:
            value = bytes(data[start : start + length])
            return value.decode("ascii", "replace").strip("\0 ") if len(value) == length else None
        offset = start + length
    return None


def _value(data: Bytes, offset: int, encoding: _Encoding) -> tuple[int, int]:
    """Where the value of the element at ``offset`` starts, and its length."""
    if encoding.explicit:
        return explicit_value(data, offset, encoding.order)
    return offset + 8, struct.unpack_from(f"{encoding.order}I", data, offset + 4)[0]


def _encoding(transfer_syntax: str) -> _Encoding:
    return _Encoding(">" if transfer_syntax == _BIG_ENDIAN else "<", explicit=transfer_syntax != _IMPLICIT)


def _guessed(data: Bytes) -> _Encoding | None:
    """The encoding of a dataset without file meta, by its first element, which is of group 0008; None if it is not."""
    order = {b"\x08\0": "<", b"\0\x08": ">"}.get(bytes(data[:2]))
    vr = bytes(data[4:6])
    return _Encoding(order, explicit=vr.isalpha() and vr.isupper()) if order else None


def _inflated(data: Bytes) -> bytes:
    """The beginning of a deflated dataset (PS3.5 section A.5: RFC 1951, no header), up to where it is damaged."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[:_MAX_BYTES], _MAX_BYTES)
    except zlib.error:
        return _inflated_to_damage(data[:_MAX_BYTES])


def _inflated_to_damage(data: Bytes) -> bytes:
    """As ``_inflated``, of what cannot be inflated to its end: byte by byte, to keep all that comes before that."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    found = bytearray()
    with suppress(zlib.error):
        for at in range(len(data)):
            found += stream.decompress(data[at : at + 1], _MAX_BYTES - len(found))
    return bytes(found)

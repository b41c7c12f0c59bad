"""The file meta information of a Part 10 file (PS3.10 section 7.1), read from its first bytes as they arrive.

It tells whether an archive sent what was asked for: the right instance, stored as the index says it is. Some archives
transcode when they should not, as the proxy does for huge studies; the bytes would look fine and be wrong.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .errors import Damaged
from .settings import KIB

UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")
"""Numbers with dots between them, at most 64 characters (PS3.5 section 9.1); what else is called one goes into no URL.

A number may begin with 0, which the standard forbids: archives have such.
"""

_PREAMBLE = 128
_MAGIC = b"DICM"
FILE_META_START = _PREAMBLE + len(_MAGIC)
"""Offset of the file meta's first element."""
NO_FILE_META = "the archive's answer is not a DICOM file: no DICM after the preamble"
_LONG_LENGTH = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"))
"""VRs whose length takes 4 bytes (PS3.5 section 7.1.2)."""
_MAX_BYTES = 64 * KIB
"""A file meta longer than this is no file meta; real ones have 200–1,000 bytes."""

_INSTANCE_UID = (0x0002, 0x0003)
_TRANSFER_SYNTAX = (0x0002, 0x0010)
_PROVING = (_INSTANCE_UID, _TRANSFER_SYNTAX)


@dataclass(frozen=True, slots=True)
class FileMeta:
    """The two elements that prove what a file is; empty where it lacks them."""

    instance_uid: str
    transfer_syntax: str


def has_file_meta(start: bytes | memoryview) -> bool:
    """Whether these are the first bytes of a Part 10 file, as far as they go."""
    magic = bytes(start[_PREAMBLE:FILE_META_START])
    return len(start) > _PREAMBLE and _MAGIC.startswith(magic)


def after_file_meta(start: bytes | memoryview) -> int:
    """Where the dataset begins, or what is there ends."""
    offset = FILE_META_START
    while (element := _element(start, offset)) is not None and element[0][0] == 0x0002:
        offset = element[1] + element[2]
    return offset


def parse_file_meta(start: bytes | memoryview, *, whole: bool) -> FileMeta | None:
    """The file meta of a file that starts with ``start``, or None if more bytes are needed to tell.

    :param whole: that no more bytes will come.
    :raises Damaged: if these bytes do not start a Part 10 file.
    """
    if len(start) < FILE_META_START and not whole:
        return None
    if start[_PREAMBLE:FILE_META_START] != _MAGIC:
        raise Damaged(NO_FILE_META)
    found: dict[tuple[int, int], str] = {}
    offset = FILE_META_START
    while (element := _element(start, offset)) is not None:
        tag, value_start, length = element
        if tag[0] != 0x0002:
            return _meta(found)
        if value_start + length > _MAX_BYTES:
            raise Damaged("the archive's answer is not a DICOM file: its file meta does not end")
        if tag in _PROVING:
            if len(start) < value_start + length:
                break
            found[tag] = _text(start[value_start : value_start + length])
            if len(found) == len(_PROVING):
                return _meta(found)
        offset = value_start + length
    return _meta(found) if whole else None


def explicit_value(data: bytes | memoryview, offset: int, order: str) -> tuple[int, int]:
    """Where the value of the Explicit VR element at ``offset`` starts, and its length in bytes (PS3.5 section 7.1.2).

    :param data: at least 12 bytes of it.
    :param order: ``<`` little endian, ``>`` big endian, as struct has it.
    """
    if bytes(data[offset + 4 : offset + 6]) in _LONG_LENGTH:
        return offset + 12, struct.unpack_from(f"{order}I", data, offset + 8)[0]
    return offset + 8, struct.unpack_from(f"{order}H", data, offset + 6)[0]


def _element(data: bytes | memoryview, offset: int) -> tuple[tuple[int, int], int, int] | None:
    """(tag, where the value starts, its length) of the Explicit VR Little Endian element at ``offset``, if it is there.

    The first element after the file meta may be of any encoding: only its group is looked at.
    """
    if len(data) < offset + 4:
        return None
    tag = struct.unpack_from("<HH", data, offset)
    if tag[0] != 0x0002:
        return tag, offset, 0
    if len(data) < offset + 12:
        return None
    return tag, *explicit_value(data, offset, "<")


def _text(value: bytes | memoryview) -> str:
    return bytes(value).decode("ascii", "replace").strip("\0 ")


def _meta(found: dict[tuple[int, int], str]) -> FileMeta:
    return FileMeta(found.get(_INSTANCE_UID, ""), found.get(_TRANSFER_SYNTAX, ""))

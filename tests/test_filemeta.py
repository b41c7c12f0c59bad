"""The file meta, against pydicom's reading of its own files and against anything else."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom.data
import pytest

from idcfs import filemeta
from idcfs.errors import Damaged
from idcfs.filemeta import FileMeta, parse_file_meta
from idcfs.settings import KIB
from tests.content.scripted import EXPLICIT, LONG_LENGTH, element

PACKAGED = Path(pydicom.data.__file__).parent
PART10 = sorted(
    path for path in PACKAGED.rglob("*") if path.is_file() and path.read_bytes()[128:132] == b"DICM"
)  # fmt: skip
PREAMBLE = b"\0" * 128 + b"DICM"
UID = element(3, b"UI", b"1.2.3")
SYNTAX = element(0x10, b"UI", EXPLICIT.encode())
DATASET = b"\x08\0\x05\0CS\0\0"
BOTH = FileMeta("1.2.3", EXPLICIT)


@pytest.mark.parametrize("uid", ["1.02.003", "2.25.0", "0", "1" * 64])
def test_numbers_with_dots_between_them_are_a_uid(uid: str) -> None:
    assert filemeta.UID.fullmatch(uid)


@pytest.mark.parametrize("uid", ["", ".1", "1.", "1..2", "1.a", "1" * 65, "1.2\n"])
def test_nothing_else_is(uid: str) -> None:
    assert not filemeta.UID.fullmatch(uid)


def test_there_are_files_to_judge_by() -> None:
    assert len(PART10) > 100


@pytest.mark.parametrize("path", PART10, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_as_pydicom_reads_it(path: Path) -> None:
    meta = pydicom.dcmread(path, stop_before_pixels=True, force=True).file_meta
    expected = FileMeta(str(meta.get("MediaStorageSOPInstanceUID", "")), str(meta.get("TransferSyntaxUID", "")))
    assert parse_file_meta(path.read_bytes(), whole=True) == expected
    assert parse_file_meta(memoryview(path.read_bytes()), whole=False) == expected


@pytest.mark.parametrize("path", PART10[::20], ids=lambda path: path.name)
def test_byte_by_byte_it_is_told_once_and_stays(path: Path) -> None:
    start = path.read_bytes()[:2000]
    told = [parse_file_meta(start[:length], whole=False) for length in range(len(start))]
    first = next(index for index, meta in enumerate(told) if meta)
    assert set(told[:first]) == {None}
    assert set(told[first:]) == {parse_file_meta(path.read_bytes(), whole=True)}


def test_told_with_the_last_byte_that_proves_it() -> None:
    start = PREAMBLE + UID + SYNTAX
    assert parse_file_meta(start[:-1], whole=False) is None
    assert parse_file_meta(start, whole=False) == BOTH


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param(UID + SYNTAX, id="no group length"),
        pytest.param(element(0, b"UL", struct.pack("<I", 7)) + UID + SYNTAX, id="wrong group length"),
        pytest.param(element(1, b"OB", b"\0\1") + UID + element(0x0F, b"UT", b"x" * 3000) + SYNTAX, id="long VRs"),
        pytest.param(element(0x05, b"UN", b"") + UID + SYNTAX, id="empty"),
    ],
)
def test_forms(elements: bytes) -> None:
    assert parse_file_meta(PREAMBLE + elements + DATASET, whole=False) == BOTH


def test_what_is_missing_is_empty_once_the_data_set_begins() -> None:
    assert parse_file_meta(PREAMBLE + SYNTAX, whole=False) is None
    assert parse_file_meta(PREAMBLE + SYNTAX + DATASET, whole=False) == FileMeta("", EXPLICIT)
    assert parse_file_meta(PREAMBLE + UID + DATASET, whole=False) == FileMeta("1.2.3", "")
    assert parse_file_meta(PREAMBLE + DATASET, whole=False) == FileMeta("", "")


def test_a_data_set_that_looks_like_more_of_it_changes_nothing() -> None:
    deflated = struct.pack("<HH2sH", 2, 0x0010, b"UI", 0xFFFF) + b"\xff" * 20
    assert parse_file_meta(PREAMBLE + UID + SYNTAX + deflated, whole=False) == BOTH


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"<!DOCTYPE html><html><body>Too many requests</body></html>" * 5, id="HTML"),
        pytest.param(b"\xff" * 500, id="garbage"),
        pytest.param(b"\0" * 128 + b"DICN" + UID + SYNTAX + DATASET, id="almost"),
        pytest.param(PREAMBLE + struct.pack(LONG_LENGTH, 2, 1, b"OB", 0, 0xFFFFFFFF), id="undefined length"),
        pytest.param(PREAMBLE + struct.pack(LONG_LENGTH, 2, 1, b"OB", 0, 64 * KIB), id="oversize length"),
        pytest.param(PREAMBLE + element(5, b"LO", b"x" * 60_000) * 2, id="no end"),
    ],
)
def test_no_dicom_file(start: bytes, whole: bool) -> None:
    with pytest.raises(Damaged, match="not a DICOM file"):
        parse_file_meta(start, whole=whole)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 131])
def test_too_short_to_be_one(length: int) -> None:
    assert parse_file_meta(PREAMBLE[:length], whole=False) is None
    with pytest.raises(Damaged):
        parse_file_meta(PREAMBLE[:length], whole=True)


def test_cut_within_a_value_the_value_is_unknown() -> None:
    assert parse_file_meta((PREAMBLE + UID + SYNTAX)[:-4], whole=True) == FileMeta("1.2.3", "")

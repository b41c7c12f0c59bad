"""What proves an answer to be the instance asked for: on pydicom's files as they are stored, and on other things."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.content.identity import is_proven
from idcfs.content.instance import Instance
from idcfs.errors import Damaged
from idcfs.settings import KIB, MIB
from tests.content.scripted import part10
from tests.data import pydicom_files


def asked_for(uid: str, *transfer_syntaxes: str) -> Instance:
    return Instance("content", "1.2", "1.2.3", uid, frozenset(transfer_syntaxes))


def known_instances() -> list[tuple[Path, str]]:
    """pydicom's files that name an instance in their dataset, and what they name."""
    found = []
    with warnings.catch_warnings(action="ignore"):
        for path in pydicom_files():
            uid = pydicom.dcmread(path, stop_before_pixels=True, force=True).get("SOPInstanceUID")
            if uid:
                found.append((path, str(uid)))
    return found


KNOWN = known_instances()


def named(fragment: str) -> tuple[bytes, str]:
    path, uid = next(pair for pair in KNOWN if pair[0].name == fragment)
    return path.read_bytes(), uid


@pytest.mark.parametrize(("path", "uid"), KNOWN, ids=lambda value: getattr(value, "name", ""))
def test_every_file_is_itself_and_no_other(path: Path, uid: str) -> None:
    content = path.read_bytes()
    assert is_proven(asked_for(uid), content, whole=True)
    with pytest.raises(Damaged):
        is_proven(asked_for("1.2.3.4.5"), content, whole=True)


@pytest.mark.parametrize("name", ["CT_small.dcm", "rtstruct.dcm", "ExplVR_BigEndNoMeta.dcm", "chrJapMulti.dcm"])
def test_byte_by_byte_it_is_never_proven_too_early(name: str) -> None:
    content, uid = named(name)
    proven = [is_proven(asked_for(uid), content[:length], whole=False) for length in range(0, 2000, 7)]
    assert proven == sorted(proven)
    for length in range(0, 2000, 7):
        if proven[length // 7]:
            with pytest.raises(Damaged):
                is_proven(asked_for("1.2.3.4.5"), content[:length], whole=True)


def test_a_transfer_syntax_that_the_index_does_not_list_is_damage() -> None:
    content, uid = named("CT_small.dcm")
    assert is_proven(asked_for(uid, "1.2.840.10008.1.2.1"), content, whole=True)
    with pytest.raises(Damaged, match="not the stored bytes"):
        is_proven(asked_for(uid, "1.2.840.10008.1.2.4.50"), content, whole=True)


def test_without_a_file_meta_no_listed_transfer_syntax_is_proven() -> None:
    content, uid = named("rtstruct.dcm")
    with pytest.raises(Damaged):
        is_proven(asked_for(uid, "1.2.840.10008.1.2"), content, whole=True)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_other_bytes_are_never_proven(start: bytes) -> None:
    for content in (start, b"\0" * 128 + b"DICM" + start, b"\x08\0" + start, b"\0\x08" + start):
        for whole in (True, False):
            try:
                proven = is_proven(asked_for("1.2.3.4.5.6"), content, whole=whole)
            except Damaged:
                continue
            assert not proven


def in_pieces(content: bytes, size: int) -> tuple[bool | type[Damaged], int]:
    """What comes out, and after how many bytes, where they come in pieces."""
    for end in range(size, len(content) + size, size):
        try:
            if is_proven(asked_for("1.2.3.4"), content[:end], whole=end >= len(content)):
                return True, end
        except Damaged:
            return Damaged, end
    raise AssertionError("it cannot be told")


def naming(vr: bytes = b"", before: bytes = b"") -> bytes:
    """A dataset whose SOPInstanceUID is the one asked for."""
    length = struct.pack("<2sH", vr, 8) if vr else struct.pack("<I", 8)
    return before + b"\x08\0\x18\0" + length + b"1.2.3.4\0" + b"\x08\0\x60\0CS\2\0CT" * 3


def deflated(dataset: bytes, then: bytes = b"") -> bytes:
    """A file whose file meta names another instance than its dataset, which is deflated."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = part10("1.2.3.5", "1.2.840.10008.1.2.1.99").removesuffix(b"\x08\0\x05\0CS\0\0")
    return head + packer.compress(dataset) + packer.flush(zlib.Z_SYNC_FLUSH) + then


@pytest.mark.parametrize(
    ("content", "proven"),
    [
        pytest.param(deflated(naming(b"UI"), b"\xff" * 100), True, id="damaged behind its name"),
        pytest.param(deflated(b"", b"\3\0" + b"x" * 2 * MIB), Damaged, id="nothing deflated, and no end"),
        pytest.param(deflated(b"", b"\0\0\0\xff\xff" * 400_000), Damaged, id="nothing, deflated without end"),
        pytest.param(naming(b"UI", b"\x08\0\x05\0LT\xfe\xff" + b"x" * 65_534), Damaged, id="named too far behind"),
        pytest.param(b"\x08\0\x05\0CS\0\0" * 30_000, Damaged, id="elements without end"),
        pytest.param(
            part10("1.2.3.5")[:-8] + b"\2\0\2\0UI\0\0" * 300_000, Damaged, id="a file meta without end behind the proof"
        ),
        pytest.param(naming(b"UI").ljust(128, b"\0") + part10("1.2.3.5")[128:], Damaged, id="a dataset as preamble"),
    ],
)
def test_what_it_is_does_not_depend_on_the_pieces_and_is_soon_told(
    content: bytes, proven: bool | type[Damaged]
) -> None:
    found = {size: in_pieces(content, size) for size in (100, 7_000, 60_000, 4 * MIB) if len(content) < 1_000 * size}
    assert {verdict for verdict, _ in found.values()} == {proven}
    assert all(end <= max(256 * KIB, size) for size, (_, end) in found.items())

"""What proves an answer to be the instance asked for: on pydicom's files as they are stored, and on other things."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.content.identity import is_proven
from idcfs.content.instance import Instance
from idcfs.errors import Damaged
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

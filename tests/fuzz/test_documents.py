"""Documents that are nearly as they should be: DICOM JSON, pictures, a bucket's list; and the beginnings of files."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.content.scripted import element, part10
from tests.fuzz import documents, instances
from tests.fuzz.nearly import broken, bytes_, few, joined, many, one_of, soup

TAGS = ["0020000D", "0020000E", "00080018", "00100020", "00201209", "00080060", "00080020", "0008103E", "00280008"]
ODD = ["1.2", "1.2.3", "1.2.3.4\0", "", "..", "٣", "\ud800", "\0", "\n", "/", "9" * 300, "1e9", "20260102", "x\u2028"]
PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="u"><IsTruncated>true</IsTruncated>'
    "<NextContinuationToken>t</NextContinuationToken><Contents><Key>a/b.dcm</Key><Size>5</Size></Contents>"
    "<Contents><Key>a/</Key><Size>0</Size></Contents></ListBucketResult>"
)
MARKUP = [
    "<!DOCTYPE x [",
    "<!ENTITY a 'aaa'>",
    "]>",
    "&a;",
    "&#0;",
    "&lt;",
    "<![CDATA[",
    "]]>",
    "<?xml version='1.0'?>",
]
MARKUP += [
    "<Contents>",
    "</Contents>",
    "<Key>",
    "</Key>",
    "a/b.dcm",
    "a/",
    "<Size>",
    "</Size>",
    "5",
    "٣",
    "9" * 30,
    "\0",
]
FILE = part10("1.2.3.4")
OTHER = part10("1.2.3.5", "1.2.840.10008.1.2.1.99")

scalars: st.SearchStrategy[Any] = st.sampled_from(ODD) | st.integers() | st.floats() | st.booleans() | st.none()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("a"), inner), max_leaves=4
)
attributes = st.fixed_dictionaries({}, optional={"vr": st.just("LO"), "Value": st.lists(values, max_size=2) | values})
items = st.dictionaries(st.sampled_from(TAGS), attributes | values, max_size=6)


def as_json(value: object) -> bytes:
    """As servers may write it: numbers that JSON does not know, and lone surrogates."""
    return json.dumps(value).encode()


def fields() -> st.SearchStrategy[bytes]:
    """Elements of a file meta, or of a dataset, in any encoding, with lengths that are right or not."""
    length = st.sampled_from([0, 2, 8, 0xFFFE, 0xFFFF]) | st.integers(0, 40)
    group, number = st.sampled_from([2, 8, 0x200]), st.sampled_from([0, 1, 3, 5, 0x10, 0x18, 0x102])
    short = st.builds(
        lambda g, n, vr, size, more: struct.pack("<HH2sH", g, n, vr, size) + more,
        group, number, st.sampled_from([b"UI", b"CS", b"UL", b"zz", b"\0\0"]), length, st.binary(max_size=12),
    )  # fmt: skip
    long = st.builds(
        lambda g, n, vr, size, more: struct.pack("<HH2sHI", g, n, vr, 0, size) + more,
        group, number, st.sampled_from([b"OB", b"UN", b"SQ", b"UT"]),
        length | st.sampled_from([2**32 - 1, 2**32 - 2, 65_535, 65_536]), st.binary(max_size=12),
    )  # fmt: skip
    right = st.builds(element, st.sampled_from([1, 3, 0x10]), st.just(b"UI"), st.sampled_from([b"1.2.3.4", b"1.2.3.5"]))
    return st.lists(short | long | right, max_size=8).map(b"".join)


@few
@given(bytes_, (st.lists(items, max_size=4) | items | values).map(as_json))
def test_qido(shown: bytes, body: bytes) -> None:
    documents.qido(shown + body)


@many
@given(joined(bytes_, one_of(b"application/dicom+json\n", b"\n", b"multipart/related; boundary=b\n--b\r\n\r\n")), items)
def test_metadata(head: bytes, item: dict[str, Any]) -> None:
    named = {"0020000E": {"Value": ["1.2.3"]}, "00080018": {"Value": ["1.2.3.4"]}} | item
    documents.metadata(head + as_json([named]) + (b"\r\n--b--" if b"--b" in head else b""))


@many
@given(
    joined(bytes_, one_of(b"image/png\n", b"multipart/related; boundary=b\n--b\r\n\r\n")),
    broken(b"\x89PNG\r\n\x1a\n--IEND\xaeB`\x82", b"\xff\xd8\xff--\xff\xd9\0", b"\xff\xd8\xff\xd9\r\n--b--"),
)
def test_picture(head: bytes, content: bytes) -> None:
    documents.picture(head + content)


@many
@given(broken(PAGE.encode(), b"\xef\xbb\xbf" + PAGE.encode()) | soup(text.encode() for text in (*MARKUP, PAGE[:60])))
def test_s3(data: bytes) -> None:
    documents.s3(data)


@many
@given(bytes_, broken(FILE, FILE[132:]) | fields() | fields().map(lambda data: FILE[:132] + data))
def test_file_meta(flag: bytes, data: bytes) -> None:
    instances.file_meta(flag + data)


@many
@given(
    joined(bytes_, bytes_, one_of(b"\0", b"\0", b"\0", b"\xff")),
    broken(FILE, OTHER) | fields() | fields().map(lambda data: OTHER[:-8] + data),
)
def test_identity(head: bytes, data: bytes) -> None:
    instances.identity(head + data)


@pytest.mark.parametrize("inner", ["[", '{"a":', '[{"00100020":{"Value":['])
@pytest.mark.parametrize("depth", [100, 400, 20_000])
def test_json_that_is_nested_however_deep_is_refused_or_read(inner: str, depth: int) -> None:
    closing = inner.translate(str.maketrans("[{", "]}", '":aVlue012'))[::-1]
    body = f"{inner * depth}1{closing * depth}".encode()
    documents.qido(b"\0" + body)
    documents.metadata(b"\0\n" + body)


@pytest.mark.parametrize("times", [10, 100_000])
def test_elements_that_are_nested_however_deep_are_read(times: int) -> None:
    documents.s3(f"<ListBucketResult>{'<a>' * times}{'</a>' * times}</ListBucketResult>".encode())

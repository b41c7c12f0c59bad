"""Answers that are nearly as they should be: HTTP, headers, bodies in their wrapping, errors."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.archive.multipart import MultipartParser
from idcfs.errors import Damaged
from idcfs.settings import KIB, MIB
from tests.fuzz import answers
from tests.fuzz.nearly import broken, bytes_, few, joined, many, one_of, soup

WRAPPING = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"-", b"--", b"\r\n--", b"b", b"b-0", b"--b", b"--b-0--", b" ", b"\t"]
WRAPPING += [b"Content-Length: 4\r\n", b"Content-Length: 99999999999999999999\r\n", b"content-type:", b"ABCD", b":"]
DIGITS = [b"0", b"7", b"12", b"-1", b"+1", "٣".encode(), b"9" * 5_000, b"1e9", b"0x1", b"1_0", b"2" * 19, b"", b"1, 1"]
TYPES = [b"application/dicom", b"multipart/related; boundary=b-0", b"multipart/related", b"text/html", b"", b"/", b";"]
TYPES += [b"application/octet-stream; charset=x", b'multipart/related; boundary="b', b"multipart/mixed;boundary*0=b"]
PARAMETERS = [
    b"multipart/related",
    b";",
    b" ",
    b"boundary",
    b"=",
    b"*",
    b"*0",
    b"*0*",
    b'"',
    b"''",
    b"utf-8''",
    b"%",
    b"b",
]
PARAMETERS += [b"idna''", b"unicode_escape''", b"\\", b"\\ud800", b"%ff", b"9" * 5_000, b"type", b"\xe9", b"(", b"\x00"]
WORDS = [b"<Error>", b"<Code>", b"</Code>", b"SlowDown", b"<Message>", b"<?xml", b"<html", b"{", b"}", b"[", b"]", b'"']
WORDS += [b'{"error":', b'"message":', b"@@", b"Bearer ", b"basic ", b"client_secret", b"=", b":", b"%20", b"+", b"%22"]
WORDS += [b"\n", b"\xc2\x85", b"\xe2\x80\xa8", b"\0", b"&#10;", b"eyJ", b"A", b"\xff"]
GZIP = (
    gzip.compress(b"[1,2]" * 9, mtime=0),
    gzip.compress(b"", mtime=0),
    zlib.compress(b"abc"),
    gzip.compress(bytes(9_999)),
)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\nContent-Length: 4\r\n\r\nABCD"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nABCD\r\n0\r\n\r\n"
RANGE = RESPONSE.replace(b"200 OK", b"206 Part\r\nContent-Range: bytes 4-7/9")
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://host/x\r\nContent-Length: 0\r\n\r\n"


@many
@given(joined(bytes_, bytes_, soup(WRAPPING)))
def test_multipart(data: bytes) -> None:
    answers.multipart(data)


@many
@given(soup(PARAMETERS))
def test_boundary(data: bytes) -> None:
    answers.boundary(data)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    digits = st.sampled_from(DIGITS)
    lines = [b"Content-Type: " + draw(st.sampled_from(TYPES))]
    if draw(st.booleans()):
        lines.append(b"Content-Length: " + draw(digits))
    if draw(st.booleans()):
        first, last, size = draw(st.tuples(digits, digits, digits))
        lines.append(b"Content-Range: " + draw(one_of(b"bytes ", b"")) + first + b"-" + last + b"/" + size)
    lines += draw(st.lists(one_of(b"Transfer-Encoding: chunked", b"Content-Encoding: gzip"), max_size=1))
    content = draw(soup(WRAPPING) | st.sampled_from(GZIP))
    return draw(st.binary(min_size=5, max_size=5)) + b"\n".join(lines) + b"\n\n" + content


@many
@given(bodies())
def test_body(data: bytes) -> None:
    answers.body(data)


@many
@given(joined(bytes_, bytes_, st.lists(broken(*GZIP), max_size=3).map(b"".join)))
def test_packed(data: bytes) -> None:
    answers.packed(data)


@many
@given(
    st.binary(min_size=1, max_size=1),
    st.integers(100, 600),
    soup([*DIGITS, b"Wed, 21 Oct 2026 07:28:00 GMT", b" ", b"-2500", b","], 4).filter(lambda text: b"\n" not in text),
    one_of(b"", b"text/plain", b"text/html", b"application/json"),
    soup(WORDS),
)
def test_error(which: bytes, status: int, retry_after: bytes, kind: bytes, said: bytes) -> None:
    answers.error(which + status.to_bytes(2, "little") + retry_after + b"\n" + kind + b"\n" + said)


@few
@given(joined(bytes_, bytes_, broken(RESPONSE, CHUNKED, RANGE, REDIRECT)))
def test_response(data: bytes) -> None:
    answers.response(data)


FLOODS = [b"x" * 16 * KIB, b"\r\n--b" * 3_000, b"\r" * 16 * KIB, b" " * 16 * KIB, b"\r\n--b-0\r\n\r\n" * 1_000]


@pytest.mark.parametrize("boundary", [b"b-0", b"b" * 512, None], ids=["short", "long", "unknown"])
@pytest.mark.parametrize(
    "start", [b"", b"--b-0\r\n", b"--b-0\r\n\r\n", b"--b-0--", b"--b-0\r\nContent-Length: 9999999\r\n\r\n"]
)
def test_no_flood_fills_the_memory(start: bytes, boundary: bytes | None) -> None:
    for flood in FLOODS:
        parser = MultipartParser(boundary)
        tracemalloc.start()
        try:
            for piece in (start, *[flood] * 16):
                parser.feed(piece)
        except Damaged:
            pass
        finally:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert most < 2 * MIB, (flood[:10], most)


@pytest.mark.parametrize("inner", [b"[", b'{"error":', b'{"a":', b'["', b"9"])
def test_what_is_nested_without_end_is_an_answer_without_words(inner: bytes) -> None:
    for most in (100, 10_000):
        answers.error(b"\0\xf4\1\napplication/json\n" + inner * most + json.dumps("x").encode())

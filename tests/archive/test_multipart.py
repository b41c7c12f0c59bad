"""The multipart parser: one body, any chunking, the same events; and nothing is whole that is not."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.archive.multipart import (
    MAX_HEADER_BYTES,
    MAX_PREAMBLE_BYTES,
    MultipartParser,
    PartBegin,
    PartData,
    PartEnd,
    boundary_of,
)
from idcfs.errors import Damaged, Truncated

BOUNDARY = b"b-0"
Part = tuple[dict[str, str], bytes]

# Content made of what a delimiter is made of: near misses are likelier than anywhere else.
TOKENS = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"b", b"b-", b"b-0", b" ", b"\t", b"x", b"\0\xff"]
)
SOUP = st.lists(TOKENS, max_size=30).map(b"".join)
CONTENT = SOUP.filter(lambda data: b"--b-0" not in data)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=20)


def chunks_of(data: bytes, sizes: list[int]) -> Iterable[bytes]:
    position = 0
    while position < len(data):
        for size in sizes:
            yield data[position : position + size]
            position += size


def parse(chunks: Iterable[bytes], boundary: bytes | None = BOUNDARY, length: int | None = None) -> list[Part]:
    """The parts, from the events, whose order is checked on the way."""
    parser = MultipartParser(boundary, length=length)
    parts: list[Part] = []
    inside = False
    for chunk in chunks:
        for event in parser.feed(chunk):
            match event:
                case PartBegin(headers, _):
                    assert not inside
                    parts.append((dict(headers), b""))
                    inside = True
                case PartData(data):
                    assert inside
                    assert data
                    parts[-1] = (parts[-1][0], parts[-1][1] + data)
                case PartEnd():
                    assert inside
                    inside = False
    parser.close()
    assert not inside
    return parts


def outcome(chunks: Iterable[bytes], boundary: bytes | None = BOUNDARY) -> list[Part] | type[Exception]:
    try:
        return parse(chunks, boundary)
    except Damaged as error:
        return type(error)


def build(contents: list[bytes], announce: bool, padding: bytes = b"", preamble: bytes = b"") -> bytes:
    body = preamble + b"\r\n" if preamble else b""
    for content in contents:
        length = b"Content-Length: %d\r\n" % len(content) if announce else b""
        body += b"--b-0" + padding + b"\r\nContent-Type: application/dicom\r\n" + length + b"\r\n" + content + b"\r\n"
    return body + b"--b-0--"


def naive(body: bytes) -> list[bytes] | type[Exception]:
    """The contents, by one regular expression over the whole body, for parts without a Content-Length."""
    delimiters = list(re.finditer(rb"\r\n--b-0(--|[ \t]*\r\n)", b"\r\n" + body))
    body = b"\r\n" + body
    contents = []
    position = -1
    for delimiter in delimiters:
        if delimiter.start() < position:
            continue
        if position >= 0:
            contents.append(body[position : delimiter.start()])
        if delimiter[1] == b"--":
            return contents
        blank = body.find(b"\r\n\r\n", delimiter.end() - 2)
        if blank < 0:
            return Truncated
        position = blank + 4
    return Truncated


@given(
    contents=st.lists(CONTENT, min_size=1, max_size=3),
    announce=st.booleans(),
    padding=st.sampled_from([b"", b" ", b" \t "]),
    preamble=CONTENT,
    epilogue=SOUP,
    known=st.booleans(),
    is_measured=st.booleans(),
    sizes=SIZES,
)
def test_any_body_comes_back_whatever_the_chunks(
    contents: list[bytes],
    announce: bool,
    padding: bytes,
    preamble: bytes,
    epilogue: bytes,
    known: bool,
    is_measured: bool,
    sizes: list[int],
) -> None:
    body = build(contents, announce, padding, preamble if known else b"") + epilogue
    parts = parse(chunks_of(body, sizes), BOUNDARY if known else None, len(body) if is_measured else None)
    assert [content for _, content in parts] == contents
    assert all(headers["content-type"] == "application/dicom" for headers, _ in parts)


@given(soup=SOUP, sizes=SIZES)
def test_any_bytes_mean_what_the_naive_parser_says(soup: bytes, sizes: list[int]) -> None:
    body = b"--b-0\r\n\r\n" + soup
    found = outcome(chunks_of(body, sizes))
    assert (found if isinstance(found, type) else [content for _, content in found]) == naive(body)


@given(content=CONTENT, announce=st.booleans(), data=st.data())
def test_no_beginning_of_a_body_is_whole(content: bytes, announce: bool, data: st.DataObject) -> None:
    body = build([content], announce)
    end = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(Truncated):
        parse([body[:end]])


@pytest.mark.parametrize("announced", [0, 3, 5, 4 + len(b"\r\n--b-0--")])
def test_a_length_that_is_not_kept_is_damage(announced: int) -> None:
    body = b"--b-0\r\nContent-Length: %d\r\n\r\nABCD\r\n--b-0--" % announced
    with pytest.raises(Damaged):
        parse([body])


@given(content=CONTENT, preamble=CONTENT, excess=st.integers(1, 99), known=st.booleans(), sizes=SIZES)
def test_a_part_that_is_longer_than_its_body_never_begins(
    content: bytes, preamble: bytes, excess: int, known: bool, sizes: list[int]
) -> None:
    told = f"Content-Length: {len(content) + excess}\r\n".encode()
    body = build([content], True, b"", preamble if known else b"")
    body = body.replace(b"Content-Length: %d\r\n" % len(content), told)
    parser = MultipartParser(BOUNDARY if known else None, length=len(body))
    events = (event for chunk in chunks_of(body, sizes) for event in parser.feed(chunk))
    with pytest.raises(Truncated):
        next(events)


def test_a_length_protects_content_that_looks_like_a_boundary() -> None:
    content = b"A\r\n--b-0--\r\nB"
    assert parse([build([content], announce=True)])[0][1] == content


def test_the_announced_length_is_told_before_the_content() -> None:
    parser = MultipartParser(BOUNDARY)
    events = parser.feed(b"--b-0\r\nCONTENT-LENGTH : 9\r\nX-Folded: a\r\n  b\r\nnonsense\r\n\r\n")
    assert events == [PartBegin({"content-length": "9", "x-folded": "a b"}, 9)]


@pytest.mark.parametrize("length", ["-1", "9x", "", "٣", "1" * 30, "1, 1"])
def test_a_length_that_is_no_number_is_none(length: str) -> None:
    events = MultipartParser(BOUNDARY).feed(f"--b-0\r\nContent-Length: {length}\r\n\r\n".encode())
    assert [event.length for event in events if isinstance(event, PartBegin)] == [None]


def test_headers_without_end_are_damage() -> None:
    parser = MultipartParser(BOUNDARY)
    with pytest.raises(Damaged):
        parser.feed(b"--b-0\r\nA: " + b"x" * MAX_HEADER_BYTES)


@pytest.mark.parametrize("size", [50, 1_001, MAX_HEADER_BYTES * 2])
@pytest.mark.parametrize(("length", "known"), [(MAX_HEADER_BYTES, True), (MAX_HEADER_BYTES + 1, False)])
def test_how_long_headers_may_be_is_the_same_whatever_the_chunks(length: int, known: bool, size: int) -> None:
    body = b"--b-0\r\nA: " + b"x" * (length - len(b"\r\nA: ")) + b"\r\n\r\nABCD\r\n--b-0--"
    found = outcome(chunks_of(body, [size]))
    assert found == Damaged if not known else isinstance(found, list)


@pytest.mark.parametrize("size", [1, 1_001, MAX_PREAMBLE_BYTES * 2])
@pytest.mark.parametrize(("length", "known"), [(0, True), (MAX_PREAMBLE_BYTES - 20, True), (MAX_PREAMBLE_BYTES, False)])
def test_how_far_a_boundary_is_searched_for_is_the_same_whatever_the_chunks(
    length: int, known: bool, size: int
) -> None:
    body = b"x" * length + b"\r\n--b-0\r\n\r\nABCD\r\n--b-0--"
    assert outcome(chunks_of(body, [size]), None) == ([({}, b"ABCD")] if known else Damaged)


def test_padding_without_end_is_content() -> None:
    content = b"A\r\n--b-0" + b" " * 1000
    assert parse([build([content], announce=False)])[0][1] == content


def test_no_boundary_anywhere_is_damage() -> None:
    parser = MultipartParser(None)
    with pytest.raises(Damaged):
        parser.feed(b"x" * (MAX_PREAMBLE_BYTES + 1))


def test_an_answer_without_parts_has_none() -> None:
    assert parse([b"--b-0--\r\n"]) == parse([b"--b-0--\r\n"], None) == []


def test_whole_chunks_pass_through_uncopied() -> None:
    parser = MultipartParser(BOUNDARY)
    parser.feed(b"--b-0\r\n\r\n")
    chunk = bytes(65536)
    [event] = parser.feed(chunk)
    assert isinstance(event, PartData)
    assert event.data is chunk


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary="a b:c"', b"a b:c"),
        ("multipart/related; boundary=plain-1; type=application/dicom", b"plain-1"),
        ('Multipart/Related;BOUNDARY="x;y"', b"x;y"),
        ("multipart/related; boundary=a/b=c", b"a/b=c"),
        ('multipart/related; boundary=""', None),
        ('multipart/related; type="application/dicom"', None),
        ("", None),
        (f"multipart/related; boundary=a; type={'x' * 1000}", None),
        (f'multipart/related; a="{";" * 10**6}', None),  # which would take the better part of an hour
        pytest.param("multipart/related; boundary=" + "b" * 60_000, None, id="longer than any"),
        pytest.param("multipart/related; boundary*" + "9" * 5_000 + "=a", None, id="continued beyond all numbers"),
        ("multipart/related; boundary*=a; boundary*0=b", None),  # whole, and continued too
        ("multipart/related; boundary=a; x*=a; x*1=b", None),
        ("multipart/related; boundary*=unicode_escape''%5cud800", None),
        ("multipart/related; boundary*=idna''%ff", None),
        ("multipart/related; boundary*=no-such-thing''a%20b", b"a b"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_boundary_of(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary

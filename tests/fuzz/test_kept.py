"""Files that were right and are damaged; indexes, cohorts and settings that nearly make sense."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import indexes, kept, own
from tests.fuzz.nearly import broken, bytes_, edits, few, joined, many, one_of, soup
from tests.fuzz.targets import corpus

TEMPLATE = [b"%PatientID", b"%SeriesInstanceUID", b"/", b"_", b"-", b"%", b"%Nothing", b" ", b"default", b"\0", b"\xff"]
LISTED = [
    b"SeriesInstanceUID",
    b"1.2.3",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b'"',
    b"'",
    b"#",
    b" ",
    b"x" * 200_000,
]
LISTED += [b"s3://b/c/*", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc2\x85", b"PatientID", b"x" * 200_000]
VALUES = [b"%", b"~", b".", b"/", b"\0", b"2E", b"f", b"\xed\xa0\x80", b"\xc2\x85", b"x" * 250, "é".encode() * 130]
SETTINGS = [
    b"cache-size",
    b"prefetch",
    b"collection",
    b" = ",
    b'"3GiB"',
    b"3",
    b"[",
    b"]",
    b"{",
    b"}",
    b".",
    b"\n",
    b"1e9",
]
SETTINGS += [b"true", b"nan", b"9" * 5_000, b'"\\u0000"', b"'''", b"#", b"1979-05-27", b"[" * 2_000, b'"', b","]
ODD: list[Any] = [None, True, -1, 10**400, 1.5, float("inf"), "", "\n", "\ud800", [], {}, [[]], {"a": None}]


def samples(target: str) -> list[bytes]:
    """What is kept of it."""
    return [path.read_bytes() for path in corpus(target)]


@many
@given(soup(TEMPLATE, 10))
def test_layout(data: bytes) -> None:
    indexes.layout(data)


@many
@given(soup(VALUES, 10))
def test_name(data: bytes) -> None:
    indexes.name(data)


@many
@given(soup(LISTED))
def test_manifest(data: bytes) -> None:
    indexes.manifest(data)


@few
@given(broken(*samples("parquet")) | st.binary(max_size=200) | joined(one_of(b"\xc0", b"\xc1"), edits()))
def test_parquet(data: bytes) -> None:
    indexes.parquet(data)


@many
@given(edits())
def test_one_block(data: bytes) -> None:
    kept.one_block(data)


@few
@given(edits())
def test_blocks(data: bytes) -> None:
    kept.blocks(data)


@few
@given(edits())
def test_lists(data: bytes) -> None:
    kept.lists(data)


@few
@given(joined(bytes_, edits()))
def test_catalog(data: bytes) -> None:
    kept.catalog(data)


@many
@given(soup(SETTINGS, 8) | broken(*samples("config")))
def test_config(data: bytes) -> None:
    own.config(data)


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """A sample that is a JSON object, with other values in it."""
    value = json.loads(draw(st.sampled_from(samples(target))))
    odd: st.SearchStrategy[Any] = st.sampled_from(ODD)
    for _ in range(draw(st.integers(0, 3))):
        place = value
        while isinstance(inner := place[draw(st.sampled_from(sorted(place)))], dict) and inner and draw(st.booleans()):
            place = inner
        place[draw(st.sampled_from(sorted(place)))] = deepcopy(draw(odd))  # the next round may change it
    return json.dumps(value).encode()


@few
@given(changed("status") | broken(*samples("status")))
def test_status(data: bytes) -> None:
    own.status(data)


@few
@given(changed("login") | broken(*samples("login")))
def test_login(data: bytes) -> None:
    own.login(data)


@few
@given(broken(*samples("token")))
def test_token(data: bytes) -> None:
    own.token(data)

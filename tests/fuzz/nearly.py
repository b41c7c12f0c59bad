"""Strategies for what is nearly valid, which hypothesis' tests of several targets share."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st

few = settings(deadline=None, max_examples=50)
"""For targets that take milliseconds."""
many = settings(deadline=None, max_examples=200)

bytes_ = st.integers(0, 255).map(lambda number: bytes([number]))


def soup(tokens: Iterable[bytes], most: int = 30) -> st.SearchStrategy[bytes]:
    """What a format is made of, in any order, and now and then other bytes."""
    return st.lists(st.sampled_from(list(tokens)) | st.binary(max_size=3), max_size=most).map(b"".join)


def joined(*parts: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[bytes]:
    """One after the other."""
    return st.tuples(*(st.just(part) if isinstance(part, bytes) else part for part in parts)).map(b"".join)


def one_of(*values: bytes) -> st.SearchStrategy[bytes]:
    """One of them."""
    return st.sampled_from(values)


@st.composite
def broken(draw: st.DrawFn, *valid: bytes) -> bytes:
    """One of what is valid, with a few places changed, removed or repeated."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 40)))
        kept = bytes(data[start:stop])
        data[start:stop] = draw(st.binary(max_size=4) | st.just(kept * 2) | st.just(b""))
    return bytes(data)


def edits() -> st.SearchStrategy[bytes]:
    """What ``given.edited`` takes for edits."""
    some = st.binary(max_size=8).map(lambda data: bytes([len(data)]) + data)
    place = st.integers(0, 2**24 - 1).map(lambda number: number.to_bytes(3, "little"))
    size = st.integers(0, 2**16 - 1).map(lambda number: number.to_bytes(2, "little"))
    edit = joined(one_of(b"\0", b"\1"), place, some) | joined(b"\2", place, size) | joined(b"\3", place, bytes_, size)
    return st.lists(edit, max_size=4).map(b"".join)

"""The beginning of an instance: its file meta, and whether it is the one asked for."""

from __future__ import annotations

from functools import partial

from idcfs.content.identity import is_proven
from idcfs.content.instance import Instance
from idcfs.errors import Damaged
from idcfs.filemeta import FILE_META_START, FileMeta, after_file_meta, has_file_meta, parse_file_meta

from .given import Given, assert_short, outcome

MAGIC = b"\0" * 128 + b"DICM"
PROVEN_BYTES = 1_048_576
"""By then it is known what an instance is: a block is as long."""
SYNTAXES = (frozenset[str](), frozenset({"1.2.840.10008.1.2.1"}), frozenset({"1.2.840.10008.1.2.1.99"}))


def file_meta(data: bytes) -> None:
    """Whether the preamble is left out; the beginning of a file. What is told of it stays so when more comes."""
    given = Given(data)
    start = (MAGIC if given.number() & 1 else b"") + given.rest()
    told = outcome(partial(parse_file_meta, start, whole=False), Damaged)
    whole = outcome(partial(parse_file_meta, start, whole=True), Damaged)
    assert whole is not None
    assert told in (None, whole)
    assert told == outcome(partial(parse_file_meta, memoryview(start), whole=False), Damaged)
    assert outcome(partial(parse_file_meta, start + b"\x08\0\x05\0CS\2\0xx" * 2, whole=False), Damaged) == told or (
        told is None
    )
    if isinstance(whole, FileMeta):
        assert has_file_meta(start)
        assert all(part.isascii() or "\ufffd" in part for part in (whole.instance_uid, whole.transfer_syntax))
        assert after_file_meta(start) >= FILE_META_START


def identity(data: bytes) -> None:
    """What the index lists; how long pieces are; a file. Its pieces prove what all of it does, and soon enough."""
    given = Given(data)
    instance = Instance("content", "1.2", "1.2.3", "1.2.3.4", SYNTAXES[given.number() % len(SYNTAXES)])
    size, repeated = given.number() + 1, given.number()
    content = given.rest()
    if repeated == 255 and content:  # all the same to its end, which is far away
        content = content + content[-1:] * PROVEN_BYTES
        size = PROVEN_BYTES // 2
    whole = _proven(instance, content, whole=True)
    for end in range(size, min(len(content), 64 * size) + 1, size):
        found = _proven(instance, content[:end], whole=False)
        if found:
            assert found == whole, f"after {end} bytes {found}, in the end {whole}"
            return
        assert end < PROVEN_BYTES


def _proven(instance: Instance, start: bytes, *, whole: bool) -> str:
    """In one word; empty while it cannot be told."""
    try:
        return "proven" if is_proven(instance, start, whole=whole) else ""
    except Damaged as error:
        assert_short(str(error))
        return "damaged"

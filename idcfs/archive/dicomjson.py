"""DICOM JSON (PS3.18, annex F): documents as objects of Python, and what is in an attribute."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from ..errors import Refused
from ..settings import MIB

INLINE_BYTES = 1 * MIB
"""Up to here JSON is parsed at once, which takes some 50 ms; beyond, reads that wait for nothing of it would notice."""
MAX_WEIGHT = 8 * MIB
"""Of one document: its values, objects counted threefold since they take so much more. In Python ``{},`` fills 25 times
the memory that it has as text, 1.7 GB for 64 MiB; this many take 0.6 GB at most. A page of 5,000 instances with their
default attributes weighs 2 Mi."""
_MAX_DIGITS = 10
"""Of an integer string's value, which is below 2**31 (PS3.5, section 6.2)."""

_KINDS = {type(None): "null", bool: "a truth value", int: "a number", float: "a number", str: "text", dict: "an object"}
"""What JSON may be beside a list."""

_ONE = trio.CapacityLimiter(1)

T = TypeVar("T")

Item = dict[str, Any]
"""One dataset: attributes by their tags."""


async def in_turns(size: int, work: Callable[[], T]) -> T:
    """What ``work``, which parses ``size`` bytes by ``parse``, makes of them; the others have their turns meanwhile.

    Of those that take long one is parsed at a time: in Python, they are much larger.
    """
    return work() if size <= INLINE_BYTES else await trio.to_thread.run_sync(work, limiter=_ONE)


def parse(body: bytes, where: str, hook: Callable[[Item], Any] = lambda found: found) -> Any:
    """The JSON that ``where`` has sent.

    A thread alone would not let the others have their turns: the parser, written in C, keeps the interpreter to itself
    until it is through. It is called back for every object so that it does.

    :param hook: what to hold in place of an object.
    :raises Refused: if it is none, or would fill the memory.
    """
    if 3 * body.count(b"{") + body.count(b"[") + body.count(b",") > MAX_WEIGHT:
        raise Refused(f"{where} sent more values than an answer can need")
    try:
        return json.loads(body, object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where} did not answer with JSON: {error}") from error


def checked_items(answer: Any, where: str) -> list[Item]:
    """``answer``, if that is a list of datasets.

    :raises Refused: if it is not.
    """
    if not isinstance(answer, list):
        raise Refused(f"{where} did not answer with a list of DICOM JSON objects, but with {_KINDS[type(answer)]}")
    if not all(isinstance(item, dict) for item in answer):
        raise Refused(f"{where} did not answer with a list of DICOM JSON objects, but of other things")
    return answer


def first_value(attribute: object) -> Any:
    """The first value of an attribute; None where it has none, or is none."""
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values[0] if isinstance(values, list) and values else None


def uid(value: object) -> str:
    """A UID without the padding of the file, which some servers pass on; empty for what is no text."""
    return value.rstrip(" \0") if isinstance(value, str) else ""


def count(value: object) -> int | None:
    """An integer string that counts something, which servers send as a number or as text; None for what is none."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None

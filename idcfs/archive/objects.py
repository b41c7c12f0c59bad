"""What a bucket says it holds: a page of S3's ListObjectsV2, parsed without I/O.

The answer is XML (S3 API Reference, ListObjectsV2); Google's XML API answers in the same form. What is no file of the
series asked for is left out: the zero-byte marker of a folder, and names that no archive of IDC's gives.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree

from ..errors import Refused
from ..settings import MAX_INSTANCE_BYTES

_NAME = re.compile(r"[0-9A-Za-z_-]{1,200}\.dcm")
_MAX_SIZE_DIGITS = 19
_ENCODING = re.compile(r"^\s*<\?xml[^>]*\?>")
"""The declaration: what it says of the encoding is not believed, since codecs may be anything."""


class ListedObject(NamedTuple):
    """One file of a bucket."""

    name: str
    """What stands behind the prefix, as ``{crdc_instance_uuid}.dcm``."""
    size: int
    """Bytes, exact."""


class Page(NamedTuple):
    """What one answer lists."""

    objects: list[ListedObject]
    passed_over: int
    """Keys that are no file of the series."""
    next_token: str | None
    """Asks for the next page; None where this is the last."""


def parse_page(body: bytes, prefix: str, where: str) -> Page:
    """The page in ``body``, of the keys that begin with ``prefix``.

    :raises Refused: if it is none, or is cut without saying where it goes on.
    """
    try:
        text = body.decode()
        if "<!DOCTYPE" in text:  # S3 sends none; what it may define is nothing to be unfolded
            raise Refused(f"{where} answered with a document type instead of a list of objects")
        root = ElementTree.fromstring(_ENCODING.sub("", text, count=1))
    except (ElementTree.ParseError, ValueError) as error:
        raise Refused(f"{where} did not answer with XML in UTF-8: {error}") from error
    if _local(root) != "ListBucketResult":
        raise Refused(f"{where} answered with {_local(root)[:80]!r} instead of a list of objects")
    contents = [element for element in root if _local(element) == "Contents"]
    keyed = [(_text(element, "Key"), _text(element, "Size")) for element in contents]
    objects = [found for key, size in keyed if (found := _object(key, size, prefix)) is not None]
    markers = sum(key == prefix for key, _ in keyed)
    return Page(objects, len(keyed) - len(objects) - markers, _next_token(root, where))


def _next_token(root: ElementTree.Element, where: str) -> str | None:
    if _text(root, "IsTruncated").strip().lower() != "true":
        return None
    token = _text(root, "NextContinuationToken")
    if not token:
        raise Refused(f"{where} lists only a part of its objects and does not say how to go on")
    return token


def _object(key: str, size: str, prefix: str) -> ListedObject | None:
    name = key.removeprefix(prefix)
    is_number = size.isascii() and size.isdecimal() and len(size) <= _MAX_SIZE_DIGITS
    number = int(size) if is_number else 0
    if not key.startswith(prefix) or not _NAME.fullmatch(name) or not 0 < number <= MAX_INSTANCE_BYTES:
        return None
    return ListedObject(name, number)


def _text(element: ElementTree.Element, name: str) -> str:
    return next((child.text or "" for child in element if _local(child) == name), "")


def _local(element: ElementTree.Element) -> str:
    """The element's name without its namespace, of which S3 and Google use different ones."""
    return element.tag.rpartition("}")[2]

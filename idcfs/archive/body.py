"""The body of one instance: out of its wrapping, and whole or an error.

Three things prove a body whole, and one of them has to: the closing boundary of a multipart answer, the Content-Length,
or chunked transfer (the last two are enforced below, by the HTTP parser). What just ends when the connection does is
not accepted, however plausible: a connection that was cut looks the same.

A 206 is taken for the range that was asked for only if its Content-Range says just that (RFC 9110, section 14.4).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from email.message import Message
from functools import lru_cache
from typing import Protocol, Self

from ..errors import Damaged, Refused
from ..printable import quoted
from ..settings import MAX_INSTANCE_BYTES
from .multipart import MAX_TYPE_CHARACTERS, Event, MultipartParser, PartBegin, PartData, boundary_of, length_of


class ByteStream(Protocol):
    """What a body is read from: a response that is a 200 or 206. The transport's ``Answer`` is one."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def where(self) -> str: ...
    @property
    def compressed(self) -> bool: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...


class InstanceBody(Protocol):
    """The bytes of one stored instance, in chunks, in order; iterating raises Truncated or Damaged unless it is whole.

    ``size`` is the exact size of the instance in bytes where the headers tell it, else None; ``start`` the offset of
    the first byte, ``stop`` that after the last if it is a range, None if it goes to the instance's end.
    """

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int | None: ...

    size: int | None

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...


async def open_body(
    answer: ByteStream, start: int = 0, stop: int | None = None, *, any_type: bool = False
) -> InstanceBody:
    """The instance in ``answer``, once its size is known or known not to be told; of a 206, its bytes [start, stop).

    :param any_type: that the Content-Type says nothing, as that of a bucket's objects: whoever put them there chose it.
    :raises Refused: for what is no instance at all (HTML, JSON, a zip), or not the range asked for.
    :raises Truncated: for a multipart that ends early.
    :raises Damaged: for one that is broken otherwise, or a size that no instance has.
    """
    kind = _media_type(answer.headers.get("content-type", ""))
    if any_type and not kind.startswith("multipart/"):
        kind = _UNTYPED
    if answer.status == 206:
        size = _size_by_range(answer, kind, start, stop)
        return _SinglePartBody(answer, start, None if stop is None or stop > size else stop, size)
    if kind.startswith("multipart/"):
        return await _MultipartBody(answer).begin()
    if kind not in _INSTANCE_TYPES:
        raise Refused(f"{answer.where} sent {quoted(kind)} instead of an instance")
    return _SinglePartBody(answer)


def _size_by_range(answer: ByteStream, kind: str, start: int, stop: int | None) -> int:
    """The instance's size in bytes, as a 206 tells it that brings just what was asked for, or that up to the end."""
    told = answer.headers.get("content-range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", told.strip())
    if kind not in _INSTANCE_TYPES or answer.compressed or match is None:
        raise Refused(
            f"{answer.where} sent a part of something that is not the instance: "
            f"{quoted(kind)} {quoted(told) or 'unlabelled'}"
        )
    first, last, size = map(int, match.groups())
    length = length_of(answer.headers)
    if length not in (None, last + 1 - first):
        raise Refused(f"{answer.where} sent {told} in {length} bytes")
    if (first, last + 1) != (start, size if stop is None else min(stop, size)) or first > last:
        raise Refused(f"{answer.where} sent {told} where {start}-{'' if stop is None else stop - 1} was asked for")
    return size


class _SinglePartBody:
    """Single part: the body is the instance, or the range of it that was asked for."""

    def __init__(self, answer: ByteStream, start: int = 0, stop: int | None = None, size: int | None = None) -> None:
        """``size`` is the instance's, where it is known that the body is a range of it."""
        self._answer = answer
        self.start = start
        self.stop = stop
        self.size = _believed(_body_length(answer) if size is None else size, answer.where)
        self._provable = _is_chunked(answer) or length_of(answer.headers) is not None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._answer)
        except StopAsyncIteration:
            if self._provable:
                raise
            raise Damaged(f"{self._answer.where} sent neither a length nor chunks: its end cannot be proven") from None


class _MultipartBody:
    """Multipart: the instance is the one part of the body."""

    start = 0
    stop = None

    def __init__(self, answer: ByteStream) -> None:
        self.size: int | None = None
        self._answer = answer
        boundary = boundary_of(answer.headers.get("content-type", ""))
        self._parser = MultipartParser(boundary, answer.where, _body_length(answer))
        self._ready: deque[bytes] = deque()
        self._begun = False
        self._ended = False

    async def begin(self) -> Self:
        """Read up to the part's headers."""
        while not self._begun and not self._ended:
            await self._receive()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._receive()
        return self._ready.popleft()

    async def _receive(self) -> None:
        try:
            data = await anext(self._answer)
        except StopAsyncIteration:
            self._end()
            return
        for event in self._parser.feed(data):
            self._take(event)

    def _end(self) -> None:
        self._ended = True
        self._parser.close()
        if not self._begun:
            raise Damaged(f"{self._answer.where} sent a multipart answer without a part")

    def _take(self, event: Event) -> None:
        match event:
            case PartBegin():
                self._take_begin(event)
            case PartData(data):
                self._ready.append(data)

    def _take_begin(self, begin: PartBegin) -> None:
        if self._begun:
            raise Damaged(f"{self._answer.where} sent more than one part")
        kind = _media_type(begin.headers.get("content-type", ""))
        if kind not in _INSTANCE_TYPES:
            raise Damaged(f"{self._answer.where} sent a part of {quoted(kind)} instead of an instance")
        self._begun = True
        self.size = _believed(begin.length, self._answer.where)


_UNTYPED = "application/octet-stream"
_INSTANCE_TYPES = frozenset({"application/dicom", _UNTYPED})


def _believed(size: int | None, where: str) -> int | None:
    """``size``.

    :raises Damaged: if no instance has so many bytes.
    """
    if size is not None and size > MAX_INSTANCE_BYTES:
        raise Damaged(f"{where} announced an instance of {size:,} bytes, more than any has")
    return size


def _body_length(answer: ByteStream) -> int | None:
    """How many bytes come, if that is announced.

    Beside chunks Content-Length means nothing (RFC 9112, section 6.3), and compressed it counts something else.
    """
    return None if _is_chunked(answer) or answer.compressed else length_of(answer.headers)


def _is_chunked(answer: ByteStream) -> bool:
    return "transfer-encoding" in answer.headers


def _media_type(content_type: str) -> str:
    """The type without its parameters, in lower case; bytes that nobody labelled are just bytes."""
    return _parsed_type(content_type.partition(";")[0].strip()[:MAX_TYPE_CHARACTERS])


@lru_cache(32)  # there are three or four, and parsing takes 50 µs
def _parsed_type(media_type: str) -> str:
    if not media_type:
        return _UNTYPED
    message = Message()
    message["Content-Type"] = media_type
    return message.get_content_type()

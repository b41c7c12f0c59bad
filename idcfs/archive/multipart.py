"""A ``multipart/related`` parser without I/O: bytes in, events out, whatever the chunking.

DICOMweb answers wrap instances in MIME parts (RFC 2046, section 5.1)::

    preamble CRLF --boundary CRLF headers CRLF CRLF content CRLF --boundary CRLF … CRLF --boundary-- epilogue

Content is binary, so only ``CRLF --boundary`` followed by ``--``, or by blanks and CRLF, ends it. Two things keep that
fast: where a part announces its Content-Length (Orthanc does) its bytes pass through unread; where it does not, a chunk
is searched once and only a tail that may be the beginning of a delimiter is carried over to the next chunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from math import inf

from ..errors import Damaged, Truncated, WrongSize

MAX_HEADER_BYTES = 64 * 1024
"""Longest header section of a part: real ones take a few hundred bytes."""
MAX_PREAMBLE_BYTES = 4 * 1024
"""How far an unannounced boundary is searched for; servers that forget to announce it begin with it."""
MAX_TYPE_CHARACTERS = 1024
"""Of a Content-Type that is looked into for a boundary, which has 70 (RFC 2046, section 5.1.1). Python's parser takes
time by the square of its length: 16 s for 99,000 semicolons, in which nothing else is done."""
MAX_PADDING_BYTES = 128
"""Blanks that RFC 2046 lets gateways add after a boundary; more than this is content."""

_MAX_BOUNDARY_BYTES = 512
"""RFC 2046 has 70; with what is much longer, looking for its beginning in what comes would take long."""

_FIRST_LINE = re.compile(rb"\r\n--([^\r\n]{1,%d}?)[ \t]*\r\n" % _MAX_BOUNDARY_BYTES)
_PADDING = re.compile(rb"[ \t]{0,%d}\r\n" % MAX_PADDING_BYTES)
_UNFINISHED_PADDING = re.compile(rb"-|[ \t]{0,%d}\r?" % MAX_PADDING_BYTES)
_LENGTH = re.compile(r"[0-9]{1,20}")  # of an answer the HTTP parser believes nothing else (RFC 9110, section 8.6)


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part's headers are known; ``length`` is the size of its content in bytes, where it announces one."""

    headers: Mapping[str, str]
    length: int | None


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the part's content, never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part's content is complete, as the boundary after it shows."""


Event = PartBegin | PartData | PartEnd


def boundary_of(content_type: str) -> bytes | None:
    """The boundary parameter of a Content-Type, quoted or not; None where there is none (such servers exist), or where
    it is too long to be looked into."""
    if len(content_type) > MAX_TYPE_CHARACTERS:
        return None
    message = Message()
    message["Content-Type"] = content_type
    try:
        boundary = (message.get_boundary() or "").encode("utf-8", "surrogateescape")
    except (LookupError, TypeError, ValueError):  # continued, or in a character set (RFC 2231), without any sense
        return None
    return boundary if 0 < len(boundary) <= _MAX_BOUNDARY_BYTES else None


class MultipartParser:
    """Cuts a body into parts. ``boundary`` None: it is learnt from the first line that begins with ``--``.

    ``where`` says in errors whose body it is, and ``length`` how many bytes it has, if that is known: a part that
    announces more than has room in it is refused before anybody takes that for its size.

    The state is a method: it takes what it can from the buffer, appends events, and returns whether it got any
    further; False asks for more bytes. ``_at`` is where the buffer is not taken yet.
    """

    def __init__(self, boundary: bytes | None, where: str = "the archive", length: int | None = None) -> None:
        self._delimiter = b"" if boundary is None else b"\r\n--" + boundary
        self._state: Callable[[list[Event]], bool] = self._learn if boundary is None else self._preamble
        # A boundary may be the very first bytes: with this CRLF before it, it looks like any other.
        self._buffer = b"\r\n"
        self._at = 0
        self._missing = 0
        self._where = where
        self._to_come = length  # of the body, if that is known

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes.

        :raises Damaged: where the body breaks the format.
        :raises Truncated: where a part is to have more bytes than the body.
        :raises WrongSize: where it has not as many as it has announced.
        """
        events: list[Event] = []
        if self._to_come is not None:
            self._to_come -= len(data)
        self._buffer = self._buffer + data if self._buffer else data
        while self._at < len(self._buffer) and self._state(events):
            pass
        self._buffer, self._at = self._buffer[self._at :], 0
        return events

    def close(self) -> None:
        """Say that the body has ended.

        :raises Truncated: unless the closing boundary was seen.
        """
        if self._state != self._epilogue:
            raise Truncated(f"{self._where} sent a multipart answer that ends before its closing boundary")

    def _learn(self, _events: list[Event]) -> bool:
        found = _FIRST_LINE.search(self._buffer, 0, MAX_PREAMBLE_BYTES)
        if found is None:
            if len(self._buffer) >= MAX_PREAMBLE_BYTES:
                raise Damaged(
                    f"{self._where} sent a multipart answer that neither names a boundary nor begins with one"
                )
            return False
        # "--xyz--" as the first line is an answer without parts.
        self._delimiter = b"\r\n--" + (found[1].removesuffix(b"--") or found[1])
        self._state = self._preamble
        return True

    def _preamble(self, _events: list[Event]) -> bool:
        _, found = self._scan()
        return found

    def _headers(self, events: list[Event]) -> bool:
        # What is left begins with the CRLF of the boundary's line, so a part without headers needs no rule of its own.
        end = self._buffer.find(b"\r\n\r\n", self._at)
        # Of the CRLF CRLF that ends it three bytes may be there.
        if (end if end >= 0 else len(self._buffer) - 3) - self._at > MAX_HEADER_BYTES:
            raise Damaged(f"{self._where} sent a part with more than {MAX_HEADER_BYTES} bytes of headers")
        if end < 0:
            return False
        headers = _parse_headers(self._take(end))
        self._at += 4
        self._begin(PartBegin(headers, length_of(headers)), events)
        return True

    def _begin(self, begin: PartBegin, events: list[Event]) -> None:
        if begin.length is not None and begin.length > self._room():
            raise Truncated(
                f"{self._where} announced a part of {begin.length:,} bytes in an answer that has not so many"
            )
        events.append(begin)
        self._missing = begin.length or 0
        self._state = self._open_content if begin.length is None else self._counted_content

    def _room(self) -> float:
        """How many bytes a part that begins here may have: the closing boundary has to come as well."""
        if self._to_come is None:
            return inf
        return len(self._buffer) - self._at + self._to_come - len(self._delimiter) - len(b"--")

    def _open_content(self, events: list[Event]) -> bool:
        content, found = self._scan()
        if content:
            events.append(PartData(content))
        if found:
            events.append(PartEnd())
        return found

    def _counted_content(self, events: list[Event]) -> bool:
        data = self._take(min(self._at + self._missing, len(self._buffer)))
        if data:
            events.append(PartData(data))
            self._missing -= len(data)
        if not self._missing:
            self._state = self._after_counted
        return True

    def _after_counted(self, events: list[Event]) -> bool:
        verdict = self._delimiter_at(self._at)
        if verdict is None:
            return False
        if not verdict:
            raise WrongSize(f"{self._where} sent a part that does not end where its Content-Length says")
        self._pass_delimiter()
        events.append(PartEnd())
        return True

    def _epilogue(self, _events: list[Event]) -> bool:
        self._at = len(self._buffer)
        return False

    def _scan(self) -> tuple[bytes, bool]:
        """Take what lies before the next delimiter, and the delimiter too if it is there (True)."""
        start = self._buffer.find(self._delimiter, self._at)
        while start >= 0:
            verdict = self._delimiter_at(start)
            if verdict is None:
                return self._take(start), False
            if verdict:
                content = self._take(start)
                self._pass_delimiter()
                return content, True
            start = self._buffer.find(self._delimiter, start + 1)
        return self._take(self._safe_end()), False

    def _take(self, end: int) -> bytes:
        data = self._buffer[self._at : end]  # no copy where this is the whole chunk, the usual case
        self._at = end
        return data

    def _safe_end(self) -> int:
        """Up to where the buffer, which holds no whole delimiter, cannot be the beginning of one."""
        start = self._buffer.find(b"\r", max(self._at, len(self._buffer) - len(self._delimiter) + 1))
        while start >= 0 and not self._delimiter.startswith(self._buffer[start:]):
            start = self._buffer.find(b"\r", start + 1)
        return len(self._buffer) if start < 0 else start

    def _delimiter_at(self, start: int) -> bool | None:
        """Whether a delimiter stands at ``start``; None: more bytes will tell."""
        end = start + len(self._delimiter)
        if len(self._buffer) < end:
            return None if self._delimiter.startswith(self._buffer[start:]) else False
        if not self._buffer.startswith(self._delimiter, start):
            return False
        if self._buffer.startswith(b"--", end) or _PADDING.match(self._buffer, end):
            return True
        return None if _UNFINISHED_PADDING.fullmatch(self._buffer, end) else False

    def _pass_delimiter(self) -> None:
        end = self._at + len(self._delimiter)
        if self._buffer.startswith(b"--", end):
            self._at, self._state = len(self._buffer), self._epilogue
        else:
            self._at, self._state = self._buffer.index(b"\r\n", end), self._headers


def _parse_headers(block: bytes) -> dict[str, str]:
    """Header fields by lower-case name; folded lines are joined, lines without a colon are passed over."""
    lines = re.sub(rb"\r\n[ \t]+", b" ", block).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in fields if colon}


def length_of(headers: Mapping[str, str]) -> int | None:
    """The Content-Length of a part, or of an answer, if it is a number."""
    text = headers.get("content-length", "")
    return int(text) if _LENGTH.fullmatch(text) else None

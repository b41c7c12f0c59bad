"""An answer before it is sent, and what can be done to it: cut, damage, compress."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.twin.model import Instance

HTML = b"<!doctype html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>\n"

Chunks = Callable[[int], Iterator[bytes]]
"""Given the most bytes a chunk may have, the body."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and a body that is made while it is sent."""

    status: int
    chunks: Chunks = field(default=lambda _: iter(()))
    length: int = 0
    """Bytes of the body."""
    media_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    framing: str = "length"
    """``length``, ``chunked`` or ``close``."""
    closing: bytes = b""
    """The closing boundary, if the body is multipart."""
    close_after: int | None = None
    """The connection is closed after so many bytes of the body."""
    reset: bool = False
    """That closing is a reset."""
    is_dicom: bool = False
    """The body carries instances, or what is made of them: the knobs that damage bodies apply."""
    number: int = 0
    """InstanceNumber of the one instance it carries."""
    told_length: int | None = None
    """What Content-Length says instead of ``length``."""
    excess: Chunks | None = None
    """What follows the body, past all framing."""


def bytes_reply(status: int, body: bytes, media_type: str, headers: dict[str, str] | None = None) -> Reply:
    """A reply whose body is at hand."""
    return Reply(status, lambda size: _split(body, size), len(body), media_type, headers or {})


def json_reply(value: Any, status: int = 200, media_type: str = "application/json") -> Reply:
    """A reply in JSON."""
    return bytes_reply(status, json.dumps(value).encode(), media_type)


def html_reply(status: int, words: str, headers: dict[str, str] | None = None) -> Reply:
    """A page for humans, as proxies send it."""
    text = words.encode()
    return bytes_reply(status, HTML % (text, text), "text/html; charset=utf-8", headers)


_S3_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


def xml_error_reply(status: int, words: str) -> Reply:
    """A refusal as S3 words it."""
    code = _S3_CODES.get(status, "Refused")
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{words}</Message></Error>'
    return bytes_reply(status, body.encode(), "application/xml")


def error_reply(status: int, style: str = "json", headers: dict[str, str] | None = None) -> Reply:
    """A refusal in one of the styles of ``Knobs.fail_body``; 204 has no body whatever the style."""
    if status == 204 or style == "empty":
        return Reply(status, headers=headers or {})
    words = f"the twin was told to answer {status}"
    if style == "html":
        return html_reply(status, words, headers)
    if style == "xml":
        return replace(xml_error_reply(status, words), headers=headers or {})
    error: Any = {"error": {"code": status, "message": words, "status": "FAILED"}}
    return replace(json_reply([error] if style == "array" else error, status), headers=headers or {})


def instance_chunks(instance: Instance, start: int = 0, stop: int | None = None) -> Chunks:
    """The bytes of an instance as the body of a reply."""
    end = instance.size_bytes if stop is None else stop
    return lambda size: instance.source.chunks(start, end, size)


def joined(parts: Sequence[bytes | Chunks]) -> Chunks:
    """Several bodies behind one another."""

    def chunks(size: int) -> Iterator[bytes]:
        for part in parts:
            yield from _split(part, size) if isinstance(part, bytes) else part(size)

    return chunks


def cut(reply: Reply, count: int, ending: str) -> Reply:
    """The reply with only ``count`` bytes of its body, ended in one of the ways of ``Knobs.truncate_ending``."""
    if reply.length <= count:
        return reply
    if ending in ("close", "reset"):
        return replace(reply, close_after=count, reset=ending == "reset")
    tail = reply.closing if ending == "boundary" else b""
    return replace(reply, chunks=joined([_head(reply.chunks, count), tail]), length=count + len(tail))


def mislabelled(reply: Reply, error: int) -> Reply:
    """The reply with a Content-Length that is wrong by ``error`` bytes, as ``Knobs.length_error`` has it."""
    told = max(0, reply.length + error)
    if error > 0:
        return replace(reply, told_length=told, close_after=reply.length)
    body = reply.chunks
    return replace(reply, chunks=_head(body, told), length=told, excess=_tail(body, told))


def compressed(reply: Reply) -> Reply:
    """The reply with Content-Encoding gzip; its length is unknown then, so it is chunked."""

    def chunks(size: int) -> Iterator[bytes]:
        squeeze = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
        for chunk in reply.chunks(size):
            if data := squeeze.compress(chunk):
                yield data
        yield squeeze.flush()

    if reply.length < 1_000_000:
        body = gzip.compress(b"".join(reply.chunks(65_536)), compresslevel=1)
        changed = replace(reply, chunks=lambda size: _split(body, size), length=len(body))
    else:
        changed = replace(reply, chunks=chunks, framing="chunked")
    return replace(changed, headers=reply.headers | {"Content-Encoding": "gzip"})


def patched(chunks: Chunks, offset: int, change: Callable[[bytes], bytes], count: int = 1) -> Chunks:
    """The body with its bytes [offset, offset+count) changed by a function that keeps their number."""

    def changed(size: int) -> Iterator[bytes]:
        position = 0
        for chunk in chunks(size):
            low, high = max(0, offset - position), min(len(chunk), offset + count - position)
            position += len(chunk)
            yield chunk[:low] + change(chunk[low:high]) + chunk[high:] if low < high else chunk

    return changed


def _head(chunks: Chunks, count: int) -> Chunks:
    def head(size: int) -> Iterator[bytes]:
        left = count
        for chunk in chunks(size):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    return head


def _tail(chunks: Chunks, start: int) -> Chunks:
    def tail(size: int) -> Iterator[bytes]:
        position = 0
        for chunk in chunks(size):
            if rest := chunk[max(0, start - position) :]:
                yield rest
            position += len(chunk)

    return tail


def _split(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))

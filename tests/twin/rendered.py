"""Pictures of instances and frames, each its own; no pixel is decoded for them."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import replace
from hashlib import blake2b

from tests.twin.accept import parse_accept
from tests.twin.frames import header
from tests.twin.knobs import Knobs
from tests.twin.model import Holdings
from tests.twin.reply import Reply, bytes_reply, error_reply, html_reply
from tests.twin.wado import Part, find, multipart

PNG, JPEG = "image/png", "image/jpeg"
_SIDE = 16
_GREY = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////////////////"
    "////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AP//Z"
)
"""One pixel, as JPEG."""


def rendered(holdings: Holdings, path: dict[str, str], accept: str, knobs: Knobs) -> Reply:
    """A picture of an instance or a frame; one type has to be asked for, as Orthanc has it."""
    found = find(holdings, path, knobs)
    if isinstance(found, Reply):
        return found
    (media_type,) = [one.media_type for one in parse_accept(accept)] or [JPEG]
    if knobs.rendered_status or media_type not in (PNG, JPEG) or not found[0].rows:
        return error_reply(knobs.rendered_status or 406, knobs.fail_body)
    frame, frames = int(path.get("frame", "1")), int(header(found[0]).get("NumberOfFrames") or 1)
    if not 1 <= frame <= frames:
        return error_reply(404)
    if knobs.rendition == "html":
        return html_reply(200, "Sign in to continue")
    if knobs.rendition == "empty":
        return Reply(200, media_type=media_type)
    shown = {PNG: JPEG, JPEG: PNG}[media_type] if knobs.rendition == "other" else media_type
    body = picture(found[0].instance_uid, frame, shown)
    if knobs.rendition == "lacking":
        body = body[:-8]
    if knobs.rendition == "padded":
        body += bytes(knobs.rendition_padding_bytes)
    if knobs.rendition == "multipart":
        part = Part(shown, bytes_reply(200, body, "").chunks, len(body))
        return replace(multipart([part], shown, knobs), framing=knobs.framing, is_dicom=True)
    return replace(bytes_reply(200, body, media_type), framing=knobs.framing, is_dicom=True)


def picture(instance_uid: str, frame: int, media_type: str) -> bytes:
    """What is sent of a frame, which nothing else shares."""
    name = f"{instance_uid} {frame}".encode()
    if media_type == JPEG:
        return b"\xff\xd8\xff\xfe" + struct.pack(">H", len(name) + 2) + name + _GREY[2:]
    pixels = blake2b(name, digest_size=_SIDE).digest()
    rows = b"".join(b"\0" + pixels[row:] + pixels[:row] for row in range(_SIDE))
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

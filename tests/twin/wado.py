"""WADO-RS: instances, series, studies, metadata and frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydicom.dataset import Dataset

from tests.twin.accept import Form, Refusal, agree
from tests.twin.content import Content, content_of, of_bytes, sibling
from tests.twin.frames import Unservable, frame_spans, header, transcoded
from tests.twin.knobs import Knobs
from tests.twin.model import EXPLICIT_LITTLE, Holdings, Instance, SeriesQuery
from tests.twin.qido import DICOM_JSON
from tests.twin.reply import (
    Chunks,
    Reply,
    error_reply,
    html_reply,
    instance_chunks,
    joined,
    json_reply,
)

_DICOM = "application/dicom"
_OCTETS = "application/octet-stream"
_SLIP = 7
_BOUNDARY = "twin-boundary-5f1c9a"
_CLOSING = f"\r\n--{_BOUNDARY}--".encode()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    media_type: str
    chunks: Chunks
    length: int


@dataclass(frozen=True, slots=True)
class Asked:
    """The headers of a request that decide the form of its answer."""

    accept: str
    byte_range: str


def find(holdings: Holdings, path: dict[str, str], knobs: Knobs) -> Sequence[Instance] | Reply:
    """The instances a path names, or the refusal if there are none or they are told to be missing."""
    if any(uid in knobs.missing for uid in path.values()):
        return error_reply(knobs.missing_status, knobs.fail_body)
    found = holdings.series(SeriesQuery(study_uid=path["study"], series_uid=path.get("series")))
    if not found:
        return error_reply(404)
    if "instance" in path:
        instance = holdings.instance(found[0], path["instance"])
        return error_reply(404) if instance is None else [instance]
    return [instance for series in found for instance in holdings.instances(series)]


def retrieve(holdings: Holdings, path: dict[str, str], asked: Asked, knobs: Knobs) -> Reply:
    """An instance, or all instances of a series or study."""
    found = find(holdings, path, knobs)
    if isinstance(found, Reply):
        return found
    alone = "instance" in path
    form = agree(asked.accept, knobs, _DICOM, single_allowed=alone)
    if isinstance(form, Refusal):
        return error_reply(form.status, knobs.fail_body)
    if knobs.corrupt == "html":
        return html_reply(200, "Sign in to continue")
    if knobs.corrupt == "empty":
        return Reply(200, media_type=_DICOM)
    try:
        contents = [_as_sent(holdings, instance, form, knobs) for instance in found]
    except Unservable as error:
        return error_reply(error.status, knobs.fail_body)
    parts = [_part(content) for content in contents]
    number = found[0].number if alone else 0
    if form.multipart:
        framing = knobs.framing if alone else knobs.series_framing
        status = 206 if knobs.unasked_206 else 200
        return replace(multipart(parts, _DICOM, knobs), status=status, framing=framing, is_dicom=True, number=number)
    reply = _single(parts[0], contents[0], found[0], asked, knobs)
    return replace(reply, framing=knobs.framing, is_dicom=True, number=number)


def frames(holdings: Holdings, path: dict[str, str], asked: Asked, knobs: Knobs) -> Reply:
    """The frames of a comma-separated list of numbers, from 1."""
    found = find(holdings, path, knobs)
    if isinstance(found, Reply):
        return found
    form = agree(asked.accept, knobs, _OCTETS, single_allowed="," not in path["frames"])
    if isinstance(form, Refusal):
        return error_reply(form.status, knobs.fail_body)
    try:
        parts = _frame_parts(found[0], [int(number) for number in path["frames"].split(",")])
    except Unservable as error:
        return error_reply(error.status, knobs.fail_body)
    if form.multipart:
        return replace(multipart(parts, _OCTETS, knobs), framing=knobs.framing, is_dicom=True)
    part = parts[0]
    return Reply(200, part.chunks, part.length, part.media_type, framing=knobs.framing, is_dicom=True)


def metadata(holdings: Holdings, path: dict[str, str], base_url: str, knobs: Knobs) -> Reply:
    """The headers of the instances in DICOM JSON; large values become a BulkDataURI."""
    found = find(holdings, path, knobs)
    if isinstance(found, Reply):
        return found
    if knobs.rendition == "html":
        return html_reply(200, "Sign in to continue")
    if knobs.rendition == "empty":
        return Reply(200, media_type=DICOM_JSON)
    if knobs.rendition == "other":
        found = [sibling(holdings, found[0])]
    items = [_metadata_json(instance, base_url) for instance in (found[:-1] if knobs.rendition == "lacking" else found)]
    reply = json_reply(items[0] if knobs.rendition == "object" else items, 200, DICOM_JSON)
    reply = replace(reply, framing=knobs.framing, is_dicom=True)
    if knobs.rendition == "padded":
        blanks = b" " * knobs.rendition_padding_bytes
        return replace(reply, chunks=joined([reply.chunks, blanks]), length=reply.length + len(blanks))
    if knobs.rendition == "multipart":
        return multipart([Part(DICOM_JSON, reply.chunks, reply.length)], DICOM_JSON, knobs)
    return reply


def storage_info(holdings: Holdings, path: dict[str, str], knobs: Knobs) -> Reply:
    """``:getStorageInfo`` of Google's archive: the stored size. Whether that is the Part-10 size is undocumented."""
    found = find(holdings, path, knobs)
    if isinstance(found, Reply):
        return found
    if not knobs.storage_info:
        return error_reply(404)
    return json_reply({"blobStorageInfo": {"sizeBytes": str(found[0].size_bytes)}})


def multipart(parts: Iterable[Part], inner_type: str, knobs: Knobs) -> Reply:
    """A multipart/related body; its Content-Type names the boundary as the knobs want it."""
    pieces: list[bytes | Chunks] = []
    length = 0
    lead = b"This is a multipart message.\r\n" if knobs.multipart_preamble else b""
    for part in parts:
        head = [f"--{_BOUNDARY}", f"Content-Type: {part.media_type}"]
        if knobs.part_length:
            head.append(f"Content-Length: {part.length + knobs.part_length_error}")
        opening = lead + "\r\n".join([*head, "", ""]).encode()
        pieces += [opening, part.chunks]
        length += len(opening) + part.length
        lead = b"\r\n"
    tail = _CLOSING + (b"\r\nand this is its end\r\n" if knobs.multipart_preamble else b"\r\n")
    if not knobs.closing_boundary:
        tail = b""
    named = {"quoted": f'; boundary="{_BOUNDARY}"', "unquoted": f"; boundary={_BOUNDARY}", "missing": ""}
    media_type = f'multipart/related; type="{inner_type}"{named[knobs.boundary]}'
    return Reply(200, joined([*pieces, tail]), length + len(tail), media_type, closing=_CLOSING + b"\r\n")


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """``bytes=a-b`` as [start, stop), None if it is not that; a start behind the end gives an empty span."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def ranged(chunks_of: Callable[[int, int], Chunks], size: int, asked: str, knobs: Knobs) -> Reply:
    """A range of a body of ``size`` bytes; ``chunks_of(start, stop)`` makes it. The whole body if none was asked."""
    span = parse_range(asked, size)
    if span is None and knobs.unasked_206 == "half":
        return _partial(chunks_of, 0, (size + 1) // 2, size)
    if span is None or knobs.range_style == "ignored":
        status = 206 if knobs.unasked_206 and span is None else 200
        return Reply(status, chunks_of(0, size), size, headers={"Accept-Ranges": "bytes"})
    start, stop = span
    if start >= size or stop <= start:
        return Reply(416, headers={"Content-Range": f"bytes */{size}"})
    match knobs.range_style:
        case "bare":
            return Reply(206, chunks_of(0, size), size)
        case "shifted":
            return _partial(chunks_of, max(0, start - 1) if start else min(1, stop - 1), stop, size)
        case "short":
            return _partial(chunks_of, start, start + (stop - start + 1) // 2, size)
        case "resized":
            return _partial(chunks_of, start, stop, size, size + 1)
        case "slipped" if start >= knobs.slip_offset:
            return _partial(lambda start, stop: chunks_of(start - _SLIP, stop - _SLIP), start, stop, size)
        case _:
            return _partial(chunks_of, start, stop, size)


def _partial(
    chunks_of: Callable[[int, int], Chunks], start: int, stop: int, size: int, told: int | None = None
) -> Reply:
    headers = {"Content-Range": f"bytes {start}-{stop - 1}/{told or size}", "Accept-Ranges": "bytes"}
    return Reply(206, chunks_of(start, stop), stop - start, headers=headers)


def _single(part: Part, content: Content, instance: Instance, asked: Asked, knobs: Knobs) -> Reply:
    headers = {"ETag": f'"{instance.crdc_instance_uuid}"'} if knobs.etag else {}
    if not knobs.ranges and not knobs.unasked_206:
        return Reply(200, part.chunks, part.length, part.media_type, headers)
    reply = ranged(content.span, content.size, asked.byte_range if knobs.ranges else "", knobs)
    return replace(reply, media_type=part.media_type, headers=reply.headers | headers)


def _as_sent(holdings: Holdings, instance: Instance, form: Form, knobs: Knobs) -> Content:
    """An instance stored, or re-encoded, or damaged on purpose."""
    content = content_of(holdings, instance, knobs)
    wanted = form.transfer_syntax or (EXPLICIT_LITTLE if knobs.transcode_without_star else "*")
    if wanted in ("*", content.syntax):
        return content
    return of_bytes(transcoded(instance), EXPLICIT_LITTLE)


def _part(content: Content) -> Part:
    return Part(f"{_DICOM}; transfer-syntax={content.syntax}", content.chunks, content.size)


def _frame_parts(instance: Instance, numbers: Sequence[int]) -> list[Part]:
    spans = frame_spans(instance)
    if not all(1 <= number <= len(spans) for number in numbers):
        raise Unservable(404, "no such frame")
    media_type = f"{_OCTETS}; transfer-syntax={instance.transfer_syntax}"
    parts = []
    for number in numbers:
        frame = spans[number - 1]
        chunks = joined([instance_chunks(instance, span.start, span.stop) for span in frame])
        parts.append(Part(media_type, chunks, sum(span.stop - span.start for span in frame)))
    return parts


def _metadata_json(instance: Instance, base_url: str) -> dict[str, Any]:
    dataset = _plain(header(instance))
    url = (
        f"{base_url}/studies/{instance.series.study_uid}/series/{instance.series.series_uid}"
        f"/instances/{instance.instance_uid}"
    )
    result: dict[str, Any] = dataset.to_json_dict(
        bulk_data_threshold=1024,
        bulk_data_element_handler=lambda element: f"{url}/bulkdata/{element.tag:08X}",
        suppress_invalid_tags=True,
    )
    result["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax]}
    if "00280010" in result:
        result["7FE00010"] = {"vr": "OW", "BulkDataURI": f"{url}/frames"}
    return result


def _plain(dataset: Dataset) -> Dataset:
    """Without what is only filling: its value is as long as the file and nobody asks for it."""
    if (0xFFFC, 0xFFFC) in dataset:
        del dataset[0xFFFC, 0xFFFC]
    return dataset

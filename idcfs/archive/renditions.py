"""What a DICOMweb server makes of what it stores: metadata as DICOM JSON, and pictures (PS3.18, section 10.4).

Nothing is handed on that is not what was asked for: metadata has to be of that series or instance, a picture of the
type asked for, and both have to be there to their end.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, NamedTuple

from ..errors import Damaged, Gone, IdcfsError, NotOffered, Refused
from ..filemeta import UID
from ..printable import quoted
from ..settings import DICOM_JSON, JPEG, MAX_RENDITION_BYTES, PNG
from . import dicomjson
from .answer import Document
from .dicomweb import instance_path, series_path
from .multipart import MultipartParser, PartBegin, PartData, boundary_of
from .records import INSTANCE_UID, SERIES_UID
from .transport import Transport

_FRAME_COUNT = "00280008"  # NumberOfFrames
_TOLD_TAGS = (INSTANCE_UID, SERIES_UID, _FRAME_COUNT)
_ENDS = {
    PNG: (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),  # PNG, sections 5.2 and 11.2.5
    JPEG: (b"\xff\xd8\xff", b"\xff\xd9"),  # ITU-T T.81, annex B: SOI and a marker, EOI
}
"""What the pictures of a type begin and end with."""
_NOT_OFFERED = frozenset({400, 405, 406, 415, 501})
"""Statuses of servers that do not make it: Orthanc says 400 to a picture of what has no pixels, and of frames beyond
the last one."""

log = logging.getLogger(__name__)


class Metadata(NamedTuple):
    """The metadata of a series or instance."""

    body: bytes
    """DICOM JSON, as it came (PS3.18, annex F)."""
    frames: dict[str, int]
    """NumberOfFrames of each instance in it, by SOPInstanceUID; 1 where that is not said."""


class DicomwebRenditions:
    """Of one server. Errors are those of the transport; Gone where it has nothing, NotOffered where it makes none."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._told: set[tuple[str, int | None]] = set()

    async def metadata(self, study_uid: str, series_uid: str, instance_uid: str = "") -> Metadata:
        """Metadata of all instances of a series, or of one."""
        if instance_uid:
            path = f"{instance_path(study_uid, series_uid, instance_uid)}/metadata"
        else:
            path = f"{series_path(study_uid, series_uid)}/metadata"
        body = _part_of(await self._get(path, DICOM_JSON, "gzip"), self._where(path))
        check = partial(_frames_in, body, self._where(path), series_uid, instance_uid)
        return Metadata(body, await dicomjson.in_turns(len(body), check))

    async def rendered(
        self, study_uid: str, series_uid: str, instance_uid: str, media_type: str, frame: int = 0
    ) -> bytes:
        """A picture of an instance, or of one of its frames, which are numbered from 1.

        :param media_type: ``PNG`` or ``JPEG``.
        """
        path = instance_path(study_uid, series_uid, instance_uid) + (f"/frames/{frame}" if frame else "") + "/rendered"
        where = self._where(path)
        body = _part_of(await self._get(path, media_type, "identity"), where)
        begin, end = _ENDS[media_type]
        if not body.startswith(begin):
            raise Refused(f"{where} sent something else than the {media_type} asked for")
        if not body.rstrip(b"\0").endswith(end):
            raise Damaged(f"{where} sent a picture without its end")
        return body

    async def _get(self, path: str, media_type: str, encoding: str) -> Document:
        try:
            document = await self._transport.get_document(
                path,
                accept=media_type,
                encoding=encoding,
                kind="wado_requests",
                most=MAX_RENDITION_BYTES,
                is_alone_if_large=True,
            )
        except Refused as refusal:
            if refusal.status in _NOT_OFFERED:
                raise self._not_offered(refusal, media_type) from None
            raise
        if not document.body:
            raise Gone(f"{self._where(path)} sent nothing; it may belong to another release")
        return document

    def _not_offered(self, refusal: Refused, media_type: str) -> IdcfsError:
        """Told once for each status: a directory full of what has no pixels would fill the log."""
        error = NotOffered(f"{self._transport.name} does not make {media_type} of this: {refusal}")
        kind = (media_type, refusal.status)
        error.reported = kind in self._told
        self._told.add(kind)
        return error

    def _where(self, path: str) -> str:
        return f"{self._transport.name}{path}"


def _part_of(document: Document, where: str) -> bytes:
    """The body, or what is in its one part: some servers wrap pictures and metadata as they do instances."""
    if not document.content_type.lower().startswith("multipart/"):
        return document.body
    parser = MultipartParser(boundary_of(document.content_type), where)
    events = parser.feed(document.body)
    parser.close()
    if sum(isinstance(event, PartBegin) for event in events) != 1:
        raise Damaged(f"{where} sent another number of parts than one")
    return b"".join(event.data for event in events if isinstance(event, PartData))


def _frames_in(body: bytes, where: str, series_uid: str, instance_uid: str) -> dict[str, int]:
    """How many frames the instances have that ``body`` is the metadata of.

    :raises Refused: if it is no list of DICOM JSON objects.
    :raises Damaged: if one of them is not of that series, or not that instance.
    """
    items = dicomjson.checked_items(dicomjson.parse(body, where, _reduced), where)
    frames: dict[str, int] = {}
    for item in items:
        uid, of_series = (dicomjson.uid(item.get(tag)) for tag in (INSTANCE_UID, SERIES_UID))
        if of_series != series_uid or not UID.fullmatch(uid) or uid != (instance_uid or uid):
            sent = f"instance {quoted(uid) or '?'} of series {quoted(of_series) or '?'}"
            raise Damaged(f"{where} sent the metadata of {sent}")
        frames[uid] = dicomjson.count(item.get(_FRAME_COUNT)) or 1
    if not frames:
        raise Gone(f"{where} sent metadata of nothing")
    if len(items) > len(frames):
        raise Damaged(f"{where} sent the metadata of some instances twice")
    return frames


def _reduced(found: dict[str, Any]) -> Any:
    """Of an attribute its first value, if that is short; of a dataset the few attributes that tell what it is.

    So no more than that is held of a document: as Python objects it would take ten times the memory.
    """
    if "vr" in found or "Value" in found:
        first = dicomjson.first_value(found)
        return first if isinstance(first, str | int) else None
    return {tag: found[tag] for tag in _TOLD_TAGS if tag in found}

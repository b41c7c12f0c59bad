"""Whole documents that an archive sends: DICOM JSON, pictures, a bucket's list."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from idcfs.archive.answer import Document
from idcfs.archive.dicomjson import checked_items, parse
from idcfs.archive.objects import parse_page
from idcfs.archive.records import INSTANCE_UID, SeriesRecord, series_record, study_record, uid_of, with_study
from idcfs.archive.renditions import DicomwebRenditions
from idcfs.archive.transport import Transport
from idcfs.errors import Damaged, Gone, NotOffered, Refused, Truncated
from idcfs.filemeta import UID
from idcfs.layout import NAMED_LAYOUTS, Layout, parse_layout
from idcfs.namespace.build import table_of_records
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.names import instance_name
from idcfs.settings import JPEG, MAX_INSTANCE_BYTES, PNG

from .given import Given, at_once, outcome

LAYOUTS = [parse_layout(name) for name in NAMED_LAYOUTS]
MOST_ITEMS = 8
"""Of so many a catalog may be made as well, which takes milliseconds."""


def qido(data: bytes) -> None:
    """In which layout it is shown, if at all; an answer of QIDO-RS: what is no list of items is refused."""
    given = Given(data)
    shown, body = given.number() % 16, given.rest()
    items = outcome(lambda: checked_items(parse(body, "host/x"), "host/x"), Refused)
    if isinstance(items, type):
        return
    for uid in filter(None, (uid_of(item, INSTANCE_UID) for item in items)):
        assert UID.fullmatch(uid)
        assert instance_name(uid) == f"{uid}.dcm".encode()
    studies = [study_record(item) for item in items]
    found = [series_record(item, "1.2") for item in items]
    records = [with_study(one, study) for one, study in zip(found, studies, strict=True) if one is not None]
    assert all(UID.fullmatch(one.series_uid) and UID.fullmatch(one.study_uid) for one in records)
    records = list(dict.fromkeys(records))  # as they are listed
    if records and len(items) <= MOST_ITEMS and shown < len(LAYOUTS):
        _show(records, LAYOUTS[shown])


def _show(records: list[SeriesRecord], layout: Layout) -> None:
    catalog = Catalog(table_of_records("host", records, layout))
    assert catalog.rows == len({(one.patient_id, one.study_uid, one.series_uid) for one in records})
    for row in range(catalog.rows):
        told = catalog.series(row)
        assert (told.patient_id, told.study_uid, told.series_uid) in {
            (one.patient_id, one.study_uid, one.series_uid) for one in records
        }


class _Sent:
    """What is asked for is a document, which is there."""

    name = "host"

    def __init__(self, content_type: str, body: bytes) -> None:
        self._document = Document(content_type, body)

    async def get_document(self, path: str, **_how: object) -> Document:
        return self._document


def _sent(given: Given) -> tuple[SimpleNamespace, DicomwebRenditions]:
    head, _, body = given.rest().partition(b"\n")
    transport = cast("Transport", _Sent(head.decode("latin-1"), body))
    return SimpleNamespace(head=head, body=body), DicomwebRenditions(transport)


def metadata(data: bytes) -> None:
    """Whether it is of one instance; Content-Type, up to the end of the line; the document."""
    given = Given(data)
    uid = "1.2.3.4" if given.number() & 1 else ""
    _, archive = _sent(given)
    found = outcome(lambda: at_once(archive.metadata("1.2", "1.2.3", uid)), Refused, Damaged, Truncated, Gone)
    if not isinstance(found, type):
        assert set(found.frames) == {uid} if uid else found.frames
        assert all(UID.fullmatch(one) and 0 < frames < 10**10 for one, frames in found.frames.items())
        assert found.body in data


def picture(data: bytes) -> None:
    """Which type was asked for; Content-Type, up to the end of the line; the picture."""
    given = Given(data)
    media_type = (PNG, JPEG)[given.number() % 2]
    _, archive = _sent(given)
    work = partial(archive.rendered, "1.2", "1.2.3", "1.2.3.4", media_type)
    found: Any = outcome(lambda: at_once(work()), Refused, Damaged, Truncated, Gone, NotOffered)
    assert isinstance(found, type) or found in data


def s3(data: bytes) -> None:
    """A page of ListObjectsV2: files of the series, exact sizes, and how to go on; or it is refused."""
    page = outcome(lambda: parse_page(data, "a/", "bucket/a"), Refused)
    if isinstance(page, type):
        return
    for one in page.objects:
        assert re.fullmatch(r"[0-9A-Za-z_-]{1,200}\.dcm", one.name, re.ASCII)
        assert 0 < one.size <= MAX_INSTANCE_BYTES
    assert page.next_token != ""
    assert page.passed_over >= 0
    assert len(page.objects) + page.passed_over <= len(data) // len(b"<Contents/>")

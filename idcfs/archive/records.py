"""Studies and series as QIDO-RS lists them: what is asked for, and what DICOM JSON says of each (PS3.18, annex F)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..filemeta import UID
from . import dicomjson
from .dicomjson import Item

PATIENT_ID = "00100020"
_STUDY_UID = "0020000D"
_STUDY_DATE = "00080020"
_STUDY_DESCRIPTION = "00081030"
SERIES_UID = "0020000E"
_MODALITY = "00080060"
_SERIES_NUMBER = "00200011"
_SERIES_DESCRIPTION = "0008103E"
_INSTANCE_COUNT = "00201209"  # NumberOfSeriesRelatedInstances
INSTANCE_UID = "00080018"
_MAX_CHARACTERS = 1024
"""Of a text that is shown; DICOM's have 64 (PS3.5 section 6.2)."""


class Fields(NamedTuple):
    """Attributes to ask for by includefield: servers need not send them otherwise, nor all be willing to."""

    needed: str
    wished: str


SERIES_FIELDS = Fields(
    f"{PATIENT_ID},{_INSTANCE_COUNT}",
    f"{_MODALITY},{_STUDY_DATE},{_STUDY_DESCRIPTION},{_SERIES_NUMBER},{_SERIES_DESCRIPTION}",
)


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One study of one patient."""

    patient_id: str
    study_uid: str
    study_date: str = field(default="", compare=False)
    """YYYYMMDD, as DICOM has it."""


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """One series; ``patient_id`` is empty where nobody knows it.

    Its identity are the three UIDs: a series listed again while it grows, or with more words, is the same one.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    instance_count: int | None = field(compare=False)
    """Where the server tells it."""
    modality: str = field(default="", compare=False)
    study_date: str = field(default="", compare=False)
    """YYYYMMDD, as DICOM has it."""
    study_description: str = field(default="", compare=False)
    series_number: str = field(default="", compare=False)
    series_description: str = field(default="", compare=False)


def study_record(item: Item) -> StudyRecord | None:
    """The study that ``item`` describes; None if it has no usable UID."""
    study_uid = uid_of(item, _STUDY_UID)
    return StudyRecord(_text(item, PATIENT_ID), study_uid, _word(item, _STUDY_DATE)) if study_uid else None


def series_record(item: Item, study_uid: str | None = None) -> SeriesRecord | None:
    """The series that ``item`` describes; None if it has no usable UIDs.

    :param study_uid: the study that was asked for, since its series may leave it out.
    """
    study_uid, series_uid = uid_of(item, _STUDY_UID) or study_uid, uid_of(item, SERIES_UID)
    if not study_uid or not series_uid:
        return None
    return SeriesRecord(
        _text(item, PATIENT_ID),
        study_uid,
        series_uid,
        dicomjson.count(dicomjson.first_value(item.get(_INSTANCE_COUNT))),
        _word(item, _MODALITY),
        _word(item, _STUDY_DATE),
        _word(item, _STUDY_DESCRIPTION),
        _word(item, _SERIES_NUMBER),
        _word(item, _SERIES_DESCRIPTION),
    )


def with_study(record: SeriesRecord, study: StudyRecord | None) -> SeriesRecord:
    """``record``, with what its study says filled in where the server left it out."""
    if study is None or (record.patient_id and record.study_date):
        return record
    return replace(
        record,
        patient_id=record.patient_id or study.patient_id,
        study_date=record.study_date or study.study_date,
    )


def uid_of(item: Item, tag: str) -> str | None:
    """A UID, if it is one."""
    uid = dicomjson.uid(dicomjson.first_value(item.get(tag)))
    return uid if UID.fullmatch(uid) else None


def _text(item: Item, tag: str) -> str:
    """A text, or a number as one, of at most ``_MAX_CHARACTERS``, since millions of them are held; nothing of anything
    else, which may be nested however deep."""
    value = dicomjson.first_value(item.get(tag))
    return str(value)[:_MAX_CHARACTERS] if isinstance(value, str | int | float) else ""


def _word(item: Item, tag: str) -> str:
    """A text that many series share: it is kept once."""
    return sys.intern(_text(item, tag).strip(" \0"))

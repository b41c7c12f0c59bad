"""QIDO-RS: listings in DICOM JSON, with the paging habits of real servers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from starlette.datastructures import QueryParams

from tests.twin.index import Lazy
from tests.twin.knobs import Knobs
from tests.twin.model import Holdings, Instance, Series, SeriesQuery
from tests.twin.reply import Reply, json_reply

DICOM_JSON = "application/dicom+json"

_CONTROL = frozenset({"limit", "offset", "includefield", "fuzzymatching", "_redirected"})
_SERIES_FILTERS = {
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "Modality": "modality",
    "StudyDate": "study_date",
}
"""What Google's archive can search of what the twin knows (SEED guide, "Searchable DICOM Tags")."""
_LIMITS = {"studies": (100, 5_000), "series": (100, 5_000), "instances": (1_000, 50_000)}
"""Google's default and maximum limit of each level."""

T = TypeVar("T")


class BadQuery(Exception):
    """A query that is answered with 400."""


@dataclass(frozen=True, slots=True)
class Query:
    """A QIDO-RS request, understood."""

    level: str
    series: SeriesQuery = field(default_factory=SeriesQuery)
    instance_uid: str | None = None
    includes: tuple[str, ...] = ()
    limit: int = 0
    offset: int = 0


def answer(holdings: Holdings, level: str, path: dict[str, str], params: QueryParams, knobs: Knobs) -> Reply:
    """The answer to a QIDO-RS request for one level below the study and series named in its path."""
    try:
        query = parse(level, path, params, knobs)
    except BadQuery as error:
        return json_reply({"error": {"code": 400, "message": str(error), "status": "INVALID_ARGUMENT"}}, 400)
    items = [_attributes(item, query) for item in _page(holdings, query, knobs)]
    if not items:
        empty = {"204": Reply(204), "[]": json_reply([], 200, DICOM_JSON), "empty": Reply(200, media_type=DICOM_JSON)}
        return empty[knobs.qido_empty]
    return json_reply(items[0] if knobs.qido_dict and len(items) == 1 else items, 200, DICOM_JSON)


def parse(level: str, path: dict[str, str], params: QueryParams, knobs: Knobs) -> Query:
    """The query of a request; raises BadQuery."""
    series = SeriesQuery(study_uid=path.get("study"), series_uid=path.get("series"))
    instance_uid = None
    for name, value in params.multi_items():
        keyword = _keyword(name)
        if name in _CONTROL or knobs.qido_ignore_filters:
            continue
        if keyword == "SOPInstanceUID" and level == "instances":
            instance_uid = value
        elif keyword in _SERIES_FILTERS:
            series = _narrowed(series, _SERIES_FILTERS[keyword], value)
        elif knobs.qido_unknown_filter == "400":
            raise BadQuery(f"cannot search {level} by {name}")
    includes = tuple(_keyword(word) for value in params.getlist("includefield") for word in value.split(","))
    limit = _limit(level, params.get("limit"), knobs)
    offset = 0 if knobs.qido_ignore_offset else _count(params.get("offset", "0"))
    return Query(level, series, instance_uid, includes, limit, offset)


def _narrowed(series: SeriesQuery, name: str, value: str) -> SeriesQuery:
    """A filter beside the one in the path: both must match, so two different values match nothing."""
    before = getattr(series, name)
    return replace(series, **{name: value if before in (None, value) else "\0"})


def _keyword(name: str) -> str:
    """``0020000D`` and ``StudyInstanceUID`` are the same attribute; what is unknown stays as it is."""
    if len(name) == 8:
        try:
            return keyword_for_tag(int(name, 16)) or name
        except ValueError:
            return name
    return name


def _count(text: str) -> int:
    if not text.isdecimal():
        raise BadQuery(f"not a count: {text}")
    return int(text)


def _limit(level: str, wanted: str | None, knobs: Knobs) -> int:
    default, maximum = _LIMITS[level]
    maximum = maximum if knobs.qido_max_limit is None else knobs.qido_max_limit
    default = default if knobs.qido_default_limit is None else knobs.qido_default_limit
    if knobs.qido_ignore_limit:
        return 2**62
    limit = min(default, maximum) if wanted is None else _count(wanted)
    if limit > maximum and knobs.qido_over_limit == "400":
        raise BadQuery(f"limit is above {maximum}")
    return min(limit, maximum)


def _page(holdings: Holdings, query: Query, knobs: Knobs) -> Iterator[Series | Instance]:
    found = _found(holdings, query, knobs)
    keys = _arranged(found, knobs)
    stop = query.offset + query.limit
    return (found[key] for key in keys[query.offset : stop])


def _found(holdings: Holdings, query: Query, knobs: Knobs) -> Sequence[Series | Instance]:
    """Everything that matches, in stored order, without what is hidden."""
    if query.level == "studies":
        return _visible(holdings.studies(query.series), knobs, lambda s: (s.study_uid,))
    series = _visible(holdings.series(query.series), knobs, lambda s: (s.study_uid, s.series_uid))
    if query.level == "series":
        return series
    if query.instance_uid is not None:
        matches = (holdings.instance(one, query.instance_uid) for one in series)
        found: Sequence[Instance] = [match for match in matches if match is not None]
    else:
        found = _instances(holdings, series, query.offset + query.limit)
    return _visible(found, knobs, lambda i: (i.instance_uid,))


def _instances(holdings: Holdings, series: Sequence[Series], enough: int) -> Sequence[Instance]:
    """The instances of several series; of a whole archive no more than this page needs."""
    if len(series) == 1:
        return holdings.instances(series[0])
    lists: list[Sequence[Instance]] = []
    starts = [0]
    for one in series:
        lists.append(holdings.instances(one))
        starts.append(starts[-1] + len(lists[-1]))
        if starts[-1] > enough and len(lists) > 10_000:
            break
    where = [(part, ordinal) for part, items in enumerate(lists) for ordinal in range(len(items))]
    return Lazy(range(len(where)), lambda key: lists[where[key][0]][where[key][1]])


def _visible(items: Sequence[T], knobs: Knobs, uids: Callable[[T], tuple[str, ...]]) -> Sequence[T]:
    if not knobs.qido_hidden:
        return items
    return [item for item in items if not any(uid in knobs.qido_hidden for uid in uids(item))]


def _arranged(found: Sequence[Series | Instance], knobs: Knobs) -> Sequence[int]:
    """Positions in ``found`` in the order they are listed in, the same on every page."""
    keys: Sequence[int] = range(len(found))
    if knobs.qido_order == "shuffled":
        keys = random.Random(len(found)).sample(keys, len(keys))
    elif knobs.qido_order == "sorted":
        keys = sorted(keys, key=lambda key: _sort_uid(found[key]))
    if knobs.qido_duplicates:
        keys = [key for n, key in enumerate(keys, 1) for _ in range(1 if n % knobs.qido_duplicates else 2)]
    return keys


def _sort_uid(item: Series | Instance) -> str:
    return item.series_uid if isinstance(item, Series) else item.instance_uid


def _attributes(item: Series | Instance, query: Query) -> dict[str, Any]:
    """One item in DICOM JSON, with the attributes servers usually return."""
    series = item.series if isinstance(item, Instance) else item
    values: dict[str, str | int] = {
        "PatientID": series.patient_id,
        "PatientName": series.patient_id,
        "StudyInstanceUID": series.study_uid,
        "StudyDate": series.study_date,
    }
    if query.level != "studies":
        values |= {"Modality": series.modality, "SeriesInstanceUID": series.series_uid}
    if query.level == "series":
        values["NumberOfSeriesRelatedInstances"] = series.instance_count
        if "SeriesDescription" in query.includes or "all" in query.includes:
            values["SeriesDescription"] = series.description
    if isinstance(item, Instance):
        values |= {
            "SOPInstanceUID": item.instance_uid,
            "SOPClassUID": item.sop_class_uid,
            "InstanceNumber": item.number,
        }
        if item.rows:
            values |= {"Rows": item.rows, "Columns": item.columns}
        if "AvailableTransferSyntaxUID" in query.includes or "all" in query.includes:
            values["AvailableTransferSyntaxUID"] = item.transfer_syntax
    return {_TAGS[keyword][0]: _json_element(_TAGS[keyword][1], value) for keyword, value in values.items()}


def _json_element(vr: str, value: str | int) -> dict[str, Any]:
    if value == "":
        return {"vr": vr}
    return {"vr": vr, "Value": [{"Alphabetic": value} if vr == "PN" else value]}


def _tag(keyword: str) -> tuple[str, str]:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return f"{tag:08X}", dictionary_VR(tag)


_TAGS = {
    keyword: _tag(keyword)
    for keyword in (
        *_SERIES_FILTERS,
        "PatientName",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SOPInstanceUID",
        "SOPClassUID",
        "InstanceNumber",
        "Rows",
        "Columns",
        "AvailableTransferSyntaxUID",
    )
}
"""Keyword → eight hex digits and value representation."""

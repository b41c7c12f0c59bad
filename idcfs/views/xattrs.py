"""Extended attributes: what a directory or file of the tree is, as names and values below ``user.idc.``.

All of them come from the index and from what is at hand: nobody is asked for any. What is not known has no attribute.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio
from cachetools import LRUCache

from ..namespace.catalog import Catalog
from ..namespace.nodes import Level
from ..running import ATTRIBUTE_PREFIX

_MOST_VALUES = 16
"""Of more different modalities, licences or DOIs none is told: a part would pass for all."""
_MOST_BYTES = 1_024
"""Longer values are left out: with all others, they are to fit into the 4 KiB that ext4 has for those of a copy."""
_ROWS_AT_ONCE = 32_768
"""Added up in 2–4 ms, which others may have to wait."""
_KEPT = 1_000
"""Directories whose attributes are remembered: who lists and reads them all makes two calls for each attribute."""

_VIEWER = "https://viewer.imaging.datacommons.cancer.gov"
_SLIDES = "SM"
"""The modality of slides, which IDC's other viewer shows."""

_OF_SERIES_ALONE = frozenset({"aws_url", "instance_count", "size_bytes"})
"""What is not true of each of its files."""

Facts = dict[str, str]
"""By name, without the prefix."""


class IndexFacts:
    """What the index says of directories and files, as the kernel wants it."""

    def __init__(self) -> None:
        self._kept: LRUCache[tuple[int, int], dict[bytes, bytes]] = LRUCache(_KEPT)

    async def of(self, catalog: Catalog, level: int, row: int) -> dict[bytes, bytes]:
        """Of the directory at (level, row) of ``catalog``, which is the same at each call; of any file of a series."""
        kept = self._kept.get((level, row))
        if kept is None:
            is_file = level == Level.INSTANCE
            facts = await facts_of(catalog, Level.SERIES if is_file else level, row)
            told = {name: value for name, value in facts.items() if not (is_file and name in _OF_SERIES_ALONE)}
            kept = self._kept[level, row] = encoded(told)
        return kept


def encoded(facts: Mapping[str, str]) -> dict[bytes, bytes]:
    """``facts`` as the kernel wants them, without those that are empty or too long."""
    values = {
        f"{ATTRIBUTE_PREFIX}{name}".encode(): value.encode("utf-8", "surrogatepass") for name, value in facts.items()
    }
    return {name: value for name, value in values.items() if 0 < len(value) <= _MOST_BYTES}


class _Sums:
    """Sums and different values over rows."""

    def __init__(self) -> None:
        self.instances: int | None = 0
        self.bytes: int | None = 0
        self.modalities: set[str] = set()
        self.licenses: set[str] = set()
        self.source_dois: set[str] = set()

    def add(self, catalog: Catalog, start: int, stop: int) -> None:
        """Rows [start, stop) as well."""
        self.instances = _sum(self.instances, catalog.total_in("instances", start, stop))
        self.bytes = _sum(self.bytes, catalog.total_in("bytes", start, stop))
        self.modalities |= catalog.distinct("modality", start, stop)
        self.licenses |= catalog.distinct("license", start, stop)
        self.source_dois |= catalog.distinct("source_doi", start, stop)


async def facts_of(catalog: Catalog, level: int, row: int) -> Facts:
    """What the index says of the directory at (level, row)."""
    end = catalog.end(level, row) if catalog.rows else 0
    if row >= end:
        return {}
    sums = _Sums()
    for start in range(row, end, _ROWS_AT_ONCE):
        if start > row:
            await trio.lowlevel.checkpoint()
        sums.add(catalog, start, min(end, start + _ROWS_AT_ONCE))
    dois = _few(sums.source_dois)
    facts = {
        "collection_id": catalog.common_value("collection_id", row, end),
        "patient_id": catalog.common_value("PatientID", row, end),
        "study_uid": catalog.common_value("StudyInstanceUID", row, end),
        "series_uid": catalog.common_value("SeriesInstanceUID", row, end),
        "modality": ",".join(_few(sums.modalities)),
        "license": ",".join(_few(sums.licenses)),
        "source_doi": ",".join(dois),
        "source_url": ",".join(f"https://doi.org/{doi}" for doi in dois),
        "idc_version": str(catalog.release(level, row) or ""),
        "series_count": None if level == Level.SERIES else str(end - row),
        "instance_count": _text(sums.instances),
        "size_bytes": _text(sums.bytes),
    }
    known = {name: value for name, value in facts.items() if value}
    return known | _places(catalog, row, end, known.get("study_uid", ""), known.get("series_uid", ""))


def _places(catalog: Catalog, row: int, end: int, study_uid: str, series_uid: str) -> Facts:
    """Where rows [row, end) are to be found at IDC, if they are of one study, whose series IDC has given content UUIDs.

    The URLs are idc-index's: of ``get_viewer_URL``, and of its column ``series_aws_url``.
    """
    if not study_uid or not any(catalog.common_content(one, one + 1) for one in range(row, end)):
        return {}
    study = catalog.rows_of("StudyInstanceUID", study_uid)
    if any(_SLIDES in catalog.distinct("modality", one, one + 1) for one in study):
        viewer = f"{_VIEWER}/slim/studies/{study_uid}" + (f"/series/{series_uid}" if series_uid else "")
    else:
        initial = f"&initialSeriesInstanceUID={series_uid}" if series_uid else ""
        viewer = f"{_VIEWER}/v3/viewer/?StudyInstanceUIDs={study_uid}{initial}"
    facts = {"viewer_url": viewer}
    if content := catalog.common_content(row, end):
        facts["crdc_series_uuid"] = content
        if bucket := catalog.series(row).bucket:
            facts["aws_url"] = f"s3://{bucket}/{content}/*"
    return facts


def _few(values: set[str]) -> list[str]:
    return sorted(values) if len(values) <= _MOST_VALUES else []


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _text(number: int | None) -> str:
    return "" if number is None else str(number)

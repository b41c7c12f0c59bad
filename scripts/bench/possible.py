"""What is possible: curl with 16 connections on the URLs of a job, all of it thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.bench import curl
from scripts.bench.jobs import (
    CAT,
    DCM2NIIX,
    FIND,
    FIRST_BYTE,
    FIRST_BYTES,
    HEADERS,
    LIST,
    MIDDLE,
    MIDDLE_BYTES,
    SIMPLEITK,
    Job,
    middle_of_slide,
)
from scripts.bench.material import Material
from scripts.bench.trial import quiet
from scripts.delay import Proxy

LIMITED = (FIND, LIST, FIRST_BYTE, CAT, SIMPLEITK, DCM2NIIX, HEADERS, MIDDLE)
"""Of the others nobody can say which URLs they are."""


def fetched(job: Job, material: Material, proxy: Proxy, config: Path) -> tuple[float, int]:
    """Seconds and bytes moved; ``config`` is written."""
    before = quiet(proxy)
    spent = curl.fetch(_urls(job, material, proxy.url), config, byte_range=_byte_range(job, material))
    return spent.seconds, quiet(proxy).bytes_moved - before.bytes_moved


def _urls(job: Job, material: Material, url: str) -> Sequence[str]:
    if job is FIND:
        return sorted({_listing(path.parent, url) for path in material.files})
    if job is LIST:
        return [_listing(material.series["list"], url)]
    assert job.needs is not None
    return [f"{url}/files/{path}" for path in job.needs(material)]


def _listing(series: Path, url: str) -> str:
    study_uid, series_uid = series.parts[-2:]
    return f"{url}/dicomWeb/studies/{study_uid}/series/{series_uid}/instances"


def _byte_range(job: Job, material: Material) -> str | None:
    if job is FIRST_BYTE:
        return f"0-{FIRST_BYTES - 1}"
    if job is MIDDLE:
        start = middle_of_slide(material)
        return f"{start}-{start + MIDDLE_BYTES - 1}"
    return None

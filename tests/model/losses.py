"""How the model's archive is lost, and which habits it has: knobs of the twin, and the errnos of docs/SEMANTICS.md."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from tests.model.reference import ARCHIVE, BUCKET


@dataclass(frozen=True)
class Loss:
    """A way to be lost."""

    errnos: frozenset[int]
    knobs: dict[str, Any] | None
    """None: no connection can be made."""


@dataclass(frozen=True)
class Match:
    """Who is lost."""

    match: str
    """What paths of requests to them have in them."""
    places: tuple[str, ...]


def _loss(knobs: dict[str, Any] | None, *errnos: int) -> Loss:
    return Loss(frozenset(errnos), knobs)


LOSSES = {
    "refused": _loss(None, errno.EHOSTUNREACH),
    "unavailable": _loss({"fail_always": 503, "fail_body": "xml"}, errno.EHOSTUNREACH),
    "reset": _loss({"refuse_always": "reset"}, errno.EHOSTUNREACH),
    "denied": _loss({"fail_always": 403, "fail_body": "empty"}, errno.EACCES),
    "a page": _loss({"fail_always": 200, "fail_body": "html"}, errno.EIO),
    "another instance": _loss({"corrupt": "other_instance"}, errno.EIO),
    "a wrong length": _loss({"part_length_error": 10, "single_part": False, "chunk_bytes": 10_000}, errno.EIO),
    "cut at once": _loss({"truncate_after_bytes": 1}, errno.EIO),
    "cut": _loss({"truncate_after_bytes": 70_000}, errno.EIO),
    "cut late": _loss({"truncate_after_bytes": 1_200_000, "truncate_ending": "reset"}, errno.EIO),
    "hangs": _loss({"stall_after_bytes": 0}, errno.ETIMEDOUT),
    "hangs in the middle": _loss({"stall_after_bytes": 70_000}, errno.ETIMEDOUT),
}
"""By name; the errnos with which calls may fail that need a place that is lost so."""

MATCHES = {
    "the archive": Match("/dicomWeb", (ARCHIVE,)),
    "the bucket": Match("/bucket/", (BUCKET,)),
    "both": Match("/", (ARCHIVE, BUCKET)),
}

HABITS: tuple[dict[str, Any], ...] = (
    {},
    {"profile": "google"},
    {"profile": "orthanc"},
    {"profile": "static"},
    {"ranges": True},
    {"framing": "chunked", "part_length": False},
    {"qido_default_limit": 2, "qido_max_limit": 2, "qido_order": "shuffled", "chunk_bytes": 7_001},
)

"""What archives do wrong to a retrieval, as a table: knobs of the twin, and the errno of docs/SEMANTICS.md."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_SECONDS = 2.0
"""Of the mounts that meet these faults."""
LIMIT_SECONDS = TIMEOUT_SECONDS + 5
"""No call may take longer."""

MULTIPART, SINGLE = "multipart", "single"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong."""

    name: str
    expected: int
    """The errno; 0: it is no reason to fail, and the bytes are right."""
    knobs: dict[str, Any] = field(hash=False)
    forms: tuple[str, ...] = (MULTIPART,)
    """In which form the archive answers; in the others it would be the same fault once more."""
    is_size_known: bool = False
    """Whether the file's size has to be known from the index for the fault to be seen at all."""


BOTH = (MULTIPART, SINGLE)


def _status(status: int, expected: int, body: str = "json", **knobs: Any) -> Fault:
    name = " ".join([str(status), body, *(str(value) for value in knobs.values())])
    return Fault(name, expected, {"fail_always": status, "fail_body": body} | knobs)


def _damage(name: str, forms: tuple[str, ...] = BOTH, *, is_size_known: bool = False, **knobs: Any) -> Fault:
    return Fault(name, errno.EIO, knobs, forms, is_size_known)


FAULTS = (
    # -- statuses
    _status(204, errno.ESTALE),
    _status(302, errno.EIO),
    _status(400, errno.EIO),
    _status(401, errno.EACCES),
    _status(403, errno.EACCES, "empty"),
    _status(403, errno.EACCES, "array"),
    _status(404, errno.ESTALE, "html"),
    _status(406, errno.EIO),
    _status(408, errno.EHOSTUNREACH),
    _status(410, errno.ESTALE),
    _status(425, errno.EHOSTUNREACH),
    _status(429, errno.EHOSTUNREACH, "array"),
    _status(429, errno.EDQUOT, "html"),
    _status(429, errno.EDQUOT, "json", retry_after="3600"),
    _status(500, errno.EHOSTUNREACH, "empty"),
    _status(500, errno.EHOSTUNREACH, "html"),
    _status(501, errno.EIO),
    _status(502, errno.EHOSTUNREACH, "html"),
    _status(503, errno.EHOSTUNREACH, "xml"),
    _status(503, errno.EHOSTUNREACH, "array", retry_after="1"),
    _status(503, errno.EHOSTUNREACH, "array", retry_after="3600"),
    _status(504, errno.EHOSTUNREACH, "empty"),
    # -- quotas and caps
    Fault("quota spent", errno.EDQUOT, {"quota_bytes": 0}),
    Fault("quota spent in mid-file", errno.EDQUOT, {"quota_bytes": 70_000, "quota_cuts": True}, BOTH),
    Fault("too large for the platform", errno.EHOSTUNREACH, {"max_response_bytes": 70_000}),
    _damage("cut by the platform", max_response_bytes=70_000, max_response_action="cut"),
    # -- bodies that are not whole
    _damage("nothing of the body", truncate_after_bytes=0),
    _damage("reset after the headers", truncate_after_bytes=0, truncate_ending="reset"),
    _damage("reset after the first byte", truncate_after_bytes=1, truncate_ending="reset"),
    _damage("cut in the middle of chunks", truncate_after_bytes=70_000, framing="chunked"),
    _damage("cut without any framing", (MULTIPART,), truncate_after_bytes=70_000, framing="close"),
    _damage("no framing at all", (SINGLE,), framing="close"),
    _damage("length too large", (MULTIPART,), length_error=10),
    _damage("length too large, size known", (SINGLE,), is_size_known=True, length_error=10),
    _damage("length too small", (MULTIPART,), length_error=-100),
    _damage("length too small, size known", (SINGLE,), is_size_known=True, length_error=-10),
    _damage("a part's length too large", (MULTIPART,), part_length_error=10),
    _damage("a part's length too small", (MULTIPART,), part_length_error=-10),
    _damage("neither length nor closing boundary", (MULTIPART,), part_length=False, closing_boundary=False),
    _damage("no boundary, chunks", (MULTIPART,), part_length=False, closing_boundary=False, framing="chunked"),
    _damage("gzip cut off", truncate_after_bytes=20_000, gzip="always"),
    # -- bodies that are something else
    _damage("nothing with 200", corrupt="empty"),
    _damage("HTML with 200", corrupt="html"),
    _damage("another instance", corrupt="other_instance"),
    _damage("transcoded", corrupt="transcoded"),
    _damage("206 of everything, unasked", unasked_206="bare"),
    _damage("206 of a half, unasked", (SINGLE,), unasked_206="half"),
    # -- redirects
    Fault("redirect within the host", 0, {"redirect": 307}, BOTH),
    Fault("redirect in circles", errno.EIO, {"redirect": 302, "redirect_again": True}),
    Fault("redirect to where nobody is", errno.EHOSTUNREACH, {"redirect": 302, "redirect_to": "http://127.0.0.1:9"}),
    # -- connections
    Fault("one connection closed", 0, {"refuse_next": 1}, BOTH),
    Fault("closed before the first byte", errno.EHOSTUNREACH, {"refuse_always": "close"}),
    Fault("reset before the first byte", errno.EHOSTUNREACH, {"refuse_always": "reset"}),
    Fault("hangs before the headers", errno.ETIMEDOUT, {"latency_seconds": 600}),
    Fault("hangs after the headers", errno.ETIMEDOUT, {"stall_after_bytes": 0}),
    Fault("hangs in mid-file", errno.ETIMEDOUT, {"stall_after_bytes": 70_000}, BOTH),
    Fault("drips", errno.ETIMEDOUT, {"drip_after_bytes": 10}),
    # -- what only looks wrong
    Fault("gzip, unasked", 0, {"gzip": "always"}, BOTH),
    Fault("no length, chunks", 0, {"framing": "chunked", "part_length": False}, BOTH),
    Fault("no framing but the boundary", 0, {"framing": "close", "part_length": False}),
    Fault("an unquoted boundary in pieces", 0, {"boundary": "unquoted", "chunk_bytes": 701}),
    Fault("no boundary told", 0, {"boundary": "missing", "multipart_preamble": True}),
    Fault("faults that pass", 0, {"fail_next": [503, 0, 500, 429], "fail_body": "array"}),
)


def _listing(name: str, expected: int, **knobs: Any) -> Fault:
    return Fault(name, expected, knobs)


LISTING_FAULTS = (
    *(
        fault
        for fault in FAULTS
        if "fail_always" in fault.knobs and fault.name.startswith(("401", "403 e", "404", "429"))
    ),
    _status(204, errno.ESTALE),
    _status(502, errno.EHOSTUNREACH, "empty"),
    _listing("quota spent", errno.EDQUOT, quota_bytes=0),
    _listing("HTML with 200", errno.EIO, fail_always=200, fail_body="html"),
    _listing("cut off", errno.EIO, truncate_after_bytes=20),
    _listing("JSON that ends early", errno.EIO, truncate_after_bytes=20, truncate_ending="clean"),
    _listing("reset before the first byte", errno.EHOSTUNREACH, refuse_always="reset"),
    _listing("hangs", errno.ETIMEDOUT, stall_after_bytes=0),
    _listing("drips", errno.ETIMEDOUT, drip_after_bytes=10),
    _listing("one connection closed", 0, refuse_next=1),
    _listing("gzip", 0, gzip="always"),
    _listing("redirect", 0, redirect=307),
)
"""The same of lists of instances."""


def _bucket(name: str, expected: int, **knobs: Any) -> Fault:
    return Fault(name, expected, knobs)


BUCKET_FAULTS = (
    _bucket("SlowDown", errno.EHOSTUNREACH, fail_always=503, fail_body="xml"),
    _bucket("InternalError", errno.EHOSTUNREACH, fail_always=500, fail_body="xml"),
    _bucket("429 with a page", errno.EHOSTUNREACH, fail_always=429, fail_body="html"),
    _bucket("AccessDenied", errno.EACCES, fail_always=403, fail_body="xml"),
    _bucket("NoSuchKey", errno.ESTALE, fail_always=404, fail_body="xml"),
    _bucket("SlowDown once", 0, fail_next=[503], fail_body="xml"),
    _bucket("cut in the middle of chunks", errno.EIO, truncate_after_bytes=70_000, framing="chunked"),
    _bucket("no framing at all, cut", errno.EIO, truncate_after_bytes=70_000, framing="close"),
    _bucket("reset after the first byte", errno.EIO, truncate_after_bytes=1, truncate_ending="reset"),
    _bucket("length too large", errno.EIO, length_error=10),
    _bucket("length too small", errno.EIO, length_error=-10),
    _bucket("nothing with 200", errno.EIO, corrupt="empty"),
    _bucket("HTML with 200", errno.EIO, corrupt="html"),
    _bucket("another instance", errno.EIO, corrupt="other_instance"),
    _bucket("transcoded", errno.EIO, corrupt="transcoded"),
    _bucket("206 of everything, unasked", errno.EIO, unasked_206="bare"),
    _bucket("206 of a half, unasked", errno.EIO, unasked_206="half"),
    _bucket("gzip, unasked", 0, gzip="always"),
    _bucket("redirect", 0, redirect=307),
    _bucket("redirect in circles", errno.EIO, redirect=307, redirect_again=True),
    _bucket("reset before the first byte", errno.EHOSTUNREACH, refuse_always="reset"),
    _bucket("hangs", errno.ETIMEDOUT, stall_after_bytes=0),
    _bucket("drips", errno.ETIMEDOUT, drip_after_bytes=10),
)
"""What a bucket does wrong to an object, where nothing stands behind it."""

BUCKET_LISTING_FAULTS = (
    _bucket("SlowDown", errno.EHOSTUNREACH, fail_always=503, fail_body="xml"),
    _bucket("AccessDenied", errno.EACCES, fail_always=403, fail_body="xml"),
    _bucket("cut off", errno.EIO, truncate_after_bytes=300),
    _bucket("XML that ends early", errno.EIO, truncate_after_bytes=300, truncate_ending="clean"),
    _bucket("more, but not how", errno.EIO, listing_style="no_token"),
    _bucket("in a loop", errno.EIO, listing_style="loop"),
    _bucket("of another folder", errno.ESTALE, listing_style="other_keys"),
    _bucket("without its only key", errno.ESTALE, listing_style="lacking"),
    _bucket("HTML with 200", errno.EIO, fail_always=200, fail_body="html"),
    _bucket("hangs", errno.ETIMEDOUT, stall_after_bytes=0),
)
"""What a bucket lists of a series of one instance."""

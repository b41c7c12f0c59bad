"""Every habit of a real archive that a client has to survive, as one frozen value.

The defaults make a friendly archive with the habits of Google's. ``PROFILES`` names the
habits of other servers, to start from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Knobs:
    """The twin's behaviour. A field that begins with ``qido_`` touches listings only."""

    match: str = ""
    """Only requests whose path and query contain this are treated by the knobs; all others by the defaults. Instances:
    ``/instances/``; objects of a bucket: ``.dcm``; listings of a bucket: ``list-type``; both: ``/bucket/``."""

    # -- time -------------------------------------------------------------------------------------------------------
    latency_seconds: float = 0.0
    """Before the first byte of an answer. A round trip to the proxy is 40–80 ms; Orthanc buffers whole bodies first."""
    bytes_per_second: float = 0.0
    """Throttle of each body; 0 is none. One connection to Google gives some 30 MB/s."""
    chunk_bytes: int = 256 * 1024
    """Size of one write of a body."""
    stall_after_bytes: int | None = None
    """Silence after so many bytes of a body: a dead peer behind a live connection."""
    drip_after_bytes: int | None = None
    """One byte a second after so many bytes: progress that is none: under 64 KiB per timeout."""
    keepalive_seconds: float = 60.0
    """Idle connections are closed after this; Orthanc: 1.0 (it races a client's pool)."""

    # -- forms of WADO-RS -------------------------------------------------------------------------------------------
    single_part: bool = True
    """``application/dicom`` is served for instances; dcm4chee and Orthanc know multipart only."""
    multipart: bool = True
    """``multipart/related`` is served; static files know single part only."""
    refused_form_status: int = 406
    """Answer to an Accept that fits nothing; Google's 400 can mean 406."""
    single_first_status: int = 0
    """Answer when ``application/dicom`` comes first in Accept, whatever follows; Orthanc: 400. 0: no such habit."""
    strict_quotes: bool = False
    """406 unless the ``type`` value, and only it, is quoted (Google)."""
    ignore_accept: bool = False
    """Always answer multipart, even to who wants a single part (Orthanc to ``*/*``, seen in the wild)."""
    boundary: str = "quoted"
    """How Content-Type names the boundary: ``quoted``, ``unquoted`` or ``missing`` (all met in the wild)."""
    part_length: bool = True
    """Part headers carry Content-Length (Orthanc); Google's and dcm4chee's do not promise it."""
    part_length_error: int = 0
    """By so many bytes that length is wrong: too large, or if negative too small."""
    closing_boundary: bool = True
    """Multipart bodies end with their closing boundary; otherwise they are well framed and lack it."""
    multipart_preamble: bool = False
    """Text before the first boundary and after the last one, which RFC 2046 allows and parsers must skip."""
    framing: str = "length"
    """Of instances and objects: ``length`` (Content-Length), ``chunked``, or ``close`` (ends with the connection)."""
    length_error: int = 0
    """By so many bytes Content-Length of an instance or object is wrong. Too large: the connection ends where bytes are
    missing. Negative, too small: what it leaves out comes nevertheless."""
    series_framing: str = "chunked"
    """Of series and study bodies; Orthanc: ``close``, only the closing boundary shows that it is whole."""
    ranges: bool = False
    """Range is honoured on single parts with 206 and Content-Range; nobody documents it for WADO-RS."""
    range_style: str = "right"
    """Of single parts and of objects: ``right``; ``shifted`` (206 of another range, truthfully labelled); ``short``
    (206 of half of the range, truthfully labelled, as RFC 9110 allows); ``bare`` (206 with the whole body and without
    Content-Range: dcm4chee's *partial result*); ``resized`` (206 that names another size of the whole); ``ignored``
    (200 with the whole body, though ranges are known); ``slipped`` (206 labelled as asked for, but of bytes 7 further
    to the front, if it begins at ``slip_offset`` or later)."""
    slip_offset: int = 10_000_000
    """From which byte on ``slipped`` ranges are."""
    unasked_206: str = ""
    """206 to who asked for no range: ``bare`` (the whole body, without Content-Range) or ``half`` (of a single part the
    first half, truthfully labelled)."""
    head: bool = False
    """HEAD is answered like GET without a body; otherwise 404 (Orthanc)."""
    etag: bool = False
    """Instances carry an ETag."""
    gzip: str = "never"
    """Content-Encoding gzip: ``never``, ``asked`` (Orthanc: 35 times slower), or ``always`` (rude)."""
    storage_info: bool = False
    """``:getStorageInfo`` answers the stored size (Google, to who may); otherwise 404 (proxy)."""
    rendered_status: int = 0
    """Answer to ``/rendered``: 501, or 406, of who renders nothing; 0: a picture of what has pixels, else 406."""
    rendition: str = "right"
    """Of ``/rendered`` and ``/metadata``: ``right``; ``html`` (200 with a page for people); ``empty`` (200 with
    nothing); ``other`` (JPEG for PNG and the reverse; metadata of a sibling); ``lacking`` (a picture without its end;
    metadata without the last instance); ``padded`` (zeros follow a picture, blanks metadata); ``object`` (metadata that
    are no list); ``multipart`` (of one part)."""
    rendition_padding_bytes: int = 0
    """How many follow."""

    # -- transfer syntax --------------------------------------------------------------------------------------------
    transcode_without_star: bool = True
    """Without ``transfer-syntax=*`` what is not Explicit VR Little Endian comes back re-encoded as that (Google)."""
    strip_star: bool = False
    """``transfer-syntax=*`` is dropped on the way (the proxy, for huge studies): transcoded bytes, silently."""

    # -- QIDO-RS ----------------------------------------------------------------------------------------------------
    qido_default_limit: int | None = None
    """Items a page when no limit is given; None is Google's: 100 studies or series, 1,000 instances."""
    qido_max_limit: int | None = None
    """Most items a page; None is Google's: 5,000 studies or series, 50,000 instances. Microsoft: 200."""
    qido_over_limit: str = "cap"
    """A limit above the maximum: ``cap`` (silently, no Warning header) or ``400``."""
    qido_order: str = "stored"
    """``stored``, ``sorted`` by UID, or ``shuffled`` (but the same on every page): no order is documented."""
    qido_duplicates: int = 0
    """Every so many-th item is listed twice; Orthanc lists a study once per patient."""
    qido_ignore_offset: bool = False
    """Every page is the first one."""
    qido_ignore_limit: bool = False
    """Everything in one page (Orthanc without a limit)."""
    qido_ignore_filters: bool = False
    """Query filters are ignored and *everything* is returned."""
    qido_unknown_filter: str = "400"
    """A filter on an attribute that cannot be searched: ``400`` (Google) or ``ignore`` (Orthanc)."""
    qido_empty: str = "204"
    """No match: ``204`` (Google, dcm4chee, Microsoft), ``[]`` (Orthanc), or ``empty`` (200 without a body)."""
    qido_dict: bool = False
    """A lone match is a dict instead of a list of one (clients met that)."""
    qido_hidden: tuple[str, ...] = ()
    """UIDs (study, series or instance) that listings leave out."""

    # -- buckets ----------------------------------------------------------------------------------------------------
    listing_page_keys: int = 1_000
    """Most keys a page of a bucket's listing."""
    listing_style: str = "right"
    """``right``; ``no_token`` (a page that is truncated, and does not say how to go on); ``loop`` (the first page again
    and again, each with a token for more); ``wrong_sizes`` (each one byte too large); ``other_keys`` (keys of another
    folder); ``lacking`` (without the last key)."""

    # -- refusals ---------------------------------------------------------------------------------------------------
    missing: tuple[str, ...] = ()
    """UIDs (study, series or instance; of what is in a bucket, UUIDs) that are listed and cannot be retrieved: of
    another release."""
    missing_status: int = 404
    """How that is said: 204 (proxy), 404, or 410."""
    fail_next: tuple[int, ...] = ()
    """Statuses of the next answers, one each; 0 lets one request through."""
    fail_always: int = 0
    """Status of every answer; 0 is none. 401 and 403 make an archive that wants a login."""
    fail_body: str = "json"
    """What such an answer carries: ``json``, ``array`` (Google's ``[{"error": …}]``), ``html``, ``xml`` (S3's
    ``<Error><Code>SlowDown…``), or ``empty`` (Google's 429 arrives through the proxy as an empty 500)."""
    retry_after: str = ""
    """Retry-After of such an answer, and of a spent quota: seconds or an HTTP date."""
    refuse_next: int = 0
    """So many next connections are closed before the first byte of an answer."""
    refuse_always: str = ""
    """Every connection ends before the first byte of an answer: ``close``, or ``reset`` (rudely)."""
    bearer_tokens: tuple[str, ...] = ()
    """If any: 401 to requests that carry none of these tokens."""
    quota_bytes: int | None = None
    """Body bytes of a day; after that 429 with an HTML body (proxy)."""
    quota_cuts: bool = False
    """The body in which the quota runs out ends there, with its connection."""
    max_response_bytes: int | None = None
    """A platform's cap on one body; App Engine: 32 MiB."""
    max_response_action: str = "500"
    """Above the cap: an empty ``500``, or ``cut`` (the body ends there with the connection)."""
    redirect: int = 0
    """Status (302, 307, …) of a redirect to the same address with ``_redirected=1`` (dcm4chee may); 0 is none."""
    redirect_to: str = ""
    """Where to instead: scheme, host and port of another server."""
    redirect_again: bool = False
    """Who comes from there is sent on, in circles."""

    # -- damage -----------------------------------------------------------------------------------------------------
    truncate_after_bytes: int | None = None
    """Bodies end after so many bytes."""
    truncate_tenths: bool = False
    """Instances and objects end after as many tenths as the last digit of their InstanceNumber says; 0: they do not."""
    truncate_ending: str = "close"
    """How: ``close`` (the connection, mid-body), ``reset`` (rudely), ``clean`` (a well-framed short body), or
    ``boundary`` (a well-framed short body with the closing boundary behind it)."""
    corrupt: str = ""
    """Of instances and objects: ``other_instance`` (a sibling's bytes), ``transcoded`` (as Implicit VR Little Endian,
    the pixels the same), ``flip`` (one byte), ``zero_preamble`` (Microsoft; harmless but other bytes), ``html`` (200
    with an HTML page), ``empty`` (200 with an empty body). Empty string: none."""
    corrupt_offset: int = 1000
    """Offset in the instance, in bytes, of the byte that ``flip`` inverts."""

    def for_target(self, target: str) -> Knobs:
        """The knobs a request to ``target``, a path and a query, is treated by."""
        return self if self.match in target else DEFAULTS


DEFAULTS = Knobs()

_CHOICES = {
    "boundary": {"quoted", "unquoted", "missing"},
    "rendition": {"right", "html", "empty", "other", "lacking", "padded", "object", "multipart"},
    "framing": {"length", "chunked", "close"},
    "series_framing": {"length", "chunked", "close"},
    "range_style": {"right", "shifted", "short", "bare", "resized", "ignored", "slipped"},
    "unasked_206": {"", "bare", "half"},
    "gzip": {"never", "asked", "always"},
    "qido_over_limit": {"cap", "400"},
    "qido_order": {"stored", "sorted", "shuffled"},
    "qido_unknown_filter": {"400", "ignore"},
    "qido_empty": {"204", "[]", "empty"},
    "listing_style": {"right", "no_token", "loop", "wrong_sizes", "other_keys", "lacking"},
    "refuse_always": {"", "close", "reset"},
    "fail_body": {"json", "array", "html", "xml", "empty"},
    "max_response_action": {"500", "cut"},
    "truncate_ending": {"close", "reset", "clean", "boundary"},
    "corrupt": {"", "other_instance", "transcoded", "flip", "zero_preamble", "html", "empty"},
}

PROFILES: dict[str, dict[str, Any]] = {
    "google": {"part_length": False, "strict_quotes": True, "fail_body": "array"},
    "proxy": {
        "part_length": False,
        "strict_quotes": True,
        "fail_body": "empty",
        "max_response_bytes": 32 * 1024 * 1024,
    },
    "orthanc": {
        "single_first_status": 400,
        "single_part": False,
        "series_framing": "close",
        "keepalive_seconds": 1.0,
        "qido_empty": "[]",
        "qido_unknown_filter": "ignore",
        "qido_default_limit": 1_000_000_000,
        "qido_max_limit": 1_000_000_000,
        "gzip": "asked",
    },
    "dcm4chee": {"single_part": False, "part_length": False, "framing": "chunked"},
    "microsoft": {"corrupt": "zero_preamble", "qido_max_limit": 200, "qido_over_limit": "400"},
    "static": {"multipart": False, "ranges": True, "head": True, "etag": True, "transcode_without_star": False},
}
"""Habits of real servers, as measured or documented."""


def parse_knobs(values: Mapping[str, Any], base: Knobs = DEFAULTS) -> Knobs:
    """``base`` with ``values`` over it; the key ``profile`` names a profile to put in between.

    Raises ValueError for an unknown name or a value that is none of the choices.
    """
    merged = dict(values)
    profile = merged.pop("profile", None)
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"no such profile: {profile}")
        merged = PROFILES[profile] | merged
    unknown = set(merged) - {field.name for field in fields(Knobs)}
    if unknown:
        raise ValueError(f"no such knobs: {', '.join(sorted(unknown))}")
    for name, value in merged.items():
        if isinstance(value, list | set | frozenset):
            merged[name] = tuple(value)
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"{name} cannot be {value!r}; it is one of {sorted(_CHOICES[name])}")
    return replace(base, **merged)


def knobs_json(knobs: Knobs) -> bytes:
    """The knobs as JSON."""
    return json.dumps(asdict(knobs)).encode()

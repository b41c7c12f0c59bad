"""The IDC buckets: anonymous listings and objects, as S3 answers them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from xml.sax.saxutils import escape

from starlette.datastructures import QueryParams

from tests.twin.content import content_of
from tests.twin.knobs import Knobs
from tests.twin.model import Holdings, Instance
from tests.twin.reply import Reply, bytes_reply, html_reply, xml_error_reply
from tests.twin.wado import ranged


def listing(holdings: Holdings, bucket: str, params: QueryParams, knobs: Knobs) -> Reply:
    """``?list-type=2&prefix={crdc_series_uuid}/``: keys in order, the zero-byte marker of the folder first."""
    prefix = params.get("prefix", "")
    series = holdings.by_uuid(prefix.partition("/")[0])
    objects = [] if series is None or series.aws_bucket != bucket else _objects(holdings.instances(series))
    keys = _styled(sorted((key, size) for key, size in objects if key.startswith(prefix)), knobs.listing_style)
    start = 0 if knobs.listing_style == "loop" else _position(params.get("continuation-token"))
    most = knobs.listing_page_keys
    page = keys[start : start + min(most, int(params.get("max-keys", most)))]
    total = len(keys) + (knobs.listing_style in ("loop", "no_token"))  # there seems to be one more, always
    body = _xml(bucket, prefix, page, start + len(page), total, tell_token=knobs.listing_style != "no_token")
    return bytes_reply(200, body, "application/xml")


def stored_object(holdings: Holdings, bucket: str, key: str, byte_range: str, knobs: Knobs) -> Reply:
    """``{crdc_series_uuid}/{crdc_instance_uuid}.dcm``, whole or a range of it."""
    folder, _, name = key.partition("/")
    series = holdings.by_uuid(folder)
    if series is None or series.aws_bucket != bucket:
        return _no_such_key(key)
    if not name:
        return Reply(200, media_type="application/x-directory")
    uuid = name.removesuffix(".dcm")
    instance = holdings.stored(series, uuid)
    if instance is None or {folder, uuid} & set(knobs.missing):
        return _no_such_key(key)
    if knobs.corrupt == "html":
        return html_reply(200, "Sign in to continue")
    if knobs.corrupt == "empty":
        return Reply(200, media_type="application/dicom")
    content = content_of(holdings, instance, knobs)
    reply = ranged(content.span, content.size, byte_range, knobs)
    headers = reply.headers | {"ETag": f'"{_etag(instance)}"'}
    reply = replace(reply, headers=headers, framing=knobs.framing, is_dicom=True, number=instance.number)
    return replace(reply, media_type="application/dicom")


def _styled(keys: list[tuple[str, int]], style: str) -> list[tuple[str, int]]:
    """The keys as ``Knobs.listing_style`` wants them told."""
    if style == "wrong_sizes":
        return [(key, size + 1 if size else 0) for key, size in keys]
    if style == "other_keys":
        return [(f"other/{key}", size) for key, size in keys]
    return keys[:-1] if style == "lacking" else keys


def _objects(instances: Sequence[Instance]) -> list[tuple[str, int]]:
    folder = f"{instances[0].series.crdc_series_uuid}/"
    return [(folder, 0), *((f"{folder}{i.crdc_instance_uuid}.dcm", i.size_bytes) for i in instances)]


def _position(token: str | None) -> int:
    return int(base64.urlsafe_b64decode(token).decode()) if token else 0


def _xml(bucket: str, prefix: str, page: Sequence[tuple[str, int]], end: int, total: int, *, tell_token: bool) -> bytes:
    token = base64.urlsafe_b64encode(str(end).encode()).decode()
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if end < total and tell_token else ""
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key, size in page
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>{str(end < total).lower()}</IsTruncated>{more}{contents}"
        "</ListBucketResult>"
    ).encode()


def _etag(instance: Instance) -> str:
    """Looks like an MD5 and is none, as after a multi-part upload."""
    return hashlib.blake2b(instance.crdc_instance_uuid.encode(), digest_size=16).hexdigest() + "-2"


def _no_such_key(key: str) -> Reply:
    return xml_error_reply(404, f"The specified key does not exist: {escape(key)}")

"""The IDC buckets: anonymous listings and objects, as S3 answers them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from xml.sax.saxutils import escape

from starlette.datastructures import QueryParams

from tests.twin.model import Holdings, Instance
from tests.twin.reply import Reply, bytes_reply, instance_chunks
from tests.twin.wado import ranged

PAGE_KEYS = 1_000
"""Most keys a page of ListObjectsV2."""


def listing(holdings: Holdings, bucket: str, params: QueryParams) -> Reply:
    """``?list-type=2&prefix={crdc_series_uuid}/``: keys in order, the zero-byte marker of the folder first."""
    prefix = params.get("prefix", "")
    series = holdings.by_uuid(prefix.partition("/")[0])
    objects = [] if series is None or series.aws_bucket != bucket else _objects(holdings.instances(series))
    keys = sorted((key, size) for key, size in objects if key.startswith(prefix))
    start = _position(params.get("continuation-token"))
    page = keys[start : start + min(PAGE_KEYS, int(params.get("max-keys", PAGE_KEYS)))]
    return bytes_reply(200, _xml(bucket, prefix, page, start + len(page), len(keys)), "application/xml")


def stored_object(holdings: Holdings, bucket: str, key: str, byte_range: str) -> Reply:
    """``{crdc_series_uuid}/{crdc_instance_uuid}.dcm``, whole or a range of it."""
    folder, _, name = key.partition("/")
    series = holdings.by_uuid(folder)
    if series is None or series.aws_bucket != bucket:
        return _no_such_key(key)
    if not name:
        return Reply(200, media_type="application/x-directory")
    uuid = name.removesuffix(".dcm")
    instance = holdings.stored(series, uuid)
    if instance is None:
        return _no_such_key(key)
    reply = ranged(partial(instance_chunks, instance), instance.size_bytes, byte_range)
    etag = {"ETag": f'"{_etag(instance)}"'}
    return replace(reply, media_type="application/dicom", headers=reply.headers | etag, is_dicom=True)


def _objects(instances: Sequence[Instance]) -> list[tuple[str, int]]:
    folder = f"{instances[0].series.crdc_series_uuid}/"
    return [(folder, 0), *((f"{folder}{i.crdc_instance_uuid}.dcm", i.size_bytes) for i in instances)]


def _position(token: str | None) -> int:
    return int(base64.urlsafe_b64decode(token).decode()) if token else 0


def _xml(bucket: str, prefix: str, page: Sequence[tuple[str, int]], end: int, total: int) -> bytes:
    token = base64.urlsafe_b64encode(str(end).encode()).decode()
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if end < total else ""
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key, size in page
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
        f"<MaxKeys>{PAGE_KEYS}</MaxKeys><IsTruncated>{str(end < total).lower()}</IsTruncated>{more}{contents}"
        "</ListBucketResult>"
    ).encode()


def _etag(instance: Instance) -> str:
    """Looks like an MD5 and is none, as after a multi-part upload."""
    return hashlib.blake2b(instance.crdc_instance_uuid.encode(), digest_size=16).hexdigest() + "-2"


def _no_such_key(key: str) -> Reply:
    body = f"<Error><Code>NoSuchKey</Code><Key>{escape(key)}</Key></Error>".encode()
    return bytes_reply(404, body, "application/xml")

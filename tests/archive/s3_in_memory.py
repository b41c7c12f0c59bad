"""An S3 in memory, with its habits, and the archive over it."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

import httpx
import trio

from idcfs.archive.bucket import BucketArchive
from idcfs.archive.inventory import Inventory
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, BucketSettings, TransportSettings
from idcfs.stats import Stats
from tests.content.scripted import dicom

FOLDER = "6cc0e1a2"
TIMEOUT = 30.0


@dataclass(frozen=True)
class Key:
    series_uid: str = "1.2.3"
    instance_uid: str = "1.2.3.0"
    content: str = FOLDER
    bucket: str = "idc-open-data"
    instances: int | None = None


@dataclass
class Bucket:
    """An S3: objects by key, and its habits."""

    objects: dict[str, bytes]
    page_keys: int = 1_000
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Of keys that are listed with another size than they have."""
    knows_ranges: bool = True
    page: bytes | None = None
    """Answered to every listing."""
    tokens: bool = True
    listings: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(key, range) of every object asked for."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        _, _, key = request.url.path.removeprefix("/").partition("/")
        if not key:
            self.listings += 1
            params = request.url.params
            return httpx.Response(
                200, content=self.page or self._page(params["prefix"], params.get("continuation-token"))
            )
        self.asked.append((key, request.headers.get("range", "")))
        if key not in self.objects:
            return httpx.Response(404, content=b"<Error><Code>NoSuchKey</Code></Error>")
        return self._object(self.objects[key], request.headers.get("range"))

    def _object(self, data: bytes, asked: str | None) -> httpx.Response:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if match is None or not self.knows_ranges:
            return httpx.Response(200, content=data, headers={"Content-Type": "binary/octet-stream"})
        start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else len(data), len(data))
        if start >= len(data):
            return httpx.Response(416)
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}", "Content-Type": "binary/octet-stream"}
        return httpx.Response(206, content=data[start:stop], headers=headers)

    def _page(self, prefix: str, token: str | None) -> bytes:
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        start = int(base64.b64decode(token)) if token else 0
        end = start + self.page_keys
        return page_of(
            [(key, self.sizes.get(key, len(self.objects[key]))) for key in keys[start:end]],
            more=end < len(keys),
            token=base64.b64encode(str(end).encode()).decode() if self.tokens else "",
        )


def page_of(entries: Sequence[tuple[str, int | str]], *, more: bool = False, token: str = "") -> bytes:
    contents = "".join(f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size></Contents>" for key, size in entries)
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if more and token else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{contents}</ListBucketResult>"
    ).encode()


class Kept:
    """Remembers in memory."""

    def __init__(self) -> None:
        self.lines: dict[str, tuple[str, ...]] = {}

    async def load_objects(self, content: str) -> tuple[str, ...] | None:
        await trio.lowlevel.checkpoint()
        return self.lines.get(content)

    def remember_objects(self, content: str, lines: Sequence[str]) -> None:
        self.lines[content] = tuple(lines)


@dataclass
class Setup:
    archive: BucketArchive
    inventory: Inventory
    kept: Kept
    told: dict[str, Mapping[str, int]]


@asynccontextmanager
async def archive_of(server: Bucket, kept: Kept | None = None) -> AsyncIterator[Setup]:
    kept = kept or Kept()
    told: dict[str, Mapping[str, int]] = {}
    transports: list[Transport] = []

    def transport_to(archive: ArchiveSettings) -> Transport:
        assert archive.base_url == "http://mock/idc-open-data"
        settings = TransportSettings(max_attempts=1)
        transports.append(Transport(archive, settings, Stats(), wire=httpx.MockTransport(server)))
        return transports[-1]

    async with trio.open_nursery() as nursery:
        settings = BucketSettings("mock", "http://mock/{bucket}")
        inventory = Inventory(settings, transport_to, TIMEOUT, kept, told.__setitem__, nursery)
        yield Setup(BucketArchive(inventory), inventory, kept, told)
    for transport in transports:
        await transport.__aexit__(None, None, None)


def files(count: int) -> dict[str, bytes]:
    """Objects of instances 1.2.3.0, 1.2.3.1, …, in another order of names, each of its own size."""
    names = [f"{FOLDER}/{(7 * number) % 997:08x}-{number}.dcm" for number in range(count)]
    return {name: dicom(f"1.2.3.{number}", 2_000 + number) for number, name in enumerate(names)}


async def content(setup: Setup, key: Key, start: int = 0, stop: int | None = None) -> bytes:
    async with setup.archive.fetch(key, start, stop) as body:
        return b"".join([chunk async for chunk in body])

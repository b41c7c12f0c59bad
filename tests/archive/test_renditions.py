"""What an archive makes of what it stores is believed only if it is what was asked for, to its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from idcfs.archive.renditions import DicomwebRenditions
from idcfs.archive.transport import Transport
from idcfs.errors import Damaged, Gone, IdcfsError, NotOffered, Refused
from idcfs.settings import DICOM_JSON, JPEG, MIB, PNG, ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.twin.rendered import picture

SERIES = ("1.2", "1.2.3")
INSTANCE = (*SERIES, "1.2.3.4")


@asynccontextmanager
async def answering(status: int = 200, body: bytes = b"", content_type: str = "") -> AsyncIterator[DicomwebRenditions]:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"Content-Type": content_type})

    settings = ArchiveSettings(name="mock", base_url="http://mock")
    async with Transport(settings, TransportSettings(), Stats(), wire=httpx.MockTransport(handler)) as transport:
        yield DicomwebRenditions(transport)


def item(uid: str = "1.2.3.4", series: str = "1.2.3", more: dict[str, object] | None = None) -> dict[str, Any]:
    named = {"00080018": {"vr": "UI", "Value": [uid]}, "0020000E": {"vr": "UI", "Value": [series]}}
    return named | {tag: {"vr": "IS", "Value": [value]} for tag, value in (more or {}).items()}


NESTED = {"00081115": {"vr": "SQ", "Value": [item("9.9", "9.8")]}, "00280030": {"vr": "DS", "Value": [0.5, 0.5]}}


@pytest.mark.parametrize(
    ("items", "frames"),
    [
        ([item()], {"1.2.3.4": 1}),
        ([item() | NESTED], {"1.2.3.4": 1}),
        ([item("1.2.3.4\0")], {"1.2.3.4": 1}),
        ([item(more={"00280008": "17"})], {"1.2.3.4": 17}),
        ([item(more={"00280008": 17})], {"1.2.3.4": 17}),
        ([item(more={"00280008": -1})], {"1.2.3.4": 1}),
        ([item(more={"00280008": "many"})], {"1.2.3.4": 1}),
        ([item(), item("5.6")], {"1.2.3.4": 1, "5.6": 1}),
    ],
)
@pytest.mark.parametrize("blanks", [0, 2 * MIB])  # beyond 1 MiB it is looked at in a thread
async def test_metadata(items: list[Any], frames: dict[str, int], blanks: int) -> None:
    body = json.dumps(items).encode() + b" " * blanks
    async with answering(body=body, content_type=DICOM_JSON) as archive:
        assert await archive.metadata(*SERIES) == (body, frames)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", Gone),
        (b"[]", Gone),
        (b"null", Refused),
        (b"1", Refused),
        (b"<html>", Refused),
        (b"[" * 100_000, Refused),
        (b"[1]", Refused),
        (b"[[]]", Refused),
        (b"\xff", Refused),
        (json.dumps(item()).encode(), Refused),
        (json.dumps([{}]).encode(), Damaged),
        (json.dumps([item("9.9")]).encode(), Damaged),
        (json.dumps([item(series="9.9")]).encode(), Damaged),
        (json.dumps([item("../x")]).encode(), Damaged),
        (json.dumps([item(), item("9.9")]).encode(), Damaged),
        (json.dumps([item(), item()]).encode(), Damaged),
        (json.dumps([{**item(), "0020000E": {"vr": "UI"}}]).encode(), Damaged),
        (json.dumps([{**item(), "00080018": 5}]).encode(), Damaged),
    ],
)
async def test_metadata_of_something_else(answer: bytes, error: type[IdcfsError]) -> None:
    async with answering(body=answer, content_type=DICOM_JSON) as archive:
        with pytest.raises(error):
            await archive.metadata(*INSTANCE)


@pytest.mark.parametrize("media_type", [PNG, JPEG])
async def test_a_picture_is_of_the_type_asked_for_and_has_its_end(media_type: str) -> None:
    right = picture("1.2.3.4", 1, media_type)
    other = picture("1.2.3.4", 1, {PNG: JPEG, JPEG: PNG}[media_type])
    async with answering(body=right, content_type="") as archive:
        assert await archive.rendered(*INSTANCE, media_type) == right
    async with answering(body=right + b"\0", content_type=media_type) as archive:
        assert await archive.rendered(*INSTANCE, media_type, 3) == right + b"\0"
    for body in (other, b"<html>", b"x" + right, b"\0"):
        async with answering(body=body, content_type=media_type) as archive:
            with pytest.raises(Refused):
                await archive.rendered(*INSTANCE, media_type)
    for stop in range(10, len(right)):
        async with answering(body=right[:stop], content_type=media_type) as archive:
            with pytest.raises(Damaged):
                await archive.rendered(*INSTANCE, media_type)


@pytest.mark.parametrize(
    ("parts", "error"), [([b"a", b"b"], Damaged), ([], Damaged), ([picture("1.2", 1, PNG)], None)], ids=str
)
async def test_one_part_is_taken_and_no_other_number(parts: list[bytes], error: type[IdcfsError] | None) -> None:
    wrapped = b"".join(b"--x\r\nContent-Type: image/png\r\n\r\n" + part + b"\r\n" for part in parts) + b"--x--"
    async with answering(body=wrapped, content_type="Multipart/related; boundary=x") as archive:
        if error is None:
            assert await archive.rendered(*INSTANCE, PNG) == parts[0]
        else:
            with pytest.raises(error):
                await archive.rendered(*INSTANCE, PNG)


async def test_what_is_not_offered_is_told_once_for_each_type_and_status() -> None:
    async with answering(501) as archive:
        told = []
        for media_type in (PNG, PNG, JPEG):
            with pytest.raises(NotOffered) as caught:
                await archive.rendered(*INSTANCE, media_type)
            told.append(not caught.value.reported)
    assert told == [True, False, True]


@pytest.mark.parametrize("uid", ["", "..", "%2e%2e", "1/2"])
async def test_what_is_no_uid_never_reaches_the_archive(uid: str) -> None:
    async with answering() as archive:
        for call in (
            archive.metadata("1.2", uid),
            archive.metadata(uid, "1.2"),
            archive.rendered("1.2", "1.2.3", uid, PNG),
        ):
            with pytest.raises(Refused, match="no DICOM UID"):
                await call

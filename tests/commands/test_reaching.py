"""Checks that ask somebody: what answers is not always an archive, or a bucket."""

from __future__ import annotations

import pytest

from idcfs.commands import reaching
from idcfs.settings import ArchiveSettings
from tests.archive.scripted import http, serving


@pytest.mark.parametrize(
    ("body", "state", "said"),
    [
        (b"[]", "ok", "scripted answers"),
        (b"", "ok", "scripted answers"),
        (b"null", "fail", "scripted did not answer with a list of DICOM JSON objects, but with null"),
        (b"{}", "fail", "scripted did not answer with a list of DICOM JSON objects, but with an object"),
        (b"[1]", "fail", "scripted did not answer with a list of DICOM JSON objects, but of other things"),
        (b"<html>", "fail", "scripted did not answer with JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)
async def test_what_answers_is_an_archive(body: bytes, state: str, said: str) -> None:
    async with serving(http(200, body)) as server:
        (found,) = await reaching._archive(ArchiveSettings("scripted", server.url))
    assert (found.state, found.said.replace("/series", "")) == (state, said)


@pytest.mark.parametrize(
    ("body", "state"), [(b"<ListBucketResult/>", "ok"), (b"<html></html>", "warn"), (b"<!DOCTYPE html>", "warn")]
)
async def test_what_answers_is_a_bucket(body: bytes, state: str) -> None:
    async with serving(http(200, body)) as server:
        found = await reaching._bucket(ArchiveSettings("scripted", server.url))
    assert found.state == state

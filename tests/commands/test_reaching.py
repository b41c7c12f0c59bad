"""Checks that ask somebody: what answers is not always an archive, or a bucket."""

from __future__ import annotations

import pytest

from idcfs.commands import reaching
from idcfs.settings import ArchiveSettings
from tests.archive.scripted import http, serving


@pytest.mark.parametrize(
    ("body", "state"), [(b"[]", "ok"), (b"", "ok"), (b"{}", "fail"), (b"[1]", "fail"), (b"<html>", "fail")]
)
async def test_what_answers_is_an_archive(body: bytes, state: str) -> None:
    async with serving(http(200, body)) as server:
        (found,) = await reaching._archive(ArchiveSettings("scripted", server.url))
    assert found.state == state


@pytest.mark.parametrize(
    ("body", "state"), [(b"<ListBucketResult/>", "ok"), (b"<html></html>", "warn"), (b"<!DOCTYPE html>", "warn")]
)
async def test_what_answers_is_a_bucket(body: bytes, state: str) -> None:
    async with serving(http(200, body)) as server:
        found = await reaching._bucket(ArchiveSettings("scripted", server.url))
    assert found.state == state

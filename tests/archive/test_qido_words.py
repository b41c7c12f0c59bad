"""What QIDO-RS tells of series beside their UIDs, from servers that tell it all and from those that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from idcfs import errors
from idcfs.archive.dicomweb import DicomwebArchive
from idcfs.archive.records import SERIES_FIELDS, SeriesRecord
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats

Item = dict[str, Any]
TAGS = {
    "patient": "00100020",
    "study": "0020000D",
    "series": "0020000E",
    "count": "00201209",
    "modality": "00080060",
    "date": "00080020",
    "study_description": "00081030",
    "number": "00200011",
    "description": "0008103E",
}
ALWAYS = {"study", "series", "date"}


def item(**values: Any) -> Item:
    return {TAGS[name]: {"vr": "LO", "Value": [value]} for name, value in values.items()}


FULL = item(
    patient="A",
    study="1",
    series="1.1",
    count=7,
    modality="CT",
    date="20240131",
    study_description="chest, plain ",
    number=3,
    description="axial",
)


@dataclass
class Server:
    """Sends what is asked for by includefield, and refuses what it does not know."""

    items: dict[str, list[Item]]
    knows: frozenset[str] = frozenset(TAGS.values())
    refusal: int = 400
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, fields = request.url.path, request.url.params.get("includefield", "")
        self.asked.append((path, fields))
        if path not in self.items or not self.knows >= set(fields.split(",")):
            return httpx.Response(self.refusal if path in self.items else 400, json={"error": "not so"})
        if request.url.params["offset"] != "0":
            return httpx.Response(204)
        sent = {*fields.split(","), *(TAGS[name] for name in ALWAYS)}
        return httpx.Response(200, json=[{t: v for t, v in one.items() if t in sent} for one in self.items[path]])


@asynccontextmanager
async def archive_of(server: Server) -> AsyncIterator[DicomwebArchive]:
    settings = ArchiveSettings(name="mock", base_url="http://mock", page_limit=100)
    async with Transport(settings, TransportSettings(), Stats(), wire=httpx.MockTransport(server)) as transport:
        yield DicomwebArchive(transport, settings)


def words(record: SeriesRecord) -> tuple[str, ...]:
    return (
        record.modality,
        record.study_date,
        record.study_description,
        record.series_number,
        record.series_description,
    )


WORDS = ("CT", "20240131", "chest, plain", "3", "axial")
NEEDED = frozenset(SERIES_FIELDS.needed.split(","))


async def test_all_is_asked_for_at_once() -> None:
    server = Server({"/series": [FULL]})
    async with archive_of(server) as archive:
        (found,) = await archive.search_series()
    assert words(found) == WORDS
    assert (found.patient_id, found.instance_count) == ("A", 7)
    assert {path for path, _ in server.asked} == {"/series"}


@pytest.mark.parametrize("refusal", [400, 422])
async def test_a_server_that_refuses_the_words_is_asked_without_them(refusal: int) -> None:
    server = Server({"/series": [FULL]}, knows=NEEDED, refusal=refusal)
    async with archive_of(server) as archive:
        (found,) = await archive.search_series()
        assert words(found) == ("", "20240131", "", "", "")  # servers send that anyway
        assert (found.patient_id, found.instance_count) == ("A", 7)
        before = len(server.asked)
        await archive.search_series()
    assert {fields for _, fields in server.asked[before:]} == {SERIES_FIELDS.needed}  # it is not asked in vain again
    assert "/studies" not in {path for path, _ in server.asked}


async def test_a_refusal_of_another_kind_is_not_about_the_words() -> None:
    server = Server({"/series": [FULL], "/studies": []}, knows=frozenset({"00100020"}), refusal=403)
    async with archive_of(server) as archive:
        with pytest.raises(errors.AccessDenied):
            await archive.search_series()
    assert len(server.asked) == 1


@pytest.mark.parametrize("knows", [frozenset(TAGS.values()), NEEDED])
async def test_study_by_study_the_date_may_be_the_study_s(knows: frozenset[str]) -> None:
    study = item(patient="A", study="1", date="20240131")
    series = item(series="1.1", count=7, modality="CT", study_description="chest, plain", number=3, description="axial")
    server = Server({"/studies": [study], "/studies/1/series": [series]}, knows=knows)
    async with archive_of(server) as archive:
        (found,) = await archive.search_series()
    assert (found.patient_id, found.study_uid, found.series_uid, found.instance_count) == ("A", "1", "1.1", 7)
    assert words(found) == (WORDS if knows > NEEDED else ("", "20240131", "", "", ""))


async def test_words_are_no_part_of_the_identity() -> None:
    other = item(patient="A", study="1", series="1.1", modality="MR")
    async with archive_of(Server({"/series": [FULL, other]})) as archive:
        (found,) = await archive.search_series()
    assert found.modality == "CT"


async def test_words_that_many_series_share_are_kept_once() -> None:
    others = [FULL | item(series=f"1.{number}") for number in range(5)]
    async with archive_of(Server({"/series": others})) as archive:
        found = await archive.search_series()
    assert len({tuple(map(id, words(record))) for record in found}) == 1

"""QIDO-RS against servers with the habits that were met in the wild."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from idcfs import errors
from idcfs.archive.dicomweb import DicomwebArchive
from idcfs.archive.pages import MAX_STALE_PAGES
from idcfs.archive.records import SeriesRecord, StudyRecord, series_record
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.archive.bodies import Key, fetched

Item = dict[str, Any]


def item(**values: Any) -> Item:
    tags = {
        "patient": "00100020",
        "study": "0020000D",
        "series": "0020000E",
        "instance": "00080018",
        "count": "00201209",
    }
    return {tags[name]: {"vr": "UI", "Value": [value]} for name, value in values.items()}


def instances(count: int) -> list[Item]:
    return [item(study="1.2", series="1.2.3", instance=f"1.2.3.{number}") for number in range(count)]


@dataclass
class Qido:
    """A server: items by path, and its habits."""

    items: dict[str, list[Item]]
    cap: int = 10**9
    largest_limit: int = 10**9
    ignores_offset: bool = False
    refuses: dict[str, int] = field(default_factory=dict)
    empty: Callable[[], httpx.Response] = lambda: httpx.Response(204)
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, limit, offset = request.url.path, int(request.url.params["limit"]), int(request.url.params["offset"])
        self.asked.append((path, limit, offset))
        if limit > self.largest_limit or path in self.refuses:
            return httpx.Response(self.refuses.get(path, 400), json={"error": "not so"})
        start = 0 if self.ignores_offset else offset
        page = self.items.get(path, [])[start : start + min(limit, self.cap)]
        return httpx.Response(200, json=page) if page else self.empty()


@asynccontextmanager
async def archive_of(handler: Callable[[httpx.Request], Any], limit: int = 10) -> AsyncIterator[DicomwebArchive]:
    settings = ArchiveSettings(name="mock", base_url="http://mock", page_limit=limit)
    async with Transport(settings, TransportSettings(), Stats(), wire=httpx.MockTransport(handler)) as transport:
        yield DicomwebArchive(transport, settings)


INSTANCES = "/studies/1.2/series/1.2.3/instances"


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25, 30])
@pytest.mark.parametrize("cap", [3, 10, 10**9])
async def test_every_instance_is_listed_whatever_the_page(count: int, cap: int) -> None:
    server = Qido({INSTANCES: instances(count)}, cap=cap)
    async with archive_of(server) as archive:
        found = await archive.search_instances("1.2", "1.2.3", None)
    assert found == sorted(f"1.2.3.{number}" for number in range(count))


async def test_a_short_page_that_reaches_the_expectation_saves_the_next_query() -> None:
    server = Qido({INSTANCES: instances(7)})
    async with archive_of(server) as archive:
        await archive.search_instances("1.2", "1.2.3", 7)
    assert server.asked == [(INSTANCES, 10, 0)]


async def test_a_full_page_that_reaches_the_expectation_may_not_be_the_last() -> None:
    server = Qido({INSTANCES: instances(12)})
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 10)) == 12


async def test_more_than_the_expectation_on_a_short_page_is_not_the_end() -> None:
    server = Qido({INSTANCES: instances(10)}, cap=3)
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 2)) == 10


@pytest.mark.parametrize(("cap", "expected"), [(10**9, 25), (10**9, None), (4, 25)])
async def test_a_listing_cut_by_a_server_that_ignores_the_offset_is_refused(cap: int, expected: int | None) -> None:
    server = Qido({INSTANCES: instances(25)}, cap=cap, ignores_offset=True)
    async with archive_of(server) as archive:
        with pytest.raises(errors.Refused, match=rf"ignore offset, {min(cap, 10)} of (25|an unknown number) listed"):
            await archive.search_instances("1.2", "1.2.3", expected)
    assert len(server.asked) == 2 + MAX_STALE_PAGES


@pytest.mark.parametrize("limit", [10, 100])
async def test_a_server_that_ignores_the_offset_but_sends_everything_is_believed(
    limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with archive_of(lambda _: httpx.Response(200, json=instances(25)), limit) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 25)) == 25
        assert not caplog.records
        assert len(await archive.search_instances("1.2", "1.2.3", None)) == 25
    assert "ignore offset; 25 items" in caplog.text


@pytest.mark.parametrize("expected", [None, 25])
@pytest.mark.parametrize("between", [instances(10), [{}] * 10, [*instances(10)[::-1], *instances(10), *instances(10)]])
async def test_pages_without_anything_new_are_not_the_end(between: list[Item], expected: int | None) -> None:
    server = Qido({INSTANCES: [*instances(10), *between, *instances(25)[10:]]})
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", expected)) == 25


@pytest.mark.parametrize(("expected", "most"), [(3, 10_012), (None, 20_000), (2**31 - 1, 20_000)])
async def test_a_listing_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, expected: int | None, most: int
) -> None:
    for module in ("dicomweb", "pages"):
        monkeypatch.setattr(f"idcfs.archive.{module}.MAX_ITEMS", 20_000)

    def handler(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        assert offset <= most
        return httpx.Response(200, json=[item(instance=f"1.{number}") for number in range(offset, offset + 5_000)])

    async with archive_of(handler, 5_000) as archive:
        with pytest.raises(errors.Refused, match=f"more than {most:,} items"):
            await archive.search_instances("1.2", "1.2.3", expected)


async def test_nor_are_the_series_of_all_studies_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idcfs.archive.dicomweb.MAX_ITEMS", 100)
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/series":
            return httpx.Response(404)
        if request.url.path == "/studies":
            items = [item(study=f"1.{number}") for number in range(90)]
        else:
            items = [item(study="1.2", series=f"1.2.{len(asked)}.{number}") for number in range(30)]
        return httpx.Response(200, json=[] if int(request.url.params["offset"]) else items)

    async with archive_of(handler) as archive:
        with pytest.raises(errors.Refused, match="more than 100 series"):
            await archive.search_series()
    assert len(asked) < 20


async def test_of_a_text_without_end_the_beginning_is_kept() -> None:
    long = [item(study=f"1.{number}", patient=str(number) * 10**6) for number in range(1, 4)]
    odd = [item(study="1.5") | {"00100020": {"Value": [value]}} for value in ([["x"] * 10**6], {"Alphabetic": "x"})]
    async with archive_of(Qido({"/studies": long + odd})) as archive:
        found = await archive.search_studies()
    assert {(one.study_uid, one.patient_id) for one in found} == {
        *((f"1.{number}", str(number) * 1024) for number in range(1, 4)),
        ("1.5", ""),
    }


async def test_the_padding_of_uids_is_taken_off() -> None:
    padded = [item(instance="1.2.3.0\0"), item(instance="1.2.3.1 "), item(instance="1.2.3.1")]
    async with archive_of(Qido({INSTANCES: padded})) as archive:
        assert await archive.search_instances("1.2", "1.2.3") == ["1.2.3.0", "1.2.3.1"]


async def test_repeated_items_are_listed_once() -> None:
    server = Qido({INSTANCES: instances(4) + instances(6)})
    async with archive_of(server) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", None)) == 6


@pytest.mark.parametrize(("largest", "asked"), [(200, [1000, 200, 200]), (100, [1000, 200, 100, 100])])
async def test_a_refused_limit_is_lowered_and_remembered(largest: int, asked: list[int]) -> None:
    server = Qido({INSTANCES: instances(5), "/studies": [item(study="1.2")]}, largest_limit=largest)
    async with archive_of(server, limit=1000) as archive:
        assert len(await archive.search_instances("1.2", "1.2.3", 5)) == 5
        await archive.search_instances("1.2", "1.2.3", 5)
    assert [limit for _, limit, _ in server.asked] == asked


async def test_a_refusal_that_comes_late_still_finds_the_limit(autojump_clock: MockClock) -> None:
    server = Qido({INSTANCES: instances(5)}, largest_limit=100)
    delays = [1, 2, 3]
    found: list[int] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        await trio.sleep(delays.pop(0) if delays else 0)
        return server(request)

    async with archive_of(handler, limit=1000) as archive, trio.open_nursery() as nursery:

        async def search() -> None:
            found.append(len(await archive.search_instances("1.2", "1.2.3", 5)))

        for _ in range(3):
            nursery.start_soon(search)
    assert found == [5] * 3


async def test_a_refusal_that_is_not_about_the_limit_stays_one() -> None:
    server = Qido({}, largest_limit=0)
    async with archive_of(server, limit=1000) as archive:
        with pytest.raises(errors.Refused, match="not so") as caught:
            await archive.search_studies()
    assert caught.value.status == 400
    assert [limit for _, limit, _ in server.asked] == [1000, 200, 100]


@pytest.mark.parametrize("empty", [httpx.Response(204), httpx.Response(200, json=[]), httpx.Response(200)])
async def test_nothing_found_is_an_empty_list(empty: httpx.Response) -> None:
    async with archive_of(Qido({}, empty=lambda: empty)) as archive:
        assert await archive.search_studies() == []
        assert await archive.search_series() == []
        assert await archive.search_instances("1.2", "1.2.3", None) == []


async def test_one_object_is_one_item() -> None:
    async with archive_of(lambda _: httpx.Response(200, json=instances(1)[0])) as archive:
        assert await archive.search_instances("1.2", "1.2.3", None) == ["1.2.3.0"]


@pytest.mark.parametrize("answer", [["1.2.3"], "1.2.3", 7, [None], [[]]])
async def test_anything_else_is_refused(answer: object) -> None:
    async with archive_of(lambda _: httpx.Response(200, json=answer)) as archive:
        with pytest.raises(errors.Refused):
            await archive.search_studies()


@pytest.mark.parametrize(
    "bad",
    [{}, {"00080018": {}}, {"00080018": {"Value": []}}, {"00080018": 7}, item(instance="../x"), item(instance=12)],
)
async def test_items_without_a_usable_uid_are_passed_over_and_reported(
    bad: Item, caplog: pytest.LogCaptureFixture
) -> None:
    server = Qido({INSTANCES: [bad, *instances(2)]})
    async with archive_of(server) as archive:
        assert await archive.search_instances("1.2", "1.2.3", None) == ["1.2.3.0", "1.2.3.1"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def fields(record: SeriesRecord) -> tuple[str, str, str, int | None]:
    return record.patient_id, record.study_uid, record.series_uid, record.instance_count


async def test_studies_keep_every_patient_they_stand_under() -> None:
    listed = [
        item(study="1.2", patient="A"),
        item(study="1.2", patient="B"),
        item(study="1.2", patient="A"),
        item(study="3"),
    ]
    async with archive_of(Qido({"/studies": listed})) as archive:
        found = await archive.search_studies()
    assert found == [StudyRecord("A", "1.2"), StudyRecord("B", "1.2"), StudyRecord("", "3")]


async def test_series_come_with_patient_and_count() -> None:
    listed = [
        item(patient="A", study="1", series="1.1", count=7),
        item(patient="A", study="1", series="1.2", count="8"),
        item(patient="B", study="2", series="2.1", count="many"),
        item(patient="B", study="2", series="2.1", count=9),
    ]
    server = Qido({"/series": listed})
    async with archive_of(server) as archive:
        found = await archive.search_series()
    assert list(map(fields, found)) == [("A", "1", "1.1", 7), ("A", "1", "1.2", 8), ("B", "2", "2.1", None)]
    assert {path for path, _, _ in server.asked} == {"/series"}


@pytest.mark.parametrize("value", [{"Alphabetic": "A"}, ["A"], "nested", None])
def test_what_is_neither_text_nor_number_is_no_word(value: object) -> None:
    if value == "nested":  # as deep as JSON may be, which is parsed further up the stack than it is read
        for _ in range(sys.getrecursionlimit()):
            value = [value]
    words = {tag: {"Value": [value]} for tag in ("00100020", "00080060", "00201209")}
    found = series_record(item(study="1", series="1.1") | words)
    assert found is not None
    assert (found.patient_id, found.modality, found.instance_count) == ("", "", None)


async def test_patients_that_series_lack_are_taken_from_their_studies() -> None:
    listed = [item(study="1", series="1.1"), item(patient="X", study="1", series="1.2"), item(study="9", series="9.1")]
    async with archive_of(Qido({"/series": listed, "/studies": [item(patient="A", study="1")]})) as archive:
        found = await archive.search_series()
    assert [record.patient_id for record in found] == ["A", "X", ""]


@pytest.mark.parametrize("status", [400, 404, 501])
async def test_a_server_that_cannot_list_all_series_is_asked_study_by_study(status: int) -> None:
    server = Qido(
        {
            "/studies": [item(patient="A", study="1"), item(patient="B", study="2"), item(patient="C", study="3")],
            "/studies/1/series": [item(series="1.1", count=2), item(study="1", series="1.2")],
            "/studies/2/series": [item(study="2", series="2.1")],
        },
        refuses={"/series": status},
    )
    async with archive_of(server) as archive:
        found = await archive.search_series()
    assert list(map(fields, found)) == [("A", "1", "1.1", 2), ("A", "1", "1.2", None), ("B", "2", "2.1", None)]


async def test_the_count_is_no_part_of_a_series_identity() -> None:
    assert SeriesRecord("A", "1", "1.1", 2) == SeriesRecord("A", "1", "1.1", 3)


@pytest.mark.parametrize("uid", ["", "..", "%2e%2e", "1/2", "1.2 ", "1.2\n", ".1", "a", "٣", "1" * 65])
async def test_what_is_no_uid_never_reaches_the_archive(uid: str) -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(500)

    async with archive_of(handler) as archive:
        for key in (Key(study_uid=uid), Key(series_uid=uid), Key(instance_uid=uid)):
            with pytest.raises(errors.Refused, match="no DICOM UID"):
                await fetched(archive, key)
        for call in (archive.search_instances(uid, "1", None), archive.find_instance(uid)):
            with pytest.raises(errors.Refused, match="no DICOM UID"):
                await call
    assert requests == []

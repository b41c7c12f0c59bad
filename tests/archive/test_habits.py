"""Whether ranges are asked for, by what has been answered before."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from idcfs.archive.dicomweb import DicomwebArchive
from idcfs.archive.habits import RangeHabit
from idcfs.settings import ArchiveSettings
from tests.archive.bodies import CONTENT, DICOM, Key
from tests.archive.s3_in_memory import FOLDER, Bucket, archive_of
from tests.archive.s3_in_memory import Key as Object
from tests.archive.scripted import Reply, http, serving, transport_to
from tests.content.scripted import dicom

PART = http(206, CONTENT[10:20], f"{DICOM}Content-Range: bytes 10-19/{len(CONTENT)}\r\n")
WHOLE = http(200, CONTENT, DICOM)


@pytest.mark.parametrize(
    "odd",
    [(http(400), WHOLE), (http(200, b"<html>busy</html>", "Content-Type: text/html\r\n"), WHOLE), (WHOLE,)],
    ids=str,
)
async def test_of_a_server_that_has_sent_ranges_one_odd_answer_is_about_that_instance(odd: tuple[Reply, ...]) -> None:
    async with serving(PART, *odd, PART, WHOLE) as server, transport_to(server.url) as transport:
        archive = DicomwebArchive(transport, ArchiveSettings("x", server.url, single_part_first=True))
        one, other = Key(), Key(instance_uid="1.2.9")
        starts = []
        for key in (one, one, other, one):
            async with archive.fetch(key, 10, 20) as body:
                starts.append(body.start)
        assert starts == [10, 0, 10, 0]
        assert archive.knows_ranges
        assert [archive.starts_anywhere(key) for key in (one, other)] == [False, True]
    assert "range:" not in server.requests[-1].lower()


async def test_a_bucket_that_has_answered_with_all_of_it_is_asked_for_all_of_it() -> None:
    server = Bucket({f"{FOLDER}/a.dcm": dicom("1.2.3.0", 2_000)}, knows_ranges=False)
    key = Object(instances=1)
    async with archive_of(server) as setup:
        assert setup.archive.starts_anywhere(key)
        for _ in range(2):
            async with setup.archive.fetch(key, 100, 200) as body:
                assert (body.start, body.stop) == (0, None)
        assert not setup.archive.starts_anywhere(key)
    assert [asked for _, asked in server.asked] == ["bytes=100-199", ""]


async def test_only_several_in_a_row_say_that_it_sends_ranges_no_more(autojump_clock: MockClock) -> None:
    habit = RangeHabit(known=True)
    for resource in "ab":
        habit.note_whole(resource)
    habit.note_range()
    for resource in "aab":
        habit.note_whole(resource)
    for resource in "cdef":
        habit.note_odd(resource)
    assert habit.may_send("g")
    assert not any(habit.may_send(resource) for resource in "abcdef")
    await trio.sleep(700)
    assert habit.may_send("a")
    habit.note_whole("c")
    assert not habit.may_send("g")


async def test_who_has_never_sent_a_range_has_shown_it_at_once_or_after_several_odd_answers() -> None:
    habit = RangeHabit()
    assert habit.may_send("a")
    habit.note_odd("a")
    assert habit.may_send("b")
    habit.note_whole("b")
    assert habit.known is False
    habit = RangeHabit()
    for resource in "abc":
        habit.note_odd(resource)
    assert not habit.may_send("d")

"""The soak's own parts: what it calls wrong, what it permits, and what it says of it."""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.harness import in_bytes
from scripts.soak.calls import BYTES, NO_STAT, SHORT, SIZE, CallFailed, Calls
from scripts.soak.idioms import Opened, Reader
from scripts.soak.judging import DEATH, Event, Window, judge, read_told
from scripts.soak.making import make_truth
from scripts.soak.marks import Marks
from scripts.soak.page import page_of
from scripts.soak.report import growth, too_much
from scripts.soak.running import Soak
from scripts.soak.stage import CACHE_MIB, Rest, Vitals
from scripts.soak.truth import File, Truth, files_of
from scripts.soak.watching import seconds_to, stat_anew

DOCS = Path(__file__).resolve().parents[1] / "docs"
WINDOW = Window("503", frozenset({"wado"}), frozenset({"EHOSTUNREACH"}), 10, 20)
SILENT = Window("slow", frozenset({"wado"}), frozenset(), 30, 40)


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    made = make_truth(tmp_path / "index.parquet", 7)
    made.save(tmp_path / "truth.json")
    return Truth.load(tmp_path / "truth.json")


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    (tmp_path / "events").mkdir()
    return Calls(Marks(tmp_path / "marks", 2), 1, tmp_path / "events" / "1-0.jsonl")


@pytest.mark.parametrize(
    ("event", "is_permitted"),
    [
        (Event("EHOSTUNREACH", "wado", "read", 15, 16), True),
        (Event("EHOSTUNREACH", "wado", "read", 19, 25), True),  # it began then
        (Event("EHOSTUNREACH", "wado", "read", 21, 25), False),
        (Event("EHOSTUNREACH", "auto", "read", 15, 16), False),
        (Event("EIO", "wado", "read", 15, 16), False),
        (Event(DEATH, "wado", "mmap", 15, 16), True),
        (Event(DEATH, "wado", "mmap", 35, 36), False),
        (Event(BYTES, "wado", "read", 15, 16), False),
        (Event(SHORT, "wado", "read", 15, 16), False),
        (Event(NO_STAT, "wado", "file: a", 15, 16), False),
        (Event(SIZE, "wado", "fstat", 15, 16), False),
    ],
    ids=str,
)
def test_an_error_is_permitted_where_and_when_its_fault_is(event: Event, is_permitted: bool) -> None:
    verdict = judge([event], [WINDOW, SILENT], began=0.0)
    assert bool(verdict.broken) == (not is_permitted)
    assert verdict.permitted == ({"503": {event.kind: 1}} if is_permitted else {})


def test_of_many_alike_some_are_told_and_the_others_counted() -> None:
    broken = judge([Event("EIO", "wado", f"read {number}", 1, 2) for number in range(50)], [], began=0.0).broken
    assert len(broken) == 21
    assert "it was quiet" in broken[0]
    assert broken[-1] == "EIO: 30 more"


def test_what_is_not_the_truth_is_noticed(truth: Truth, calls: Calls, tmp_path: Path) -> None:
    file = max((file for one in truth.series for file in files_of(one)), key=lambda file: file.size)
    right = file.bytes(1_000, 5_000)
    calls.compare("auto", file, 1.0, 1_000, 4_000, right)
    calls.compare("auto", file, 1.0, file.size - 10, 4_000, file.bytes(file.size - 10, file.size))
    calls.compare("auto", file, 1.0, 1_000, 4_000, right[:-1])
    calls.compare("auto", file, 1.0, 1_000, 4_000, right[:99] + bytes([right[99] ^ 1]) + right[100:])
    calls.compare("auto", file, 1.0, 1_000, 4_000, File(file.series, file.ordinal).bytes(1_001, 5_001))
    calls.tell()
    told = read_told(tmp_path / "events")
    assert [event.kind for event in told.events] == [SHORT, BYTES, BYTES]
    assert "other from 1099" in told.events[1].what
    assert told.bytes_compared == 4 * 4_000 - 1 + 10


def test_what_came_before_an_error_is_compared(
    truth: Truth, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = files_of(truth.series[0])[0]
    reader = Reader(truth, calls, random.Random(1), {"wado": tmp_path}, "wado")
    pieces = iter([file.bytes(0, 100), b"", file.bytes(0, 99) + bytes([file.bytes(99, 100)[0] ^ 1]), b""])

    def pread(*_: int) -> bytes:
        if piece := next(pieces):
            return piece
        raise OSError(errno.EIO, "cut off")

    monkeypatch.setattr(os, "pread", pread)
    opened = Opened(reader, file, time.monotonic(), 0)
    for _ in range(2):
        with pytest.raises(CallFailed):
            opened.read(0, 1_000)
    assert [event.kind for event in read_told(tmp_path / "events").events] == ["EIO", "EIO", BYTES]


@pytest.mark.parametrize("ask", [os.stat, stat_anew])
def test_a_stat_that_fails_is_never_permitted(tmp_path: Path, calls: Calls, ask: Callable[[str], object]) -> None:
    assert 0 < seconds_to(ask, calls, "auto", str(tmp_path)) < 60
    assert 0 < seconds_to(ask, calls, "auto", str(tmp_path / "none")) < 60
    assert [event.kind for event in read_told(tmp_path / "events").events] == ["ENOENT", NO_STAT]


def test_a_mount_may_take_too_much_memory_for_no_second(tmp_path: Path) -> None:
    soak = Soak(tmp_path, minutes=1, processes=1, seed=1)
    soak.samples = [(at, name, Vitals(1, mib, 9, 0, 5)) for at, name, mib in ((1, "auto", 90), (1, "wado", 90))]
    assert not list(too_much(soak))
    soak.samples += [(2, "auto", Vitals(1, 300, 9, 0, 5)), (3, "auto", Vitals(1, 90, 9, 0, 5))]
    assert list(too_much(soak)) == ["mount auto took 300 MiB of memory (most: 166)"]


def test_no_process_may_have_grown_since_its_own_first_rest(tmp_path: Path) -> None:
    soak = Soak(tmp_path, minutes=60, processes=1, seed=1)
    seen = [("auto", 1, 90), ("wado", 2, 50), ("auto", 1, 95), ("wado", 3, 90), ("auto", 1, 92), ("wado", 3, 92)]
    soak.rests = [Rest(at, name, Vitals(pid, mib, 9, 0, 5), {"tasks": 7}) for at, (name, pid, mib) in enumerate(seen)]
    assert not list(growth(soak))
    soak.rests.append(Rest(9, "wado", Vitals(3, 120, 15, 1, 5), {"tasks": 12}))
    assert list(growth(soak)) == [
        "mount wado has 30 MiB of memory more at the end than at its process's first rest (most: 24)",
        "mount wado has 5 file descriptors more at the end than at its process's first rest (most: 4)",
        "mount wado has 5 tasks more at the end than at its process's first rest (most: 4)",
    ]


def test_mounts_are_made_anew_only_while_there_is_time_to_see_the_new_ones_grow(tmp_path: Path) -> None:
    now = time.monotonic()
    for minutes, minutes_ago, replaces in ((60, 19, True), (60, 21, False), (1, 0.9, True)):
        soak = Soak(tmp_path, minutes, processes=1, seed=1)
        soak.began = now - minutes_ago * 60
        assert soak.replaces == replaces


def test_a_call_that_fails_is_written_down_and_one_that_lasts_is_marked(calls: Calls, tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    seen = []

    def look() -> None:
        with calls.call("open", "auto", "a/b"):
            seen.append(marks.read(1))
            os.stat(tmp_path / "none")

    with pytest.raises(CallFailed):
        look()
    (mark,) = seen
    assert (mark.mount, mark.what) == ("auto", "open a/b")
    assert 0 < time.monotonic() - mark.since < 60
    assert not marks.read(1).since
    (event,) = read_told(tmp_path / "events").events
    assert (event.kind, event.mount, event.what) == ("ENOENT", "auto", "open a/b")
    (line,) = (tmp_path / "events" / "1-0.jsonl").read_text().splitlines()
    (tmp_path / "events" / "1-0.jsonl").write_text(f"{line}\n{json.dumps(line)[:20]}")  # killed while it wrote
    assert len(read_told(tmp_path / "events").events) == 1
    assert (tmp_path / "marks").stat().st_size < mmap.PAGESIZE


def test_the_same_seed_makes_the_same_archive(truth: Truth, tmp_path: Path) -> None:
    assert make_truth(tmp_path / "again.parquet", 7).series == truth.series
    assert make_truth(tmp_path / "other.parquet", 8).series != truth.series
    assert len(truth.series) > 300
    assert any(file.size > 40 * 2**20 for file in truth.large)


def test_the_page_is_that_of_the_results_beside_it() -> None:
    page = (DOCS / "soak.md").read_text()
    results = json.loads((DOCS / "soak/results.json").read_text())
    assert page == page_of(results)
    words = " ".join(page.split())
    assert f"The longest call of a program took {results['longest_call']['seconds']:.1f} s: it may be several" in words
    assert f"contents on disk took {in_bytes(results['cache']['bytes'])} of {in_bytes(CACHE_MIB * 2**20)}." in words


def test_growth_of_each_mount_was_judged_on_the_page() -> None:
    rests = json.loads((DOCS / "soak/results.json").read_text())["rests"]
    for name in {rest["mount"] for rest in rests}:
        pids = [rest["vitals"]["pid"] for rest in rests if rest["mount"] == name]
        assert pids[-1] == pids[-2]


def test_what_was_broken_stands_on_the_page() -> None:
    results = json.loads((DOCS / "soak" / "results.json").read_text())
    page = page_of(results | {"broken": ["hang: read a", "mount auto grew"]})
    assert "**Promises that were broken:**\n\n* hang: read a\n* mount auto grew\n" in page
    assert "No promise was broken" not in page

"""The benchmark's own parts: what it says of a figure, and what it does where something cannot be measured."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from scripts.bench import crowds, curl, fetching, listings, reaching, rereading
from scripts.bench.crowds import Span, read_together
from scripts.bench.holding import files_below, files_of_programs, held
from scripts.bench.jobs import FIND
from scripts.bench.material import NGINX, Material, forget_pages
from scripts.bench.measuring import Bench, Skipped, memory_watched, read_all
from scripts.bench.promises import SCENARIOS, measure
from scripts.bench.session import Found, Session
from scripts.bench.subjects import Ground, Standing, Subject
from scripts.bench.table import Promise, table
from scripts.bench.worker import Worker
from scripts.harness import Failure, Mount
from tests.threaded import QuietHandler, threaded
from tests.waiting import eventually


def test_the_table_judges_the_median() -> None:
    values = {
        Promise("quick", "s", at_most=1): [0.5, 0.9, 7.0],
        Promise("slow", "s", at_most=1): [0.5, 1.1, 1.2],
        Promise("fast", "MB/s", at_least=500): [1234.5],
        Promise("told", ""): [301.0],
    }
    rows = [line.split("  ") for line in table(values)][1:]
    assert [row[-1].strip() for row in rows] == ["ok", "MISSED", "ok", "–"]
    assert "0.9 s (0.5–7 of 3)" in "  ".join(rows[0])
    assert "1,234 MB/s" in "  ".join(rows[2])


def test_no_two_figures_share_a_row() -> None:
    modules = (listings, rereading, fetching, reaching, crowds)
    named = [promise for module in modules for promise in vars(module).values() if isinstance(promise, Promise)]
    rows = [(promise.name, promise.unit) for promise in named]
    assert sorted(set(rows)) == sorted(rows)


def test_a_time_stands_below_what_it_explains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "status", lambda _: {"counters": {"bytes_from_buckets": 0}})
    bench, mount = Bench(1, tmp_path), Mount(tmp_path, 0, 0.0)
    reaching._record(bench, mount, tmp_path, lambda _: None, reaching.MIDDLE, reaching.MIDDLE_SECONDS)
    assert list(bench.values) == [reaching.MIDDLE, reaching.MIDDLE_SECONDS]


def test_what_is_skipped_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def skip(_: Bench) -> None:
        raise Skipped("not for us")

    def fail(_: Bench) -> None:
        raise Failure("went wrong")

    def miscount(_: Bench) -> None:
        raise KeyError("requests")

    monkeypatch.setitem(SCENARIOS, "disk", skip)
    monkeypatch.setitem(SCENARIOS, "far", fail)
    monkeypatch.setitem(SCENARIOS, "cold", miscount)
    assert measure(Bench(1, tmp_path), ["disk", "far", "cold"]) == ["far", "cold"]
    said = capsys.readouterr().out
    assert "skipped: not for us" in said
    assert "FAILED: went wrong" in said
    assert "FAILED: KeyError: 'requests'" in said


def test_readers_read_together_and_memory_is_watched(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(20)]
    for file in files:
        file.write_bytes(bytes(3_000_000))
    assert read_all(files) == 60_000_000
    with memory_watched(os.getpid()) as seen:
        read_together([Span(file, 0, 3_000_000) for file in files])
    assert seen
    assert all(memory.resident >= memory.anonymous > 0 for memory in seen)


@pytest.fixture
def slow_server() -> Iterator[str]:
    """The address of one that answers nobody before 16 have asked, each on a connection of its own."""
    together = Barrier(16, timeout=10)

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            together.wait()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with threaded(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_curl_asks_on_all_its_connections_at_once(tmp_path: Path, slow_server: str) -> None:
    curl.fetch([f"{slow_server}/{number}" for number in range(32)], tmp_path / "config")


def test_what_is_held_stays_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(1_000_000))
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "empty").touch()
    if not eventually(lambda: _is_forgotten(file)):
        pytest.skip("the directory is in memory itself")
    assert files_below(tmp_path) == [file]
    with held(files_below(tmp_path)):
        assert not _is_forgotten(file)
    assert eventually(lambda: _is_forgotten(file))


def test_what_cannot_be_held_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure), held([tmp_path / "nothing"]):
        pass


def test_programs_have_libraries() -> None:
    names = {path.name.split(".")[0] for path in files_of_programs(["curl", "no such program"])}
    assert {"curl", "libcurl"} <= names


def _is_forgotten(file: Path) -> bool:
    """Whether the kernel does when told; a page that it has just taken up it may keep until it is told again."""
    forget_pages(file.parent)
    return not _in_memory(file)


def _in_memory(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(100)], 500_000, os.RWF_NOWAIT) == 100
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def test_a_daemon_that_is_gone_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()

    @contextmanager
    def stand(ground: Ground) -> Iterator[Standing]:
        yield Standing(ground.cache, pid=gone.pid)

    material = Material(tmp_path / "tree", tmp_path / "tree", tmp_path / "index", {}, Path("slide"), [])
    found = Found()
    with Worker(material) as worker:
        session = Session(Subject("gone", NGINX, stand), material, worker, None, {}, lambda *_: found, 10)
        session.run([FIND], tmp_path / "session")
    assert not found.trials
    assert "No such file" in found.wrong

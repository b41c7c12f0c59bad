"""The catalog of what an archive lists: asked for, built by another process, kept, shown while the archive is away."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from idcfs.errors import AccessDenied, Damaged, DeadlinePassed, IdcfsError, QuotaSpent, Refused, Unreachable, UsageError
from idcfs.namespace import build, index
from idcfs.namespace.catalog import Catalog, unsearched_table
from idcfs.namespace.index import clear_searched, search_catalog, searched_path, unsearched_catalog
from idcfs.namespace.nodes import Level
from idcfs.settings import ArchiveSettings
from tests.namespace.damaging import DAMAGES
from tests.namespace.making import Record, any_text, everything, hostile, patient

DAY = 86_400
PATIENCE_SECONDS = 20.0

HERE = ArchiveSettings("here:8042", "http://here:8042/dicom-web")
AWAY = [Unreachable("no route"), DeadlinePassed("too slow"), QuotaSpent("tomorrow")]


@dataclass
class Server:
    """Lists ``records``; counts how often."""

    records: Sequence[Record] | IdcfsError = (Record(), Record("\ud800" * 100, "1.3", "1.3.1", None))
    calls: int = 0

    async def search(self) -> Sequence[Record]:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if isinstance(self.records, IdcfsError):
            raise self.records
        return self.records


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building without the cost of another process, half a second each."""

    def build_here(archive: str, records: Sequence[Record], path: Path) -> Catalog:
        build.build_from_records(index._lines(archive, records), path)
        return Catalog.open(path)

    monkeypatch.setattr(index, "_built_of_records", build_here)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a shell script of what is given: the builder from then on."""

    def make(script: str) -> None:
        path = tmp_path / "builder"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))

    return make


# --- asked, kept, shown ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
async def test_while_the_archive_is_away_what_it_listed_last_is_shown(
    error: IdcfsError, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    await search_catalog(server.search, HERE, cache)
    server.records = (Record(), Record("\ud800" * 100, "1.3", "1.3.1", None), Record("P2", "1.4", "1.4.1", 7))
    found = await search_catalog(server.search, HERE, cache)
    assert (found.rows, caplog.records) == (3, [])
    os.utime(searched_path(HERE, cache), (0, time.time() - 3.5 * DAY))
    server.records = error
    kept = await search_catalog(server.search, HERE, cache)
    assert everything(kept) == everything(found)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"here:8042: shown is what it listed 3 days ago ({error})"
    assert server.calls == 3  # kept or not, the archive is asked first


async def test_offline_what_the_archive_listed_last_is_no_reason_to_warn(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await search_catalog(Server().search, HERE, cache)
    with caplog.at_level(logging.INFO):
        kept = await search_catalog(Server(Unreachable("never sent")).search, HERE, cache, offline=True)
    assert kept.rows == 2
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "here:8042: shown is what it listed less than a minute ago (offline)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-9, "less than a minute"), (59, "less than a minute"), (60, "1 minute"), (7_199, "1 hour"), (2 * DAY, "2 days")],
)
def test_how_old_a_list_is_is_said_in_words(seconds: float, words: str) -> None:
    assert index._duration(seconds) == words


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
async def test_what_was_never_listed_cannot_be_shown(error: IdcfsError, offline: bool, cache: Path) -> None:
    with pytest.raises(type(error), match=str(error)):
        await search_catalog(Server(error).search, HERE, cache, offline=offline)


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("error", [AccessDenied("403"), Refused("not JSON"), Damaged("cut off")])
async def test_what_the_archive_does_answer_is_believed_rather_than_a_kept_list(error: IdcfsError, cache: Path) -> None:
    await search_catalog(Server().search, HERE, cache)
    with pytest.raises(type(error), match=str(error)):
        await search_catalog(Server(error).search, HERE, cache)


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize(
    "other", [replace(HERE, base_url="http://here:8042/other"), replace(HERE, name="there", page_limit=7)]
)
async def test_each_archive_has_its_own_list(other: ArchiveSettings, cache: Path) -> None:
    await search_catalog(Server().search, HERE, cache)
    with pytest.raises(Unreachable):
        await search_catalog(Server(AWAY[0]).search, other, cache)
    assert (await search_catalog(Server(AWAY[0]).search, replace(HERE, page_limit=7), cache)).rows == 2


async def test_an_archive_that_listed_nothing_has_no_list_to_be_shown(cache: Path) -> None:
    assert (await search_catalog(Server([]).search, HERE, cache)).rows == 0
    with pytest.raises(Unreachable):
        await search_catalog(Server(AWAY[0]).search, HERE, cache)


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
async def test_a_damaged_list_of_an_archive_is_not_shown_and_is_made_again(
    damage: Callable[[Path], None], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await search_catalog(Server().search, HERE, cache)
    damage(searched_path(HERE, cache))
    with pytest.raises(Unreachable):
        await search_catalog(Server(AWAY[0]).search, HERE, cache)
    (record,) = caplog.records
    assert str(searched_path(HERE, cache)) in record.getMessage()
    assert "not used" in record.getMessage()
    await search_catalog(Server().search, HERE, cache)
    assert (await search_catalog(Server(AWAY[0]).search, HERE, cache)).rows == 2


async def test_a_list_that_another_mount_replaces_stays_what_it_was(cache: Path) -> None:
    await search_catalog(Server().search, HERE, cache)
    kept = await search_catalog(Server(AWAY[0]).search, HERE, cache)
    before = everything(kept)
    await search_catalog(Server([Record("Z", "9", "9.9", 1)] * 3).search, HERE, cache)
    assert everything(kept) == before


# --- built by another process ----------------------------------------------------------------------------------------


def parsed(lines: Sequence[bytes]) -> tuple[str, list[tuple[object, ...]]]:
    collection, records = build.read_records(lines)
    return collection, [tuple(record) for record in records]


@patient
@given(any_text, st.lists(st.builds(Record, hostile(any_text), any_text, any_text, st.none() | st.integers())))
@example("a\ud83d\ude00", [Record("\ud83d\ude00\U0001f600\n\r\x85\u2028\0")] * 1_001)
def test_what_is_listed_reaches_the_builder_as_it_is(archive: str, records: list[Record]) -> None:
    lines = b"".join(index._lines(archive, records)).splitlines(keepends=True)
    assert parsed(lines) == (
        archive,
        [(one.patient_id, one.study_uid, one.series_uid, one.instance_count) for one in records],
    )


def test_a_list_that_ends_early_is_not_taken_for_all_there_is() -> None:
    whole = b"".join(index._lines("here", [Record("é\ud800")] * 1_001))
    for length in (*range(300), *range(len(whole) - 60, len(whole) - 1)):  # at -1 only the end of the line is missing
        with pytest.raises(UsageError, match=r"the list of series (ended early|is damaged)"):
            parsed(whole[:length].splitlines(keepends=True))
    assert len(parsed(whole.splitlines(keepends=True))[1]) == 1_001


@pytest.mark.parametrize("lines", [[b"1"], [b"[]"], [b'["a",1]', b"7"], [b'["a",1]', b"[7]"], [b'["a",1]', b"[[1]]"]])
def test_a_list_of_other_things_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(UsageError, match="the list of series is damaged"):
        parsed(lines)


def test_a_mount_that_is_killed_while_it_sends_a_list_leaves_the_last_one(cache: Path) -> None:
    path = cache / "catalog-x.arrow"
    path.write_bytes(b"before")
    command = [sys.executable, "-m", "idcfs.namespace.build", str(path), "-"]
    lines = list(index._lines("here", [Record()] * 1_001))
    done = subprocess.run(command, input=b"".join(lines[:-1]), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"the list of series ended early, after 1000\n"
    assert os.listdir(cache) == [path.name]
    assert path.read_bytes() == b"before"


def test_a_builder_does_without_pandas(cache: Path) -> None:
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('idcfs.namespace.build', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0 and 'pandas' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(cache / "catalog-x.arrow"), "-"]
    done = subprocess.run(command, input=b"".join(index._lines("here", [Record()])), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Catalog.open(cache / "catalog-x.arrow").rows == 1


async def test_the_mount_s_process_loads_nothing_that_only_building_needs(tmp_path: Path) -> None:
    code = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from idcfs import cli\n"
        "from idcfs.errors import UsageError\n"
        "from idcfs.settings import QIDO, ArchiveSettings, MountSettings\n"
        "here, cache = ArchiveSettings('here', 'http://here'), Path(sys.argv[1])\n"
        "try: cli._serve(MountSettings(cache, here, QIDO, Path('/proc/none')), print, print)\n"  # loads what it needs
        "except UsageError as error: assert 'cannot be made' in str(error)\n"
        "from idcfs.archive.dicomweb import SeriesRecord\n"
        "from idcfs.namespace.index import search_catalog, unsearched_catalog\n"
        "async def search(): return [SeriesRecord('P1', '1.2', '1.2.3', 7)]\n"
        "catalog = unsearched_catalog('here')\n"
        "assert [name for name, *_ in catalog.children(0, 0, 0)] == [b'here']\n"
        "assert trio.run(search_catalog, search, here, cache).series(0).instances == 7\n"
        "heavy = ('numpy', 'pandas', 'pyarrow.compute', 'pyarrow.parquet', 'idcfs.namespace.build')\n"
        "print(sorted(name for name in heavy if sys.modules.get(name)))\n"
    )
    done = await trio.run_process([sys.executable, "-c", code, tmp_path], capture_stdout=True, capture_stderr=True)
    assert (done.stdout, done.stderr) == (b"[]\n", b"")


KILLED = "what here:8042 lists cannot be sorted: the process that does it was ended: Killed"


async def test_a_builder_that_is_killed_is_an_error_and_the_next_look_asks_again(
    cache: Path, builder: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server([Record()] * 100_000)
    builder("read line; kill -KILL $$")  # in the middle of the list
    with pytest.raises(IdcfsError) as caught:
        await search_catalog(server.search, HERE, cache)
    assert (type(caught.value), str(caught.value)) == (IdcfsError, KILLED)
    assert caplog.records == []
    assert os.listdir(cache / "searched") == []
    monkeypatch.undo()
    assert (await search_catalog(server.search, HERE, cache)).rows == 1
    assert server.calls == 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "exit code 1"),
        ("printf 'Traceback (most recent call last):\n  ...\nMemoryError\n' >&2; exit 1", "MemoryError"),
        ("cat >/dev/null; printf '\\377\n' >&2; exit 2", "\ufffd"),
    ],
)
async def test_a_builder_that_fails_is_an_error_of_one_line(
    script: str, reason: str, cache: Path, builder: Callable[[str], None]
) -> None:
    builder(script)
    with pytest.raises(IdcfsError) as caught:
        await search_catalog(Server([Record()] * 100_000).search, HERE, cache)
    assert str(caught.value) == f"what here:8042 lists cannot be sorted: {reason}"


async def test_a_builder_that_cannot_be_started_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/none")
    with pytest.raises(IdcfsError, match=r"^/none cannot be started: No such file or directory$"):
        await search_catalog(Server().search, HERE, cache)


async def test_unmounting_does_not_wait_for_a_builder(
    cache: Path, tmp_path: Path, builder: Callable[[str], None]
) -> None:
    begun, go_on, ended = (tmp_path / name for name in ("begun", "go-on", "ended"))
    builder(f"cat >/dev/null; : >{begun}; until [ -e {go_on} ]; do sleep 0.05; done; : >{ended}")
    patience = threading.Timer(PATIENCE_SECONDS, go_on.touch)  # or to wait for it would be to wait for ever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(search_catalog, Server().search, HERE, cache)
        await present(begun)
        patience.start()
        nursery.cancel_scope.cancel()
    assert not go_on.exists()
    patience.cancel()
    go_on.touch()
    await present(ended)


async def present(path: Path) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.01)


# --- where it cannot be kept -----------------------------------------------------------------------------------------


async def test_a_list_that_cannot_be_written_is_shown_all_the_same(
    scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = await search_catalog(Server().search, HERE, Path("/proc"))
    assert {found.value(Level.PATIENT, row) for row in range(found.rows)} == {"P1", "\ud800" * 100}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "/proc/searched/catalog-" in record.getMessage()
    assert "what here:8042 lists is not kept" in record.getMessage()
    assert os.listdir(scratch) == []


def fill_disk(cache: Path) -> Path:
    """What a builder writes for ``HERE`` goes where no space is left."""
    target = searched_path(HERE, cache)
    temporary = target.with_name(f"{target.name}.tmp")
    target.parent.mkdir(exist_ok=True)
    temporary.symlink_to("/dev/full")
    return temporary


async def test_on_a_full_disk_the_list_before_stays(
    cache: Path, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await search_catalog(Server().search, HERE, cache)
    temporary = fill_disk(cache)
    assert (await search_catalog(Server([Record()]).search, HERE, cache)).rows == 1
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()
    assert set(os.listdir(cache / "searched")) == {"catalog.lock", searched_path(HERE, cache).name}
    assert (os.listdir(scratch), temporary.exists()) == ([], False)
    assert (await search_catalog(Server(AWAY[0]).search, HERE, cache)).rows == 2


async def test_memory_serves_where_no_disk_can_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = os.listdir("/dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    assert (await search_catalog(Server().search, HERE, Path("/proc"))).rows == 2
    assert len(caplog.records) == 1
    assert {name for name in os.listdir("/dev/shm") if name.startswith("idcfs-")} <= set(before)


async def test_a_list_that_can_be_written_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SCRATCH", ("/proc",))
    with pytest.raises(IdcfsError, match=r"what here:8042 lists cannot be written anywhere \(.*/proc/"):
        await search_catalog(Server().search, HERE, Path("/proc"))


# --- removed ---------------------------------------------------------------------------------------------------------


async def test_clearing_removes_every_list_and_mounts_keep_what_they_show(cache: Path) -> None:
    shown = await search_catalog(Server().search, HERE, cache)
    before = everything(shown)
    await search_catalog(Server().search, replace(HERE, name="there"), cache)
    (cache / "searched" / "catalog-1-killed.arrow.tmp").write_bytes(bytes(5_000))
    (cache / "catalog-1-packaged.arrow").write_bytes(b"not a list")
    sizes = [path.stat().st_size for path in (cache / "searched").glob("catalog-*")]
    assert len(sizes) == 3
    assert clear_searched(cache) == sum(sizes)
    assert os.listdir(cache / "searched") == ["catalog.lock"]
    assert (cache / "catalog-1-packaged.arrow").exists()
    assert everything(shown) == before
    with pytest.raises(Unreachable):
        await search_catalog(Server(AWAY[0]).search, HERE, cache)
    assert (await search_catalog(Server().search, HERE, cache)).rows == 2


def test_where_nothing_was_searched_there_is_nothing_to_clear(cache: Path) -> None:
    assert clear_searched(cache) == clear_searched(cache / "none") == 0
    assert os.listdir(cache) == []


def test_what_cannot_be_cleared_is_said(cache: Path) -> None:
    (cache / "searched").write_bytes(b"")
    with pytest.raises(IdcfsError, match=r"searched cannot be cleared: Not a directory$"):
        clear_searched(cache)


# --- not searched yet ------------------------------------------------------------------------------------------------


@patient
@given(hostile(any_text))
@example("here:8042")
@example("\ud800")
@example("x" * 300)
def test_an_archive_not_searched_yet_is_what_one_empty_series_would_be_built_as(archive: str) -> None:
    table, expected = unsearched_table(archive), build.table_of_records(archive, [Record("", "", "", 0)])
    assert table.equals(expected, check_metadata=True)
    table.validate(full=True)
    assert everything(unsearched_catalog(archive)) == everything(Catalog(expected))

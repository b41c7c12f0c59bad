"""The catalog of what an archive lists: asked for, kept, shown while the archive is away, removed."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given

from idcfs.errors import AccessDenied, Damaged, IdcfsError, Refused, Unreachable
from idcfs.layout import DEFAULT
from idcfs.namespace import build, index
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import clear_searched, search_catalog, searched_path, unsearched_catalog
from idcfs.namespace.schema import unsearched_table
from idcfs.settings import ArchiveSettings
from tests.namespace.damaging import DAMAGES
from tests.namespace.making import AWAY, Record, any_text, everything, hostile, patient
from tests.namespace.searched import HERE, Server

DAY = 86_400


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

    def build_here(found: index._Searched, path: Path) -> Catalog:
        build.build_from_records(index._lines(found.archive, found.records), path)
        return Catalog.open(path)

    monkeypatch.setattr(index, "_built_of_records", build_here)


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


# --- where it cannot be kept -----------------------------------------------------------------------------------------


async def test_a_list_that_cannot_be_written_is_shown_all_the_same(
    scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = await search_catalog(Server().search, HERE, Path("/proc"))
    assert {found.value("PatientID", row) for row in range(found.rows)} == {"P1", "\ud800" * 100}
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
    (cache / "searched" / f"catalog-1-{'d4' * 10}.arrow.tmp").write_bytes(bytes(5_000))
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


async def test_of_lists_that_a_link_leads_to_the_link_is_cleared_alone(cache: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (cache / "searched").symlink_to(theirs)
    await search_catalog(Server().search, HERE, cache)
    listed = os.listdir(theirs)
    assert searched_path(HERE, cache).name in listed
    assert clear_searched(cache) == 0
    assert os.listdir(theirs) == listed
    with pytest.raises(Unreachable):
        await search_catalog(Server(AWAY[0]).search, HERE, cache)


def test_nothing_is_cleared_that_is_no_list(cache: Path) -> None:
    (cache / "searched").mkdir()
    names = ("catalog-2020.csv", "catalog-1-mine.arrow", f"catalog-1-{'d4' * 10}.arrow.bak")
    for name in names:
        (cache / "searched" / name).write_bytes(b"theirs")
    assert clear_searched(cache) == 0
    assert {*os.listdir(cache / "searched")} == {*names, "catalog.lock"}


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
    table, expected = unsearched_table(archive, DEFAULT), build.table_of_records(archive, [Record("", "", "", 0)])
    assert table.equals(expected, check_metadata=True)
    table.validate(full=True)
    assert everything(unsearched_catalog(archive)) == everything(Catalog(expected))

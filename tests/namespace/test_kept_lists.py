"""Lists kept on disk: a series visited once is not asked for again, and what stands in for an archive that is away."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from idcfs.errors import AccessDenied, Damaged, Gone, IdcfsError, Refused, Unreachable
from idcfs.namespace import listing
from idcfs.namespace.catalog import Series
from idcfs.namespace.listing import Listing
from idcfs.namespace.names import instance_name
from tests.namespace.listed import Archive, listings_of, numbered, series, uids
from tests.namespace.making import AWAY

by_name = pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)


async def visited(archive: Archive, tmp_path: Path, one: Series, *, offline: bool = False) -> Listing:
    """The listing that a mount of its own gives."""
    async with listings_of(archive, tmp_path, offline=offline) as listings:
        return await listings.get(5, one)


async def refused(archive: Archive, tmp_path: Path, one: Series, error: IdcfsError) -> None:
    """A mount of its own gives no listing, but ``error``."""
    async with listings_of(archive, tmp_path) as listings:
        with pytest.raises(type(error), match=str(error)):
            await listings.get(5, one)


async def test_a_series_visited_once_is_never_asked_for_again(tmp_path: Path) -> None:
    archive, one = Archive(list(reversed(uids(3)))), series()
    first = await visited(archive, tmp_path, one)
    archive.answer = Unreachable("no route")
    for _ in range(2):
        again = await visited(archive, tmp_path, one)
        assert again.names == first.names == [instance_name(uid) for uid in uids(3)]
    assert archive.calls == 1


async def test_without_a_content_uuid_each_mount_asks_for_a_list_of_the_right_length_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, one = Archive(), series(content="")
    await visited(archive, tmp_path, one)
    archive.answer = ["1.2.3.7", "1.2.3.8", "1.2.3.9"]  # sent again: as many, but others
    names = [instance_name(uid) for uid in archive.answer]
    assert (await visited(archive, tmp_path, one)).names == names
    assert caplog.records == []
    archive.answer = Unreachable("no route")
    assert (await visited(archive, tmp_path, one)).names == names
    (record,) = caplog.records
    assert "shown are the 3 instances listed earlier (no route)" in record.getMessage()
    assert archive.calls == 3


async def test_without_a_content_uuid_a_mount_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    archive = Archive()
    one, other = (Series("1.2", f"1.2.3.{row}", 3, 900_000, "", frozenset()) for row in range(2))
    for number in (1, 2):
        async with listings_of(archive, tmp_path) as listings:
            first = await listings.get(0, one)
            await listings.get(1, other)
            again = await listings.get(0, one)
            assert again is not first
            assert again.names == first.names
        assert archive.calls == 2 * number


async def test_the_largest_series_of_all_is_never_asked_for_again(tmp_path: Path) -> None:
    archive, one = Archive(uids(91_980)), series(91_980)
    first = await visited(archive, tmp_path, one)
    assert (await visited(archive, tmp_path, one)).names == first.names
    assert len(first) == 91_980
    assert archive.calls == 1


async def test_a_list_belongs_to_its_content(tmp_path: Path) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series(content="old"))
    await visited(archive, tmp_path, series(content="new"))
    await visited(archive, tmp_path, series(content=""))
    assert archive.calls == 3


@pytest.mark.parametrize("instances", [None, 2, 4])
async def test_a_list_that_the_index_does_not_confirm_is_asked_for_by_each_mount(
    instances: int | None, tmp_path: Path
) -> None:
    archive, one = Archive(), series(instances)
    await visited(archive, tmp_path, one)
    await visited(archive, tmp_path, one)
    assert archive.calls == 2
    archive.answer = uids(5)
    assert len(await visited(archive, tmp_path, one)) == 5
    archive.answer = Unreachable("no route")
    assert len(await visited(archive, tmp_path, one)) == 5  # the last answer, not the first
    assert archive.calls == 4


@by_name
@pytest.mark.parametrize("instances", [None, 2, 4])
async def test_while_the_archive_is_away_a_list_is_used_that_the_index_does_not_confirm(
    instances: int | None, error: IdcfsError, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, one = Archive(), series(instances)
    first = await visited(archive, tmp_path, one)
    caplog.clear()
    archive.answer = error
    again = await visited(archive, tmp_path, one)
    assert again.names == first.names
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"series 1.2.3 of study 1.2: shown are the 3 instances listed earlier ({error})" in record.getMessage()


async def test_offline_a_list_that_the_index_does_not_confirm_is_no_reason_to_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, one = Archive(), series(None)
    await visited(archive, tmp_path, one)
    archive.answer = Unreachable("offline")
    with caplog.at_level(logging.INFO):
        assert len(await visited(archive, tmp_path, one, offline=True)) == 3
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "shown are the 3 instances listed earlier (offline)" in record.getMessage()


async def test_that_the_archive_is_away_is_told_once_per_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive()
    for row in (0, 1):
        await visited(archive, tmp_path, numbered(row, None))
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    archive.answer = Unreachable("no route")
    async with listings_of(archive, tmp_path) as listings:
        for row in (0, 1, 0, 1):
            assert len(await listings.get(row, numbered(row, None))) == 3
    assert len(caplog.records) == 2
    assert archive.calls == 6


@by_name
async def test_while_the_archive_is_away_a_series_never_visited_cannot_be_listed(
    error: IdcfsError, tmp_path: Path
) -> None:
    await refused(Archive(error), tmp_path, series(), error)


@pytest.mark.parametrize("error", [Gone("410"), AccessDenied("403"), Refused("not JSON"), Damaged("cut off")])
async def test_what_the_archive_does_answer_is_believed_rather_than_a_kept_list(
    error: IdcfsError, tmp_path: Path
) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series(None))
    archive.answer = error
    await refused(archive, tmp_path, series(None), error)


async def test_a_list_of_nothing_is_kept_but_not_shown_where_the_index_lists_something(tmp_path: Path) -> None:
    archive = Archive([])
    for _ in range(2):
        assert len(await visited(archive, tmp_path, series(0))) == 0
    assert archive.calls == 1
    archive.answer = away = Unreachable("no route")
    assert len(await visited(archive, tmp_path, series(None))) == 0
    await refused(archive, tmp_path, series(3), away)


async def test_an_archive_that_lost_a_series_takes_no_kept_list_away(tmp_path: Path) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series(4))
    archive.answer = []
    await refused(archive, tmp_path, series(4), Gone("the archive has none of them"))
    archive.answer = Unreachable("no route")
    assert len(await visited(archive, tmp_path, series(4))) == 3


async def test_repeated_instances_do_not_count(tmp_path: Path) -> None:
    archive = Archive(["1.2.3.0", "1.2.3.1", "1.2.3.1"])
    await visited(archive, tmp_path, series(3))
    await visited(archive, tmp_path, series(3))
    assert archive.calls == 2  # two are not three
    await visited(archive, tmp_path, series(2))
    assert archive.calls == 2


async def test_a_damaged_list_is_asked_for_again(tmp_path: Path) -> None:
    archive = Archive()
    await visited(archive, tmp_path, series())
    with closing(sqlite3.connect(tmp_path / "series.sqlite")) as connection, connection:
        connection.execute("UPDATE listing SET uids = substr(uids, 1, 30)")
    assert len(await visited(archive, tmp_path, series())) == 3
    assert archive.calls == 2
    await visited(archive, tmp_path, series())
    assert archive.calls == 2


async def test_without_a_place_a_series_is_asked_for_once_per_mount(tmp_path: Path) -> None:
    archive = Archive()
    for number in (1, 2):
        async with listings_of(archive, Path("/proc")) as listings:
            for row in range(3):
                await listings.get(row, series())
        assert archive.calls == number


async def test_a_list_of_the_absent_archive_that_changed_when_it_came_back_is_gone_until_the_next_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive()
    await visited(archive, tmp_path, numbered(0, None))
    monkeypatch.setattr(listing, "MAX_KEPT", 4)  # each listing drives out the one before
    async with listings_of(archive, tmp_path) as listings:
        archive.answer = Unreachable("no route")
        assert len(await listings.get(0, numbered(0, None))) == 3
        archive.answer = uids(4)
        assert len(await listings.get(0, numbered(0, None))) == 3  # at hand: not asked for again
        await listings.get(1, numbered(1, None))
        with pytest.raises(Gone, match="mount again"):
            await listings.get(0, numbered(0, None))
    async with listings_of(archive, tmp_path) as listings:
        assert len(await listings.get(0, numbered(0, None))) == 4

"""The filesystem over an archive that is searched at the first look below its root."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from idcfs.errors import IdcfsError, Unreachable
from idcfs.filesystem import Filesystem
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import unsearched_catalog
from idcfs.namespace.listing import UNKNOWN_BYTES
from idcfs.namespace.nodes import ROOT_INODE
from idcfs.views.view import Kind
from tests.namespace.making import Record, catalog_of_records
from tests.without_kernel import Source, at, names, serving


@dataclass
class Search:
    """A search that can fail, and counts how often it ran."""

    records: Sequence[Record] | IdcfsError = (Record("P1", "1.1", "1.1.1", 3), Record("P2", "1.2", "1.2.1", None))
    calls: int = 0

    async def __call__(self) -> Catalog:
        self.calls += 1
        await trio.testing.wait_all_tasks_blocked()
        if isinstance(self.records, IdcfsError):
            raise self.records
        return catalog_of_records("host:8042", self.records)


@asynccontextmanager
async def searching(search: Search, source: Source, path: Path) -> AsyncIterator[Filesystem]:
    async with serving(source, unsearched_catalog("host:8042"), path, search=search) as fs:
        yield fs


@pytest.fixture
def source() -> Source:
    return Source()


async def test_the_root_of_a_searched_archive_is_known_without_a_search(source: Source, tmp_path: Path) -> None:
    search = Search()
    async with searching(search, source, tmp_path) as fs:
        assert await names(fs, ROOT_INODE) == [b"host:8042"]
        archive = await at(fs, "host:8042")
        assert archive == await fs.getattr(archive.inode)
        assert archive.kind == Kind.DIRECTORY
        assert await fs.lookup(ROOT_INODE, b"absent") is None
        assert fs.totals() == (0, 0)
    assert search.calls == 0


async def test_the_first_look_below_searches_once_and_all_wait_for_it(source: Source, tmp_path: Path) -> None:
    search = Search()
    async with searching(search, source, tmp_path) as fs:
        archive = (await at(fs, "host:8042")).inode
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(fs.lookup, archive, b"P1")
                nursery.start_soon(names, fs, archive)
        assert search.calls == 1
        assert await names(fs, archive) == [b"P1", b"P2"]
        assert await names(fs, (await at(fs, "host:8042/P1/1.1/1.1.1")).inode) == [
            b"1.9.1.dcm",
            b"1.9.2.dcm",
            b"1.9.3.dcm",
        ]
        assert (await at(fs, "host:8042/P2/1.2/1.2.1/1.9.3.dcm")).size == UNKNOWN_BYTES
        assert (await at(fs, "host:8042")).inode == archive
    assert search.calls == 1


async def test_a_search_that_failed_is_tried_again_at_the_next_look(source: Source, tmp_path: Path) -> None:
    search = Search(Unreachable("no route"))
    async with searching(search, source, tmp_path) as fs:
        archive = (await at(fs, "host:8042")).inode
        for _ in range(2):
            with pytest.raises(Unreachable, match="no route"):
                await fs.opendir(archive)
        search.records = Search().records
        assert await names(fs, archive) == [b"P1", b"P2"]
    assert search.calls == 3


async def test_an_archive_that_holds_nothing_is_an_empty_directory_until_it_holds_something(
    source: Source, tmp_path: Path
) -> None:
    search = Search(())
    async with searching(search, source, tmp_path) as fs:
        archive = (await at(fs, "host:8042")).inode
        assert await names(fs, archive) == []
        assert await fs.lookup(archive, b"P1") is None
        assert await names(fs, ROOT_INODE) == [b"host:8042"]
        search.records = Search().records
        assert await names(fs, archive) == [b"P1", b"P2"]

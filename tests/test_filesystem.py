"""The filesystem without the kernel: names, directories, files, and what is remembered of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from idcfs.errors import Damaged, Gone, NotADirectory, NotALink, NotFound, Unreachable, WrongSize
from idcfs.filesystem import Filesystem
from idcfs.namespace.nodes import ROOT_INODE, Level, inode_of
from idcfs.settings import KIB, STATUS_NAME
from idcfs.stats import Stats
from idcfs.views.view import Kind
from tests.namespace.making import catalog_of
from tests.without_kernel import RELEASES, ROWS, STATUS, Source, at, entries, names, serving


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
async def fs(source: Source, stats: Stats, tmp_path: Path) -> AsyncIterator[Filesystem]:
    with catalog_of(ROWS, RELEASES) as catalog:
        async with serving(source, catalog, tmp_path, stats) as filesystem:
            yield filesystem


SERIES = "lung/P1/1.1/1.1.1"
DIRECTORIES = ["lung", "lung/P1", "lung/P1/1.1", "lung/P2/1.1", "brain/P1/1.3", SERIES]


# --- names and directories -------------------------------------------------------------------------------------------


async def test_directories_list_what_the_index_lists(fs: Filesystem) -> None:
    assert await names(fs, ROOT_INODE) == [b"%2Estatus.json", b"brain", b"lung"]
    assert await names(fs, (await at(fs, "lung")).inode) == [b"P1", b"P2"]
    assert await names(fs, (await at(fs, "lung/P1")).inode) == [b"1.1", b"1.2"]
    assert await names(fs, (await at(fs, "lung/P1/1.1")).inode) == [b"1.1.1", b"1.1.2"]
    assert await names(fs, (await at(fs, "lung/P2/1.1")).inode) == [b"1.1.3"]
    assert await names(fs, (await at(fs, SERIES)).inode) == [b"1.9.1.dcm", b"1.9.2.dcm", b"1.9.3.dcm"]
    assert await names(fs, (await at(fs, "%2Estatus.json/a%2Fb/%~")).inode) == [b"%2E%2E"]


async def test_nothing_above_the_instances_costs_a_request(fs: Filesystem, source: Source) -> None:
    async def walk(inode: int, depth: int) -> None:
        for name, attributes, _ in await entries(fs, inode):
            assert await fs.lookup(inode, name) == attributes == await fs.getattr(attributes.inode)
            if depth < Level.STUDY:
                await walk(attributes.inode, depth + 1)

    await walk(ROOT_INODE, 0)
    assert source.listed == []
    await names(fs, (await at(fs, SERIES)).inode)
    await names(fs, (await at(fs, SERIES)).inode)
    assert source.listed == ["1.1.1"]


@pytest.mark.parametrize("path", DIRECTORIES)
async def test_what_a_directory_lists_is_what_is_found_and_what_stat_says(fs: Filesystem, path: str) -> None:
    inode = (await at(fs, path)).inode
    listed = await entries(fs, inode)
    assert listed
    for name, attributes, _ in listed:
        assert await fs.lookup(inode, name) == attributes == await fs.getattr(attributes.inode)
    for name in (b"absent", b"", b"\xff", b"..", listed[0][0] + b"x", listed[0][0][:-1]):
        assert await fs.lookup(inode, name) is None


@pytest.mark.parametrize("path", DIRECTORIES)
async def test_reading_a_directory_goes_on_from_any_entry(fs: Filesystem, path: str) -> None:
    inode = (await at(fs, path)).inode
    whole = await entries(fs, inode)
    for position, (_, _, after) in enumerate(whole):
        assert await entries(fs, inode, after) == whole[position + 1 :]
    assert await entries(fs, inode, whole[-1][2]) == []


async def test_inodes_are_distinct(fs: Filesystem) -> None:
    found = [ROOT_INODE, (await at(fs, STATUS_NAME)).inode]
    for path in ("", *DIRECTORIES, "lung/P1/1.1/1.1.2"):
        inode = (await at(fs, path)).inode if path else ROOT_INODE
        found += [attributes.inode for _, attributes, _ in await entries(fs, inode)]
    assert len(found) == len(set(found))


async def test_directories_are_as_old_as_the_release_of_what_is_below(fs: Filesystem) -> None:
    assert (await fs.getattr(ROOT_INODE)).modified == 2_000
    assert await at(fs, "brain/P1") == (inode_of(Level.PATIENT, 1), Kind.DIRECTORY, 0, 0, 2_000, True)
    assert (await at(fs, "lung")).modified == 1_000
    assert (await at(fs, f"{SERIES}/1.9.1.dcm")).modified == 1_000


async def test_a_file_is_no_directory(fs: Filesystem) -> None:
    for path in (f"{SERIES}/1.9.1.dcm", STATUS_NAME):
        inode = (await at(fs, path)).inode
        with pytest.raises(NotADirectory):
            await fs.lookup(inode, b"x")
        with pytest.raises(NotADirectory):
            await fs.opendir(inode)


async def test_what_is_no_link_leads_nowhere(fs: Filesystem) -> None:
    for path in ("lung", f"{SERIES}/1.9.1.dcm", ".status.json", ".bulk", ".uid"):
        with pytest.raises(NotALink):
            await fs.readlink((await at(fs, path)).inode)


async def test_a_number_beyond_the_listing_is_no_instance(fs: Filesystem) -> None:
    inode = (await at(fs, f"{SERIES}/1.9.3.dcm")).inode
    for call in (fs.getattr, fs.open):
        with pytest.raises(NotFound):
            await call(inode + 1)


async def test_an_open_directory_keeps_the_view_it_had(fs: Filesystem) -> None:
    inode = (await at(fs, SERIES)).inode
    one, other = await fs.opendir(inode), await fs.opendir(inode)
    fs.releasedir(other)
    with pytest.raises(KeyError):
        fs.readdir(other, 0)
    assert [name for name, _, _ in fs.readdir(one, 1)] == [b"1.9.2.dcm", b"1.9.3.dcm"]
    fs.releasedir(one)


async def test_a_series_that_the_archive_lost_is_gone_and_one_it_cannot_list_is_asked_for_again(
    fs: Filesystem, source: Source
) -> None:
    inode = (await at(fs, SERIES)).inode
    source.uids = ()
    for call in (fs.opendir(inode), fs.lookup(inode, b"1.9.1.dcm"), fs.getattr(inode_of(Level.INSTANCE, 2, 0))):
        with pytest.raises(Gone):
            await call
    source.uids = Unreachable("no route")
    with pytest.raises(Unreachable):
        await fs.opendir(inode)
    source.uids = Source().uids
    assert len(await names(fs, inode)) == 3


async def test_lookups_at_once_in_one_series_cost_one_request(fs: Filesystem, source: Source) -> None:
    inode = (await at(fs, SERIES)).inode
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(fs.lookup, inode, b"1.9.1.dcm")
    assert source.listed == ["1.1.1"]


async def test_totals_are_those_of_the_index(fs: Filesystem) -> None:
    assert fs.totals() == (400_000 + 4 * 1_500_000, 3 + 1 + 4 * 2)


# --- the status file -------------------------------------------------------------------------------------------------


async def test_the_status_file_is_hidden_but_there(fs: Filesystem) -> None:
    assert STATUS_NAME.encode() not in await names(fs, ROOT_INODE)
    found = await fs.lookup(ROOT_INODE, STATUS_NAME.encode())
    assert found is not None
    assert found == await fs.getattr(found.inode)
    assert (found.kind, found.size, found.lasting) == (Kind.FILE, len(STATUS), False)
    opened = await fs.open(found.inode)
    assert (opened.live, opened.resized) == (True, False)
    assert await fs.read(opened.handle, 0, 1_000) == STATUS
    assert await fs.read(opened.handle, 2, 5) == STATUS[2:7]
    assert await fs.read(opened.handle, 1_000, 5) == b""
    fs.release(opened.handle)


async def test_the_status_file_stands_at_the_root_only(fs: Filesystem) -> None:
    assert await fs.lookup((await at(fs, "lung")).inode, STATUS_NAME.encode()) is None


# --- files -----------------------------------------------------------------------------------------------------------


async def test_the_size_becomes_exact_on_opening_and_stays_so(fs: Filesystem, source: Source) -> None:
    before = await at(fs, f"{SERIES}/1.9.2.dcm")
    assert (before.size, before.lasting) == (128 * KIB, False)
    opened = await fs.open(before.inode)
    assert opened.resized
    after = await fs.getattr(before.inode)
    assert (after.size, after.blocks, after.lasting) == (250 * KIB, 500, True)
    assert await at(fs, f"{SERIES}/1.9.2.dcm") == after
    again = await fs.open(before.inode)
    assert not again.resized
    assert source.sized == ["1.9.2"]
    for handle in (opened.handle, again.handle):
        fs.release(handle)


async def test_the_only_instance_of_a_series_has_its_size_from_the_index(fs: Filesystem, source: Source) -> None:
    only = await at(fs, "lung/P1/1.1/1.1.2/1.9.1.dcm")
    assert (only.size, only.blocks, only.lasting) == (100_000, 196, True)
    opened = await fs.open(only.inode)
    assert not opened.resized
    assert source.sized == []
    assert len(await fs.read(opened.handle, 0, 10**6)) == 100_000


async def test_exact_sizes_are_remembered_by_the_next_mount(fs: Filesystem, source: Source, tmp_path: Path) -> None:
    await fs.open((await at(fs, f"{SERIES}/1.9.2.dcm")).inode)
    with catalog_of(ROWS, RELEASES) as catalog:
        async with serving(source, catalog, tmp_path) as first:
            await first.open((await at(first, f"{SERIES}/1.9.1.dcm")).inode)
        async with serving(source, catalog, tmp_path) as second:
            assert (await at(second, f"{SERIES}/1.9.1.dcm")).lasting


async def test_reads_give_the_bytes_of_the_instance_that_was_opened(fs: Filesystem, source: Source) -> None:
    handles = [(await fs.open((await at(fs, f"{SERIES}/1.9.{n}.dcm")).inode)).handle for n in (1, 2, 3)]
    for number, handle in enumerate(handles, 1):
        assert await fs.read(handle, 0, 10) == f"1.9.{number}1.9.{number}".encode()
        assert len(await fs.read(handle, 250 * KIB - 3, 10)) == 3
        assert await fs.read(handle, 250 * KIB, 10) == b""
    assert {instance.series_uid for instance in source.instances} == {"1.1.1"}
    assert {instance.content for instance in source.instances} == {"uuid of 1.1.1"}
    assert source.instances[0].transfer_syntaxes == {"1.2.840.10008.1.2.1"}


async def test_every_open_is_matched_by_a_close(fs: Filesystem, source: Source, stats: Stats) -> None:
    inode = (await at(fs, f"{SERIES}/1.9.1.dcm")).inode
    one, other = await fs.open(inode), await fs.open(inode)
    assert (source.opened["1.9.1"], stats["open_files"]) == (2, 2)
    fs.release(one.handle)
    assert (source.opened["1.9.1"], stats["open_files"]) == (1, 1)
    assert await fs.read(other.handle, 0, 5) == b"1.9.1"
    fs.release(other.handle)
    assert (source.opened["1.9.1"], stats["open_files"]) == (0, 0)
    with pytest.raises(KeyError):
        await fs.read(other.handle, 0, 5)


async def test_what_was_replaced_is_not_kept_by_the_kernel(fs: Filesystem, source: Source) -> None:
    inode = (await at(fs, f"{SERIES}/1.9.1.dcm")).inode
    source.replaced.add("1.9.1")
    assert (await fs.open(inode)).replaced
    source.replaced.clear()
    assert not (await fs.open(inode)).replaced


async def test_what_may_have_been_replaced_is_not_kept_by_the_kernel(source: Source, tmp_path: Path) -> None:
    with catalog_of([replace(row, crdc_series_uuid=None) for row in ROWS]) as catalog:
        async with serving(source, catalog, tmp_path) as fs:
            inode = (await at(fs, f"{SERIES}/1.9.1.dcm")).inode
            for _ in range(2):
                assert (await fs.open(inode)).replaced


async def test_an_open_that_fails_leaves_nothing_open(fs: Filesystem, source: Source, stats: Stats) -> None:
    inode = (await at(fs, f"{SERIES}/1.9.1.dcm")).inode
    source.size = Gone("410")
    with pytest.raises(Gone, match="410"):
        await fs.open(inode)
    assert (source.opened["1.9.1"], stats["open_files"]) == (0, 0)
    assert not (await fs.getattr(inode)).lasting
    source.size = 7
    fs.release((await fs.open(inode)).handle)
    assert (await fs.getattr(inode)).size == 7


async def test_an_open_that_is_cancelled_leaves_nothing_open(fs: Filesystem, source: Source, stats: Stats) -> None:
    inode = (await at(fs, f"{SERIES}/1.9.1.dcm")).inode
    with trio.CancelScope() as scope:
        scope.cancel()
        await fs.open(inode)
    assert (source.opened["1.9.1"], stats["open_files"]) == (0, 0)


async def test_an_instance_whose_uid_cannot_be_told_is_an_error_and_opens_nothing(
    fs: Filesystem, source: Source
) -> None:
    source.uids = ("x" * 300, "1.9.2", "1.9.3")
    name = (await names(fs, (await at(fs, SERIES)).inode))[-1]
    with pytest.raises(Damaged, match="no valid SOPInstanceUID"):
        await fs.open((await at(fs, f"{SERIES}/{name.decode()}")).inode)
    assert source.opened.total() == 0


async def test_another_size_at_the_archive_puts_the_known_one_in_doubt_once_the_file_is_closed(
    source: Source, tmp_path: Path
) -> None:
    with catalog_of([replace(row, crdc_series_uuid=None) for row in ROWS]) as catalog:
        async with serving(source, catalog, tmp_path) as fs:
            inode = (await at(fs, f"{SERIES}/1.9.1.dcm")).inode
            opened = await fs.open(inode)
            source.damaged = True
            with pytest.raises(WrongSize):
                await fs.read(opened.handle, 0, 10)
            assert (await fs.getattr(inode)).lasting  # of an open file nothing changes
            fs.release(opened.handle)
            assert not (await fs.getattr(inode)).lasting
            source.damaged, source.size = False, 7
            assert (await fs.open(inode)).resized
            assert (await fs.getattr(inode)).size == 7

"""What idcfs has kept on disk, damaged: blocks and their index, lists and sizes, catalogs."""

from __future__ import annotations

import io
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import pyarrow as pa
import trio

from idcfs import database
from idcfs.content import block_files
from idcfs.content.block_files import NewBlock
from idcfs.content.disk_directory import index_path
from idcfs.content.disk_index import IndexDamaged
from idcfs.content.disk_store import BlockStore, open_store
from idcfs.content.disk_work import Miss, Work
from idcfs.errors import Damaged
from idcfs.layout import NAMED_LAYOUTS, parse_layout
from idcfs.namespace import store
from idcfs.namespace.build import table_of_records
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.searched import SentSeries
from idcfs.namespace.store import SeriesStore
from idcfs.settings import MIB

from .given import Given, assert_short, edited, outcome

SHARED_MEMORY = "/dev/shm"
KEY = ("content", "1.2.3.4")
BLOCK = NewBlock.of(KEY, 3, bytes(range(256)))
LISTS = {"one": ("1.2.3", "1.2.4"), "two": ("1.2.5",)}
LAYOUTS = [parse_layout(name) for name in NAMED_LAYOUTS]
SERIES = [
    SentSeries(f"P{number % 3}", f"1.2.{number % 4}", f"1.3.{number}", number, "CT", "20260102", "Chest", "1", "x" * 99)
    for number in range(9)
]


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory; within, an error in the log, which is what a bug leaves, is one here too."""
    handler = _Bugs(logging.ERROR)
    logging.getLogger("idcfs").addHandler(handler)
    directory = tempfile.mkdtemp(dir=SHARED_MEMORY)
    try:
        yield Path(directory)
    finally:
        logging.getLogger("idcfs").removeHandler(handler)
        shutil.rmtree(directory)
    assert not handler.found, handler.found


class _Bugs(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.getMessage()}: {record.exc_info and record.exc_info[1]!r}")


def one_block(data: bytes) -> None:
    """The file of a block, damaged: its bytes, or none."""
    with _scratch() as directory:
        block_files.write(directory / "block", BLOCK)
        valid = (directory / "block").read_bytes()
        damaged = edited(valid, Given(data))
        (directory / "block").write_bytes(damaged)
        found = outcome(partial(block_files.read, directory / "block", BLOCK.name, BLOCK.number), Damaged)
    assert found == ((BLOCK.data, BLOCK.digest) if damaged == valid else Damaged)


def blocks(data: bytes) -> None:
    """The index of the disk cache, damaged: what it says is what is there, or it is begun anew."""
    given = Given(data)
    with _scratch() as directory:
        index_path(directory).write_bytes(edited(_valid_index(), given))
        found = open_store(directory, MIB)
        if found is None:
            return
        try:
            _use(found)
        finally:
            found.close()


def _use(found: BlockStore) -> None:
    found.look_up(KEY)
    found.look_up_series(KEY[0], 10)
    for ask in (found.index.info, partial(found.index.after, b"", 10), partial(found.index.oldest, 10)):
        outcome(ask, IndexDamaged, sqlite3.Error)
    found.apply(Work(blocks={(KEY, BLOCK.number): BLOCK}))
    if (digest := (found.look_up(KEY) or {}).get(BLOCK.number)) is not None:
        assert found.read(BLOCK.name, BLOCK.number, digest) in (BLOCK.data, Miss.ABSENT, Miss.REPLACED)


@cache
def _valid_index() -> bytes:
    def make(directory: Path) -> None:
        made = BlockStore(directory, MIB)
        made.apply(Work(blocks={(KEY, number): NewBlock.of(KEY, number, bytes(9)) for number in range(40)}))
        made.close()

    return _file_of(index_path, make)


def lists(data: bytes) -> None:
    """The store of lists and sizes, damaged: a list is as it was kept, or not there."""
    given = Given(data)
    with _scratch() as directory:
        path = _lists_in(directory)
        path.write_bytes(edited(_valid_lists(), given))
        store.info(path)
        trio.run(_look_into, path)


async def _look_into(path: Path) -> None:
    found = SeriesStore(path)
    try:
        for content, uids in LISTS.items():
            kept = await found.load(content)
            assert kept.uids in (None, uids)
            assert all(size > 0 for size in kept.sizes.values())
            assert await found.load_objects(content) in (None, uids)
        assert set(await found.contents_listing("1.2.3")) <= {"one"}
        found.remember_list("three", ["1.2.6"])
        found.remember_size("three", "1.2.6", 5)
        await found.sync()
        kept = await found.load("three")
        assert kept.uids in (None, ("1.2.6",))
    finally:
        found.close()


@cache
def _valid_lists() -> bytes:
    async def fill(directory: Path) -> None:
        made = SeriesStore(_lists_in(directory))
        for content, uids in LISTS.items():
            made.remember_list(content, uids)
            made.remember_objects(content, uids)
            for uid in uids:
                made.remember_size(content, uid, 1234)
        await made.sync()
        made.close()

    return _file_of(_lists_in, lambda directory: trio.run(fill, directory))


def _lists_in(directory: Path) -> Path:
    return directory / "series.sqlite"


def _file_of(path_in: Callable[[Path], Path], make: Callable[[Path], None]) -> bytes:
    """What is in the database that ``make`` makes."""
    with _scratch() as directory:
        make(directory)
        assert not any(file.exists() and file.stat().st_size for file in database.files_of(path_in(directory))[:1])
        return path_in(directory).read_bytes()


def catalog(data: bytes) -> None:
    """Which layout; a catalog file, damaged: it is found out, or what is read of it ends, and is like a catalog's."""
    given = Given(data)
    valid = _valid_catalog(given.number() % len(LAYOUTS))
    with _scratch() as directory:
        (directory / "catalog").write_bytes(edited(valid, given))
        opened = outcome(lambda: Catalog.open(directory / "catalog"), Damaged)
        if not isinstance(opened, type):
            _walk(opened, 0, 0, [4 * len(SERIES)])


def _walk(opened: Catalog, level: int, row: int, left: list[int]) -> None:
    """Down from a directory.

    What a catalog says is not looked at when it is opened, so it may be anything: EIO, for who asks a mount.
    """
    try:
        for name, child, _ in opened.children(level, row, 0):
            left[0] -= 1
            if left[0] < 0:
                return
            assert isinstance(name, bytes)
            below = opened.below(level)
            if below < 6:
                _walk(opened, below, child, left)
            else:
                opened.series(child)
                opened.revised_time(below, child)
    except (Damaged, LookupError, ValueError) as error:
        assert_short(str(error))


@cache
def _valid_catalog(number: int) -> bytes:
    file = io.BytesIO()
    table = table_of_records("lung", SERIES, LAYOUTS[number])
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()

"""The filesystem without the kernel, over all that stands below it but the network: the face of the first machine."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import trio

from idcfs.errors import IdcfsError, errno_of
from idcfs.filesystem import Filesystem
from idcfs.mount import built
from idcfs.namespace.index import open_catalog
from idcfs.namespace.nodes import ROOT_INODE
from idcfs.settings import (
    BLOCKS_NAME,
    STORE_NAME,
    ArchiveSettings,
    BucketSettings,
    ContentSettings,
    MountSettings,
    SourceSettings,
    TransportSettings,
)
from idcfs.stats import Stats
from idcfs.views.view import Attributes, Entry, Kind
from tests.model.face import DirectoryPath, Options, Piece, Size
from tests.model.reference import Reference
from tests.model.standing import Standing, without_threads
from tests.model.wire import MemoryHoldings, Wire
from tests.twin.knobs import parse_knobs

T = TypeVar("T")

SERVER = "http://twin.invalid"
AWAY_SECONDS = 130.0
"""Longer than anybody waits before asking again who was away."""


class Bugs(logging.Handler):
    """What the log tells of bugs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "bug" in record.getMessage():
            self.lines.append(self.format(record))


class House:
    """``face.Face``."""

    def __init__(self, index: Path, catalog: Path) -> None:
        """
        :param catalog: that of ``index``, made before.
        """
        self._index = index
        self._made_catalog = catalog
        self._stack = ExitStack()
        self._bugs = Bugs()
        self._wire: Wire

    def start(self, options: Options, reference: Reference) -> None:
        self._options = options
        self._stack.enter_context(without_threads())
        self._stack.enter_context(patch("idcfs.archive.transport.Connections", lambda *_: self._wire))
        logging.getLogger("idcfs").addHandler(self._bugs)
        self._stack.callback(logging.getLogger("idcfs").removeHandler, self._bugs)
        self._wire = Wire(MemoryHoldings(reference), parse_knobs(dict(options.habits)))
        self._loop = Standing()
        self._mount()

    def stop(self) -> None:
        with self._stack:
            try:
                self._unmount()
                shutil.rmtree(self._cache)
            finally:
                self._loop.end()

    def remount(self, *, is_empty: bool) -> None:
        self._unmount()
        if is_empty:
            shutil.rmtree(self._cache)
        self._mount(None if is_empty else self._cache)

    def _mount(self, cache: Path | None = None) -> None:
        self._cache = cache or Path(tempfile.mkdtemp(prefix="idcfs-model-"))
        if cache is None:
            shutil.copy(self._made_catalog, self._cache)
        self.blocks, self.store = self._cache / BLOCKS_NAME, self._cache / STORE_NAME
        self._ended = trio.Event()
        settings = self._settings()
        catalog = open_catalog(settings.index, settings.cache_dir)
        self._stats = Stats()
        self._gone = trio.Event()
        self._loop.run(self._begin, partial(built, settings, catalog, self._stats, lambda: b"{}\n"))

    async def _begin(self, build: Callable[[], Any]) -> None:
        self._filesystem: Filesystem = await self._loop.nursery.start(self._serve, build)

    async def _serve(self, build: Callable[[], Any], task_status: Any) -> None:
        async with build() as (filesystem, archive):
            self._archive = archive
            task_status.started(filesystem)
            await self._ended.wait()
        self._gone.set()

    def _unmount(self) -> None:
        self._do(self._ended.set)
        self._loop.run(self._gone.wait)

    def _settings(self) -> MountSettings:
        options = self._options
        timeout = 60.0
        return MountSettings(
            mountpoint=Path("/nowhere"),
            archive=ArchiveSettings("twin", f"{SERVER}/dicomWeb"),
            index=str(self._index),
            cache_dir=self._cache,
            transport=TransportSettings(timeout_seconds=timeout),
            content=ContentSettings(
                memory_cache_bytes=options.memory_bytes,
                disk_cache_bytes=options.disk_bytes,
                timeout_seconds=timeout,
                prefetch=options.prefetch,
            ),
            source=SourceSettings(options.policy, BucketSettings("twin", f"{SERVER}/bucket/{{bucket}}")),
        )

    # --- the archive -------------------------------------------------------------------------------------------------

    def change(self, reference: Reference) -> None:
        self._wire.hold(MemoryHoldings(reference))

    def break_down(self, match: str, knobs: Mapping[str, Any]) -> None:
        self._wire.refused = None
        self._wire.state.reset_knobs()
        self._wire.state.set_knobs({"match": match, **knobs})

    def refuse(self, match: str) -> None:
        self._wire.state.reset_knobs()
        self._wire.refused = match

    def repair(self) -> None:
        self._wire.refused = None
        self._wire.state.reset_knobs()
        self.wait(AWAY_SECONDS)

    # --- the filesystem ----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        self._loop.run(trio.sleep, seconds)

    def forget(self) -> None:
        memory = self._filesystem._tree._reader._tiers._memory
        for key in {key for key, _ in memory._blocks}:
            memory.drop(key)

    def sync(self) -> None:
        self._run(self._filesystem.sync)

    def opendir(self, path: DirectoryPath) -> int:
        async def opendir() -> int:
            return await self._filesystem.opendir((await self._at(path)).inode)

        return self._run(opendir)

    def entries(self, handle: int, start: int, count: int) -> list[tuple[str, int]]:
        async def entries() -> list[Entry]:
            return [entry for entry, _ in zip(self._filesystem.readdir(handle, start), range(count), strict=False)]

        return [(name.decode(), following) for name, _, following in self._run(entries)]

    def closedir(self, handle: int) -> None:
        self._do(self._filesystem.releasedir, handle)

    def exists(self, path: DirectoryPath) -> bool:
        async def exists() -> bool:
            parent = await self._at(path[:-1])
            return await self._filesystem.lookup(parent.inode, path[-1].encode()) is not None

        return self._run(exists)

    def size(self, path: DirectoryPath) -> Size:
        found = self._run(self._at, path)
        assert found.kind == Kind.FILE
        return Size(found.size, found.lasting)

    def open(self, path: DirectoryPath) -> tuple[int, int]:
        async def open_file() -> tuple[int, int]:
            inode = (await self._at(path)).inode
            opened = await self._filesystem.open(inode)
            attributes = await self._filesystem.getattr(inode)
            assert attributes.lasting
            return opened.handle, attributes.size

        return self._run(open_file)

    def read(self, piece: Piece) -> bytes:
        return self._run(self._filesystem.read, *piece)

    def read_together(self, pieces: Sequence[Piece]) -> list[bytes | OSError]:
        found: dict[int, bytes | OSError] = {}

        async def read(number: int, piece: Piece) -> None:
            try:
                found[number] = await self._filesystem.read(*piece)
            except IdcfsError as error:
                found[number] = OSError(errno_of(error), str(error))

        async def read_all() -> None:
            async with trio.open_nursery() as nursery:
                for number, piece in enumerate(pieces):
                    nursery.start_soon(read, number, piece)

        self._run(read_all)
        return [found[number] for number in range(len(pieces))]

    def close(self, handle: int) -> None:
        self._do(self._filesystem.release, handle)

    def bugs(self) -> str:
        return "\n".join(self._bugs.lines)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _at(self, path: DirectoryPath) -> Attributes:
        found = await self._filesystem.getattr(ROOT_INODE)
        for name in path:
            below = await self._filesystem.lookup(found.inode, name.encode())
            if below is None:
                raise FileNotFoundError(2, "no such name", name)
            found = below
        return found

    def _run(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        try:
            return self._loop.run(work, *args)
        except IdcfsError as error:
            raise OSError(errno_of(error), str(error)) from error

    def _do(self, work: Callable[..., object], *args: Any) -> None:
        """What needs the loop, and does not wait."""

        async def do() -> None:
            await trio.lowlevel.checkpoint()
            work(*args)

        self._run(do)

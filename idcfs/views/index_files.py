"""``/.index``: what the mount shows as ``series.parquet`` and ``collections.json``, for pandas, DuckDB and the like."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import trio

from ..deadline import Progress
from ..errors import IdcfsError
from ..flight import SingleFlight
from ..namespace.exported import COLLECTIONS, SERIES, ExportedIndex
from ..namespace.listing import stat_blocks
from ..namespace.nodes import ROOT, Level, Node, View, inode_of
from ..settings import INDEX_NAME
from .tree import Tree
from .view import Attributes, Directory, Entry, Kind, Opening, not_a_directory, not_a_file, not_a_link

_ROOT = ROOT.shown_as(View.INDEX)
_FILES = {
    Node(Level.INSTANCE, 0, number, View.INDEX): name for number, name in enumerate(sorted((COLLECTIONS, SERIES)), 1)
}


class IndexFiles:
    """The two files, made when anybody first asks what they are like: ``view.SideView``."""

    roots: ClassVar[Mapping[bytes, Node]] = {INDEX_NAME.encode(): _ROOT}

    def __init__(self, tree: Tree, exported: ExportedIndex, nursery: trio.Nursery, timeout_seconds: float) -> None:
        self._tree = tree
        self._exported = exported
        self._timeout_seconds = timeout_seconds
        self._making: SingleFlight[str, Path] = SingleFlight(nursery)

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        if parent != _ROOT:
            raise not_a_directory(parent)
        return next((node for node, known in _FILES.items() if known.encode() == name), None)

    async def attributes(self, node: Node) -> Attributes:
        if node == _ROOT:
            return Attributes(inode_of(*node), Kind.DIRECTORY, 0, 0, self._tree.newest(), lasting=True)
        path = await self._path(node)
        try:
            size = (await trio.to_thread.run_sync(path.stat)).st_size
        except OSError as error:
            raise _unreadable(path, error) from None
        return Attributes(inode_of(*node), Kind.FILE, size, stat_blocks(size), self._tree.newest(), lasting=True)

    async def directory(self, node: Node) -> Directory:
        if node != _ROOT:
            raise not_a_directory(node)
        return _Listed([(_FILES[file].encode(), await self.attributes(file)) for file in _FILES])

    async def open(self, node: Node) -> Opening:
        if node == _ROOT:
            raise not_a_file(node)
        path = await self._path(node)
        try:
            return Opening(_DiskFile(path, await trio.to_thread.run_sync(os.open, path, os.O_RDONLY | os.O_CLOEXEC)))
        except OSError as error:
            raise _unreadable(path, error) from None

    async def target(self, node: Node) -> bytes:
        raise not_a_link(node)

    async def _path(self, node: Node) -> Path:
        """Where the content of ``node`` is; in a thread, since another process may have to make it first."""
        name = _FILES[node]
        make = partial(trio.to_thread.run_sync, self._exported.path, name, abandon_on_cancel=True)
        with Progress(self._timeout_seconds).watch(f"making {name}"):
            return await self._making.run(name, make)


class _Listed:
    """The directory as it was when it was opened."""

    def __init__(self, files: list[tuple[bytes, Attributes]]) -> None:
        self._files = files

    def entries(self, start: int) -> Iterator[Entry]:
        for number, (name, attributes) in enumerate(self._files[start:], start + 1):
            yield name, attributes, number


@dataclass(frozen=True, slots=True)
class _DiskFile:
    """A file on disk that is open."""

    path: Path
    descriptor: int

    async def read(self, offset: int, length: int) -> bytes:
        try:
            return await trio.to_thread.run_sync(os.pread, self.descriptor, length, offset)
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def close(self) -> None:
        os.close(self.descriptor)


def _unreadable(path: Path, error: OSError) -> IdcfsError:
    return IdcfsError(f"{path} cannot be read: {error.strerror}")

"""A disk tier as tests have it: filled, running, held up, and what is kept of it."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from idcfs.content import block_files, disk_index
from idcfs.content.block_files import name_of
from idcfs.content.blocks import Key
from idcfs.content.disk import DiskTier
from idcfs.content.disk_directory import block_path
from idcfs.settings import GIB
from idcfs.stats import Stats

KEY = ("content", "1.2.3")
OTHER = ("content", "1.2.4")
PLENTY = 1 * GIB
DATA = random.Random(1).randbytes(10_000)


def block(number: int, size: int = 10_000) -> bytes:
    return random.Random(number).randbytes(size)


def opened(directory: Path, capacity_bytes: int = PLENTY, behind_bytes: int = 0) -> DiskTier:
    return DiskTier(directory, capacity_bytes, Stats(), behind_bytes)


@asynccontextmanager
async def running(directory: Path, capacity_bytes: int = PLENTY, behind_bytes: int = 0) -> AsyncIterator[DiskTier]:
    """A tier as a mount has it."""
    tier = opened(directory, capacity_bytes, behind_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        yield tier
        nursery.cancel_scope.cancel()
    tier.close()


async def settled(tier: DiskTier) -> None:
    """Returns once the writer has nothing to do."""
    while not tier.queue.has_work.statistics().tasks_waiting:  # noqa: ASYNC110
        await trio.sleep(0.002)


def filled(directory: Path, count: int = 8, key: Key = KEY, capacity_bytes: int = PLENTY) -> None:
    """Blocks 0 … ``count`` - 1 of ``key``, written by a mount that has gone."""
    tier = opened(directory, capacity_bytes)
    for number in range(count):
        tier.put(key, number, block(number))
    tier.close()


def file_of(directory: Path, key: Key, number: int) -> Path:
    return block_path(directory, name_of(key, number))


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("??/*"))


def rows(directory: Path, select: str = "SELECT name FROM block") -> list[Any]:
    with contextlib.closing(sqlite3.connect(directory / "index.sqlite")) as connection:
        return connection.execute(select).fetchall()


async def kept(tier: DiskTier, key: Key, count: int) -> list[int]:
    """Which of the first blocks are there; those that are, are right."""
    found = [await tier.get(key, number) for number in range(count)]
    assert all(data is None or data == block(number) for number, data in enumerate(found))
    return [number for number, data in enumerate(found) if data is not None]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def slow_writes(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    go_on = threading.Event()
    write = block_files.write

    def slow(path: Path, new: block_files.NewBlock) -> None:
        assert go_on.wait(10)
        write(path, new)

    monkeypatch.setattr(block_files, "write", slow)
    return go_on


def raise_(error: Exception) -> None:
    raise error


def slow_reads(monkeypatch: pytest.MonkeyPatch, seen: list[bytes] | None = None) -> threading.Event:
    go_on = threading.Event()
    read = block_files.read

    def slow(path: Path, name: bytes, number: int) -> tuple[bytes, bytes]:
        if seen is not None:
            seen.append(name)
        assert go_on.wait(10)
        return read(path, name, number)

    monkeypatch.setattr(block_files, "read", slow)
    return go_on


def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[Key | str]:
    """What is looked up in the index from now on: series, or single instances."""
    asked: list[Key | str] = []

    def counted(ask: Callable[..., Any]) -> Callable[..., Any]:
        def noting(index: object, what: Key | str, *rest: int) -> Any:
            asked.append(what)
            return ask(index, what, *rest)

        return noting

    for name in ("digests", "series_digests"):
        monkeypatch.setattr(disk_index.DiskIndex, name, counted(getattr(disk_index.DiskIndex, name)))
    return asked


@asynccontextmanager
async def behind(directory: Path, behind_bytes: int) -> AsyncIterator[DiskTier]:
    """A tier that may be behind, as a mount has it; its first look for what has to go is over."""
    async with running(directory, behind_bytes=behind_bytes) as tier:
        await settled(tier)
        yield tier

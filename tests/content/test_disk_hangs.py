"""A disk that hangs, or holds something else than files, holds nobody up."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from idcfs.content.disk_store import BlockStore
from idcfs.settings import MIB
from tests.content.scripted import dicom, instance, reading, sound

ONE = instance()
DATA = dicom("1.2.3", 3 * 1024 * 1024)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The disk hangs until it is set; short patience."""
    event = threading.Event()
    monkeypatch.setattr("idcfs.patience._PATIENCE_SECONDS", 0.5)
    yield event
    event.set()


@pytest.mark.parametrize("what", ["read", "look_up_series", "look_up", "apply"])
async def test_a_disk_that_hangs_is_not_asked_again(
    what: str, gate: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(sound(DATA), directory=tmp_path) as setup:
        await setup.whole(ONE)
    if what == "look_up":  # which is asked only where a series is too long
        monkeypatch.setattr("idcfs.content.disk._SERIES_BLOCKS", 0)
    monkeypatch.setattr(BlockStore, what, lambda *_: gate.wait())
    with trio.fail_after(10):
        async with reading(sound(DATA), 0, directory=tmp_path) as setup:
            for _ in range(3):
                setup.reader.open(ONE)
                assert await setup.reader.read(ONE, len(DATA), 0, len(DATA)) == DATA
                setup.reader.close(ONE)
            await trio.sleep(1)
    assert caplog.text.count("does not answer") == 1


async def test_who_waits_for_a_turn_does_not_ask_a_disk_that_hangs(
    gate: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dicom("1.2.3", 24 * 1024 * 1024)
    async with reading(sound(data), directory=tmp_path) as setup:
        await setup.whole(ONE)
    asked: list[object] = []

    def read(*of: object) -> None:
        asked.append(of)
        gate.wait()

    monkeypatch.setattr(BlockStore, "read", read)
    async with reading(sound(data), 0, directory=tmp_path) as setup, trio.open_nursery() as nursery:
        for block in range(24):
            nursery.start_soon(setup.reader.read, ONE, len(data), block * MIB, 1)
    assert len(asked) == 8  # at once; the others wait until these have been given up


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
async def test_what_is_no_file_in_a_blocks_place_is_no_block(tmp_path: Path, make: object) -> None:
    async with reading(sound(DATA), directory=tmp_path) as setup:
        await setup.whole(ONE)
    for file in replaced_files(tmp_path):
        make(file)  # type: ignore[operator]
    with trio.fail_after(10):
        async with reading(sound(DATA), directory=tmp_path) as setup:
            assert await setup.whole(ONE) == DATA
            assert setup.source.fetches["1.2.3"] == 1
            assert setup.stats["disk_hits"] == 0


def replaced_files(directory: Path) -> list[Path]:
    """The block files, which are gone."""
    files = list(directory.glob("??/*"))
    for file in files:
        file.unlink()
    return files

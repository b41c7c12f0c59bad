"""An instance that can be read anywhere, and readers of it."""

from __future__ import annotations

import pytest

from idcfs.errors import Truncated
from idcfs.settings import GIB, KIB, MIB
from tests.content.scripted import Huge, Script, Setup, dicom, instance, part10, sound

ONE = instance()
OTHER = instance("1.2.4")
BIG = Huge(part10("1.2.3"), 2 * GIB)
SIZE = 40 * MIB - 4_321
DATA = dicom("1.2.3", SIZE)
OVERLAP = 64 * KIB


def ranged(data: Huge | bytes, **how: object) -> Script:
    return sound(data, ranges=True, **how)


def asked_bytes(setup: Setup, size: int) -> int:
    """What it would have come to if nothing had been broken off."""
    return sum((size if stop is None else stop) - start for start, stop in setup.source.asked)


async def read(setup: Setup, offset: int, length: int, data: Huge | bytes = DATA) -> None:
    """As with a file that is opened, read and closed."""
    assert await setup.reader.read(ONE, len(data), offset, length) == data[offset : offset + length]


async def breaks_off(setup: Setup) -> None:
    """Open the file, of which the first answer breaks off before anything can be read."""
    setup.reader.open(ONE)
    with pytest.raises(Truncated):
        await read(setup, 0, 10)


def come_from(setup: Setup, script: Script) -> None:
    """From another place, from here on; nobody has said so, as where a source finds nobody at the first."""
    setup.source.scripts["1.2.3"] = script
    setup.source.left["1.2.3"] += 1


async def in_order(setup: Setup, start: int, stop: int, data: Huge | bytes = DATA, step: int = 128 * KIB) -> None:
    for offset in range(start, stop, step):
        await read(setup, offset, min(step, stop - offset), data)

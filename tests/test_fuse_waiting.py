"""How long a read waits for what another one has waited for in vain; the kernel asks so within one read(2).

Whoever reads a file waits for the same pages in the kernel, and asks for them anew in turn.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import trio
import trio.testing
from pyfuse3 import FileHandleT, FUSEError, InodeT

from idcfs.errors import DeadlinePassed
from idcfs.filesystem import Opened
from idcfs.fuse import Adapter
from idcfs.settings import Owner
from idcfs.stats import Stats

TIMEOUT = 8.0
BYTES = b"what is there"


class Waiting:
    """Of the filesystem only opening, and reading, which takes as long as it is told."""

    def __init__(self) -> None:
        self.takes = TIMEOUT
        self.handles = 0

    async def open(self, inode: int) -> Opened:
        self.handles += 1
        return Opened(self.handles, resized=False, live=False, replaced=False)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        await trio.sleep(min(self.takes, TIMEOUT))
        if self.takes >= TIMEOUT or not self.takes:
            raise DeadlinePassed("no progress")
        return BYTES


@pytest.fixture
def filesystem() -> Waiting:
    return Waiting()


@pytest.fixture
def adapter(filesystem: Any) -> Adapter:
    return Adapter(filesystem, Stats(), Owner())


async def asked(adapter: Adapter, offset: int, inode: int = 7) -> tuple[bytes | int | None, float]:
    """What a read by somebody who opens the file is answered with, bytes or an errno, and after how many seconds."""
    handle = (await adapter.open(InodeT(inode), os.O_RDONLY, None)).fh
    began = trio.current_time()
    try:
        answer: bytes | int | None = await adapter.read(FileHandleT(handle), offset, 4_096)
    except FUSEError as error:
        answer = error.errno
    return answer, round(trio.current_time() - began, 6)


async def test_what_was_waited_for_in_vain_is_waited_for_a_second_more(
    adapter: Adapter, filesystem: Waiting, autojump_clock: trio.testing.MockClock
) -> None:
    assert await asked(adapter, 0) == (errno.ETIMEDOUT, TIMEOUT)
    filesystem.takes = 0.9
    assert await asked(adapter, 4_095) == (BYTES, 0.9)
    filesystem.takes = 5
    assert await asked(adapter, 4_096) == (BYTES, 5)  # nobody has waited for that
    filesystem.takes = TIMEOUT
    assert await asked(adapter, 0) == (errno.ETIMEDOUT, TIMEOUT)
    filesystem.takes = 5
    assert await asked(adapter, 4_095) == (errno.ETIMEDOUT, 1)
    assert await asked(adapter, 0) == (errno.ETIMEDOUT, 0.1)  # nor for what somebody was patient for once more
    filesystem.takes = 0.05
    assert await asked(adapter, 0) == (BYTES, 0.05)
    filesystem.takes = 5
    assert await asked(adapter, 0, inode=8) == (BYTES, 5)
    assert await asked(adapter, 0) == (BYTES, 5)  # whoever asks so late is not the kernel on behalf of the same call


async def test_what_failed_at_once_is_waited_for_as_ever(
    adapter: Adapter, filesystem: Waiting, autojump_clock: trio.testing.MockClock
) -> None:
    filesystem.takes = 0
    assert await asked(adapter, 0) == (errno.ETIMEDOUT, 0)
    filesystem.takes = 5
    assert await asked(adapter, 0) == (BYTES, 5)

"""How long a read waits for what another one has waited for in vain; the kernel asks so within one read(2)."""

from __future__ import annotations

import errno
from typing import Any

import pytest
import trio
import trio.testing
from pyfuse3 import FileHandleT, FUSEError

from idcfs.errors import DeadlinePassed
from idcfs.fuse import Adapter
from idcfs.settings import Owner
from idcfs.stats import Stats

TIMEOUT = 8.0
HANDLE = FileHandleT(3)
BYTES = b"what is there"


class Waiting:
    """Of the filesystem only reading, which takes as long as it is told."""

    def __init__(self) -> None:
        self.takes = TIMEOUT

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


async def asked(adapter: Adapter, offset: int) -> tuple[bytes | int | None, float]:
    """What a read is answered with, bytes or an errno, and after how many seconds."""
    began = trio.current_time()
    try:
        answer: bytes | int | None = await adapter.read(HANDLE, offset, 4_096)
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
    assert await asked(adapter, 0) == (errno.ETIMEDOUT, 1)
    await trio.sleep(1)  # whoever asks now is not the kernel on behalf of the same call
    assert await asked(adapter, 0) == (BYTES, 5)


async def test_what_failed_at_once_is_waited_for_as_ever(
    adapter: Adapter, filesystem: Waiting, autojump_clock: trio.testing.MockClock
) -> None:
    filesystem.takes = 0
    assert await asked(adapter, 0) == (errno.ETIMEDOUT, 0)
    filesystem.takes = 5
    assert await asked(adapter, 0) == (BYTES, 5)

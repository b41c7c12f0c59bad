"""How many bytes: of a file's beginning, in one request, ahead of those who read, and on a disk."""

from __future__ import annotations

import os
from pathlib import Path

from ..settings import BLOCK_BYTES, MIB

HEADER_BYTES = 3 * MIB
"""Who has read no more than this from somewhere on may want a header only: for that the kernel reads up to 2.3 MiB."""
REQUEST_BYTES = 4 * MIB
"""Most that one range asks for, but for the seams. What is no larger is one stream: in ranges it would be no faster. So
far a stream goes, too, of an instance whose size was not known."""
REQUEST_BLOCKS = REQUEST_BYTES // BLOCK_BYTES
FAR_BYTES = 8 * MIB
"""It takes longer to let so much pass than to ask for what follows."""
FREE_SHARE = 0.05
"""Of the disk; left to others."""


def affordable_ahead(capacity_bytes: int, sharers: int) -> int:
    """Bytes that a cache can keep ahead of each of ``sharers``, beside the block that it reads.

    With more they would push each other's blocks out before anybody has read them, and fetch them again and again.
    """
    return max(0, capacity_bytes // sharers - BLOCK_BYTES)


def affordable_for_later(capacity_bytes: int) -> int:
    """Bytes of a cache that may wait in it, to be opened or to be written: half, for the others are being read."""
    return capacity_bytes // 2


def spare_on_disk(directory: Path) -> int:
    """Bytes that may still be written to the disk of ``directory``, which is there; negative where others lack them."""
    disk = os.statvfs(directory)
    return int((disk.f_bavail - disk.f_blocks * FREE_SHARE) * disk.f_frsize)

"""How the C library keeps memory that Python has freed.

Blocks of 1 MiB come and go in many threads. By default glibc learns from the first one freed that blocks of that size
belong on its heaps, where they leave holes: 64 readers of one instance with 32 MiB of memory cache left 100 MiB that
nobody used. With a fixed threshold each block is mapped on its own and goes back at once, and that is all it costs:
mapping 1 MiB takes 0.1 ms. What a socket gives, up to 256 KiB, stays below it: it comes a thousand times a second.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

from .settings import KIB

_M_MMAP_THRESHOLD = -3  # malloc.h
_THRESHOLD_BYTES = 512 * KIB


def return_large_blocks() -> None:
    """Let every block of 512 KiB and more go back to the system when it is freed; does nothing without glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)

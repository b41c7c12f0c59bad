"""Downloads of an instance that can be had from anywhere: which ranges of it are fetched, for whom.

Each reader has ranges of its own: what it wants, and the more ahead of it the longer it reads in order.
"""

from __future__ import annotations

from ..settings import BLOCK_BYTES
from .amounts import REQUEST_BLOCKS, REQUEST_BYTES
from .blocks import Slice, block_count
from .download import Download
from .fetching import Fetching
from .runs import Runs, Window, gaps


class Ranges:
    """Those of one instance."""

    def __init__(self, fetching: Fetching) -> None:
        means = fetching.means
        self._fetching = fetching
        self._runs = Runs(means.tiers.capacity, means.settings.max_downloads)

    def expect(self, size: int, offset: int, end: int) -> None:
        """Somebody is about to read bytes [offset, end) of ``size``: run ahead of it."""
        self._cut_streams(size)
        window = self._runs.read(offset, end)
        if self._fetching.has_shown_identity:
            self._fetch_window(size, offset // BLOCK_BYTES, window, end)

    async def serve(self, size: int, wanted: Slice, end: int) -> Download | None:
        """A download that brings ``wanted``; None when things have changed: see ``Downloads.serve``."""
        download = self._fetching.coming(wanted.block)
        if download is None and wanted.block and not self._fetching.has_shown_identity:
            await self._fetching.prove(size)
            return None
        return self._fetching.hurry(download or self._start(size, wanted.block, end))

    def next_part(self, block: int) -> tuple[int, int]:
        """What to ask for, blocks [start, stop), where all from ``block`` on is wanted, and that is missing."""
        if block and not self._fetching.has_shown_identity:
            return 0, 1
        return next(gaps(block, Window(block + REQUEST_BLOCKS, REQUEST_BLOCKS), self._is_there))

    def forget_readers(self) -> None:
        """A reader that goes on shall have what it wants, and no more, until it has read in order again."""
        self._runs.clear()

    def _is_there(self, block: int) -> bool:
        """Whether a block is kept, or comes."""
        return self._fetching.has(block) or self._fetching.coming(block) is not None

    def _fetch_window(self, size: int, block: int, window: Window, end: int) -> None:
        """Fetch what is missing of a reader's window, who reads up to byte ``end`` now."""
        last = min(window.stop, block_count(size))
        ahead = last * BLOCK_BYTES if last > block_count(end) else 0
        for download in self._fetching.running:
            if download.stop is not None and block * BLOCK_BYTES < download.stop and download.start < ahead:
                download.want(ahead)
        for first, stop in gaps(block, Window(last, window.step), self._is_there):
            self._fetching.start(size, first, stop).want(ahead)

    def _start(self, size: int, block: int, end: int) -> Download:
        """What is missing from ``block`` up to byte ``end``; of the beginning, what a header may need."""
        if not self._fetching.has_shown_identity:
            return self._fetching.start(size, 0, REQUEST_BLOCKS)
        stop = max(block + 1, min(block_count(end), block + REQUEST_BLOCKS))
        there = (later for later in range(block + 1, stop) if self._is_there(later))
        return self._fetching.start(size, block, next(there, stop))

    def _cut_streams(self, size: int) -> None:
        """What was begun as a stream, since it was not known that ranges can be had, or the size, goes on in ranges.

        Else it would come to what has been fetched in ranges ahead of it, and bring that again.
        """
        for download in self._fetching.running:
            if download.stop is None and size - download.start > REQUEST_BYTES:  # else it is the last of the ranges
                download.cut(download.start + REQUEST_BYTES)

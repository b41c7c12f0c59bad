"""Downloads of an instance that is had from its beginning only, or that is small: one stream serves all readers.

One who needs what it has passed waits until it can be ended for another.
"""

from __future__ import annotations

from ..settings import BLOCK_BYTES
from .amounts import FAR_BYTES
from .blocks import block_count
from .download import Download
from .fetching import Fetching


class Streams:
    """Those of one instance: nearly always there is just one."""

    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching

    def expect(self, end: int) -> None:
        """Somebody is about to read up to byte ``end``: run ahead of it, unless that may come from elsewhere."""
        for download in self._fetching.running:
            if end - download.position <= FAR_BYTES:
                download.want(end)

    async def serve(self, size: int, block: int) -> Download | None:
        """A download that brings ``block``; None when things have changed: see ``Downloads.serve``."""
        download = self.nearest(block)
        is_behind = download is not None and not download.serves(block)
        distance = block * BLOCK_BYTES - (0 if download is None else download.position)
        if (is_behind or distance > FAR_BYTES) and self._goes_elsewhere(size):
            return None
        could_be_ranged = self._fetching.could_be_ranged(size)
        if download is None and distance > FAR_BYTES and could_be_ranged and not self._fetching.has_shown_identity:
            await self._fetching.prove(size)  # what it is, and perhaps that the source starts anywhere after all
            return None
        if download is None:
            return self._fetching.hurry(self._fetching.start(size, *self.next_part(size, block)))
        if is_behind:
            await self.end(download)
            return None
        return self._fetching.hurry(download)

    def nearest(self, block: int) -> Download | None:
        """The download to read a block from, or to end for it: nearly always there is just one."""
        running = [one for one in self._fetching.running if not one.closed]
        return max(running, key=lambda one: (one.serves(block), one.stop is None, one.position), default=None)

    def _goes_elsewhere(self, size: int) -> bool:
        """Whether there is a place from which it can be had in ranges."""
        fetching = self._fetching
        goes = fetching.could_be_ranged(size) and fetching.means.source.elsewhere(fetching.instance)
        if goes:
            fetching.places.expect_another()
        return goes

    def next_part(self, size: int | None, block: int) -> tuple[int, int | None]:
        """What to ask for, [start, stop), where ``block`` is missing: up to what is kept.

        From the beginning unless that is kept: only there it shows that the archive sends the right instance. And
        unless the bytes can never change: then a whole body is compared with what is kept as it passes.
        """
        has = self._fetching.has
        if size is None or not self._fetching.instance.is_fixed or not has(0):
            return 0, None
        return block, next((later for later in range(block + 1, block_count(size)) if has(later)), None)

    async def end(self, download: Download) -> None:
        """End a download that does not bring what is wanted, once those it still serves have theirs.

        Readers ahead of it then wait for the next download as well: each download serves at least one piece to
        everyone who waits, so two readers far apart in an instance larger than the cache both get on.
        """
        await download.retired()
        download.cancel()

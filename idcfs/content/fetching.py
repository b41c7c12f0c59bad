"""The downloads of one instance that run, whatever they run for, and what they have shown of it.

Nothing of the middle is asked for before the beginning has shown that the source has the right instance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from ..errors import IdcfsError
from ..settings import BLOCK_BYTES, ContentSettings
from ..stats import Stats
from .amounts import FAR_BYTES, REQUEST_BYTES
from .beside import Beside
from .blocks import Key, Slice
from .download import Download
from .instance import Instance, Source
from .places import Agreed, Places
from .seams import Seams, Seen
from .slots import Slots
from .tiers import Tiers


@dataclass(frozen=True, slots=True)
class Means:
    """What the downloads of all instances share."""

    source: Source
    tiers: Tiers
    settings: ContentSettings
    slots: Slots
    agreed: Callable[[Key], Agreed]
    """Gives what is remembered of an instance: where it is the same, and how it begins."""
    replaced: Callable[[Key], None]
    """Called with an instance of which other bytes came than before."""
    nursery: trio.Nursery
    stats: Stats


class Fetching:
    """What runs of one instance."""

    def __init__(
        self, instance: Instance, means: Means, learn: Callable[[Download], None], over: Callable[[], None]
    ) -> None:
        """
        :param learn: called with each download that has ended, unless all has begun anew meanwhile.
        :param over: called when a download has ended, after that.
        """
        self.instance = instance
        self.means = means
        self.running: dict[Download, None] = {}
        self._learn = learn
        self._over = over
        self._is_proven = False
        self._seams, self.places = self._remembered()

    def _remembered(self) -> tuple[Seams, Places]:
        """What is known of it before anything has come; what may be replaced may begin otherwise each time."""
        agreed = self.means.agreed(self.instance.key)
        seams = Seams(self.instance, agreed.beginning if self.instance.is_fixed else Seen())
        return seams, Places(agreed, self.has, partial(self.means.tiers.keeps_any, self.instance.key), seams)

    def is_ranged(self, size: int) -> bool:
        """Whether an instance of ``size`` bytes is read in ranges."""
        return self.could_be_ranged(size) and self.means.source.starts_anywhere(self.instance)

    def could_be_ranged(self, size: int) -> bool:
        """What may have been replaced is compared as it passes, from the beginning; see ``Instance.is_fixed``."""
        return self.instance.is_fixed and size > REQUEST_BYTES

    @property
    def has_shown_identity(self) -> bool:
        """Whether it has been seen, or was when its beginning was kept, that the source has the right instance."""
        if not self._is_proven:
            shown = any(one.has_shown_identity and not one.closed for one in self.running)
            self._is_proven = shown or self.has(0)
        return self._is_proven

    async def prove(self, size: int) -> None:
        """Have the beginning fetched, and return when it has shown what it is.

        :raises IdcfsError: if it cannot be had, or is of something else.
        """
        download = self.hurry(self.coming(0) or self.start(size, 0, 1))
        await download.wait(Slice(0, 0, 1))

    def has(self, block: int) -> bool:
        """Whether a block is kept."""
        return self.means.tiers.has(self.instance.key, block)

    def coming(self, block: int) -> Download | None:
        """The download that brings a block soonest, if that is soon."""
        coming = [
            one
            for one in self.running
            if not one.closed
            and one.serves(block)
            and (one.stop is not None or block * BLOCK_BYTES - one.position <= FAR_BYTES)
        ]
        return max(coming, key=lambda one: one.position, default=None)

    def hurry(self, download: Download) -> Download:
        """Somebody waits for it now."""
        if not download.urgent:
            download.hurry()
            self.means.slots.serve_urgent()
        return download

    def start(self, size: int | None, start: int, stop: int | None) -> Download:
        """Begin to fetch blocks [start, stop)."""
        download = self.new(size, start, stop)
        self.means.nursery.start_soon(self.run, download)
        return download

    def new(self, size: int | None, start: int, stop: int | None) -> Download:
        """A download that is to be run."""
        tiers, settings = self.means.tiers, self.means.settings
        end = None if stop is None or (size is not None and stop * BLOCK_BYTES >= size) else stop * BLOCK_BYTES
        store = partial(self._store, self._seams)
        bound = start * BLOCK_BYTES, end
        download = Download(self.instance, size, settings, store, tiers.room, self._seams, self.places, *bound)
        self.running[download] = None
        self.means.stats.count("downloads")
        return download

    def _store(self, seams: Seams, block: int, data: bytes) -> None:
        """Keep a block, unless all has begun anew: a download that is cancelled still takes what it has received."""
        if seams is self._seams:
            if not self.has(block):
                self.places.note_kept(block)
            self.means.tiers.put(self.instance.key, block, data)

    async def run(self, download: Download) -> None:
        """Let it fetch until it is over, and learn from it."""
        try:
            beside = Beside(self.means.tiers, self.instance.key, self._seams)
            await download.run(self.means.source, self.means.slots, beside)
        finally:
            self.means.stats.count("downloads_cancelled", download.cancelled)
            if download in self.running:
                del self.running[download]
                self._learn(download)
            self._over()

    def begin_anew(self, contradiction: IdcfsError) -> None:
        """Of all that has come, nothing is to be relied on: who waits for it is told ``contradiction``."""
        self._is_proven = False
        self.means.agreed(self.instance.key).clear()
        self._seams, self.places = self._remembered()
        for download in self.running:
            download.cancel(contradiction)
        self.running.clear()

    def note_identity(self, download: Download) -> None:
        """A download has ended: whether it has shown that the source has the right instance."""
        self._is_proven = self._is_proven or download.has_shown_identity

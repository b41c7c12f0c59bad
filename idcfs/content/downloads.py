"""The downloads of one instance: which of them run, for whom, and what they have shown of it.

Where the source starts at 0 only, or the instance is small, one stream serves all readers; one who needs what it has
passed waits until it can be ended for another. Where the source starts anywhere, each reader has ranges of his own:
what he wants, and the more ahead of him the longer he reads in order. Nothing of the middle is asked for before the
beginning has shown that the source has the right instance.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial

import trio

from ..errors import IdcfsError, Replaced, WrongSize
from ..settings import BLOCK_BYTES, MIB, ContentSettings
from ..stats import Stats
from .blocks import Key, Slice
from .download import Download
from .instance import Instance, Source
from .runs import Runs, Window, gaps
from .seams import Seams
from .slots import Slots
from .tiers import Tiers

_SMALL_BYTES = 4 * MIB
"""Up to here a stream is as good as ranges; and so far a stream goes of an instance whose size was not known."""
_FAR_BYTES = 8 * MIB
"""It takes longer to let so much pass than to ask for what follows."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the downloads of all instances share."""

    source: Source
    tiers: Tiers
    settings: ContentSettings
    slots: Slots
    replaced: Callable[[Key], None]
    """Called with an instance of which other bytes came than before."""
    nursery: trio.Nursery
    stats: Stats


class Downloads:
    """Those of one instance, while it is open or one of them runs."""

    def __init__(self, instance: Instance, means: Means, forget: Callable[[Downloads], None]) -> None:
        """
        :param forget: called when it is neither open nor being fetched any more.
        """
        self.instance = instance
        self.size: int | None = None
        """Exact size in bytes, proven by a download that has ended."""
        self.running: dict[Download, None] = {}
        self._means = means
        self._forget = forget
        self._readers = 0
        self._lingering: trio.CancelScope | None = None
        self._is_proven = False
        self._seams = Seams(instance)
        self._contradiction: IdcfsError | None = None
        """Bytes that came did not fit those before: while it stays open, nobody may be given a mixture of the two."""
        self._runs = Runs(means.tiers.capacity, means.settings.max_downloads)

    # --- who has it open ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """One reader more."""
        self._readers += 1
        if self._lingering is not None:
            self._lingering.cancel()

    def close(self) -> None:
        """One reader less; after the last, the downloads stop: see ``_leave``."""
        self._readers -= 1
        if not self._readers:
            self._contradiction = None
            self._leave()
            self._forget_if_over()

    def _leave(self) -> None:
        """Nobody reads any more: stop, but not for one who only opens the file anew, as ITK does eight times."""
        resting = [one for one in self.running if one.has_begun and not one.is_nearly_done]
        for download in self.running:
            if download in resting:
                download.rest()
            else:
                download.abandon()
        if resting:
            self._lingering = trio.CancelScope()
            self._means.nursery.start_soon(self._stop_later, self._lingering)

    async def _stop_later(self, scope: trio.CancelScope) -> None:
        """Unless it is opened again meanwhile."""
        with scope:
            await trio.sleep(self._means.settings.linger_seconds)
            for download in self.running:
                download.abandon()

    def _forget_if_over(self) -> None:
        if not self._readers and not self.running:
            self._forget(self)

    # --- readers -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """:raises Replaced: if some of what has been handed out since it was opened is not to be relied on."""
        if self._contradiction is not None:
            raise copy(self._contradiction)

    def get(self, size: int, wanted: Slice) -> bytes | None:
        """The wanted bytes, if they are in a block that is arriving.

        :raises WrongSize: if it shows that the size is another one.
        """
        for download in self.running:
            if download.known_size not in (None, size):
                has = f"the archive has {download.known_size} bytes, not the {size} expected"
                raise WrongSize(f"{self.instance}: {has}")
            if (found := download.get(wanted)) is not None:
                return found
        return None

    async def prove_size(self) -> int:
        """The exact size in bytes, as soon as the archive's answer proves it.

        :raises IdcfsError: if it cannot be had.
        """
        if self.size is not None:
            return self.size
        while (download := self._showing_size() or self._start(None, 0, None)).retiring:
            await self._end(download)
        self._hurry(download)
        return await download.size()

    def _showing_size(self) -> Download | None:
        showing = (one for one in self.running if not one.closed and (one.stop is None or one.proven_size is not None))
        return next(showing, None)

    async def expect(self, size: int, offset: int, end: int) -> None:
        """Somebody is about to read bytes [offset, end): run ahead of him."""
        if not self._is_ranged(size):
            for download in self.running:
                download.want(end)
            return
        await self._means.tiers.load(self.instance.key)
        self._cut_streams()
        window = self._runs.read(offset, end)
        if self._has_shown_identity:
            self._fetch_window(size, offset // BLOCK_BYTES, window, end)

    async def serve(self, size: int, wanted: Slice, end: int) -> Download | None:
        """A download that brings ``wanted``, which is not kept; None when things have changed: then look again.

        :param end: up to where is read: what is missing until there is asked for with it.
        :raises IdcfsError: if the beginning cannot be had, which has to be there first.
        """
        if not self._is_ranged(size):
            return await self._serve_from_stream(size, wanted.block)
        download = self._coming(wanted.block)
        if download is None and wanted.block and not self._has_shown_identity:
            await self._prove(size)
            return None
        return self._hurry(download or self._start_range(size, wanted.block, end))

    async def fetch(self, size: int | None, block: int) -> tuple[int, int]:
        """Fetch what is missing from ``block`` on, or a good part of it, unless that is being fetched; not urgently.

        What is new runs in this task.

        :return: the exact size in bytes, and the block up to which it has been fetched.
        :raises IdcfsError: if it cannot be had, or was stopped.
        """
        is_ranged = size is not None and self._is_ranged(size)
        download = self._coming(block) or (None if is_ranged else self._stream(block))
        if download is None:
            download = self._new(size, *self._next_part(size, block, is_ranged=is_ranged))
            download.want_all()
            await self.run(download)
        brings = download.start <= block * BLOCK_BYTES
        size = await download.whole()
        stop = -(-size // BLOCK_BYTES) if download.stop is None else download.stop // BLOCK_BYTES
        return size, max(block, stop) if brings else block

    def _next_part(self, size: int | None, block: int, *, is_ranged: bool) -> tuple[int, int | None]:
        if size is None or not is_ranged:
            return self._missing(size, block)
        if block and not self._has_shown_identity:
            return 0, 1
        return next(gaps(block, Window(block + _FAR_BYTES // BLOCK_BYTES, _FAR_BYTES // BLOCK_BYTES), self._is_there))

    # --- ranges ------------------------------------------------------------------------------------------------------

    def _is_ranged(self, size: int) -> bool:
        return self._could_be_ranged(size) and self._means.source.starts_anywhere(self.instance)

    def _could_be_ranged(self, size: int) -> bool:
        """What may have been replaced is compared as it passes, from the beginning; see ``Instance.is_fixed``."""
        return self.instance.is_fixed and size > _SMALL_BYTES

    @property
    def _has_shown_identity(self) -> bool:
        """Whether it has been seen, or was when its beginning was kept, that the source has the right instance."""
        if not self._is_proven:
            shown = any(one.has_shown_identity and not one.closed for one in self.running)
            self._is_proven = shown or self._means.tiers.has(self.instance.key, 0)
        return self._is_proven

    async def _prove(self, size: int) -> None:
        """Have the beginning fetched, and return when it has shown what it is.

        :raises IdcfsError: if it cannot be had, or is of something else.
        """
        download = self._hurry(self._coming(0) or self._start(size, 0, 1))
        await download.wait(Slice(0, 0, 1))

    def _coming(self, block: int) -> Download | None:
        """The download that brings a block soonest, if that is soon."""
        coming = [
            one
            for one in self.running
            if not one.closed
            and one.serves(Slice(block, 0, 1))
            and (one.stop is not None or block * BLOCK_BYTES - one.position <= _FAR_BYTES)
        ]
        return max(coming, key=lambda one: one.position, default=None)

    def _is_there(self, block: int) -> bool:
        """Whether a block is kept, or comes."""
        return self._means.tiers.has(self.instance.key, block) or self._coming(block) is not None

    def _fetch_window(self, size: int, block: int, window: Window, end: int) -> None:
        """Fetch what is missing of a reader's window, who reads up to byte ``end`` now."""
        last = min(window.stop, -(-size // BLOCK_BYTES))
        ahead = last * BLOCK_BYTES if last > -(-end // BLOCK_BYTES) else 0
        for download in self.running:
            if download.stop is not None and block * BLOCK_BYTES < download.stop and download.start < ahead:
                download.want(ahead)
        for first, stop in gaps(block, Window(last, window.step), self._is_there):
            self._start(size, first, stop).want(ahead)

    def _start_range(self, size: int, block: int, end: int) -> Download:
        """What is missing from ``block`` up to byte ``end``; of the beginning, what a header may need."""
        if not self._has_shown_identity:
            return self._start(size, 0, _SMALL_BYTES // BLOCK_BYTES)
        stop = max(block + 1, min(-(-end // BLOCK_BYTES), block + _FAR_BYTES // BLOCK_BYTES))
        there = (later for later in range(block + 1, stop) if self._is_there(later))
        return self._start(size, block, next(there, stop))

    def _cut_streams(self) -> None:
        """What was begun as a stream, since the size was not known or from another place, goes on in ranges."""
        for download in self.running:
            if download.stop is None and download.start == 0:
                download.cut(_SMALL_BYTES)

    # --- streams -----------------------------------------------------------------------------------------------------

    async def _serve_from_stream(self, size: int, block: int) -> Download | None:
        download = self._stream(block)
        is_behind = download is not None and not download.serves(Slice(block, 0, 1))
        distance = block * BLOCK_BYTES - (0 if download is None else download.position)
        if (is_behind or distance > _FAR_BYTES) and self._goes_elsewhere(size):
            return None
        if download is None and distance > _FAR_BYTES and self._could_be_ranged(size) and not self._has_shown_identity:
            await self._prove(size)  # what it is, and perhaps that the source starts anywhere after all
            return None
        if download is None:
            return self._hurry(self._start(size, *self._missing(size, block)))
        if is_behind:
            await self._end(download)
            return None
        return self._hurry(download)

    def _stream(self, block: int) -> Download | None:
        """The download to read a block from, or to end for it: nearly always there is just one."""
        running = [one for one in self.running if not one.closed]
        wanted = Slice(block, 0, 1)
        return max(running, key=lambda one: (one.serves(wanted), one.stop is None, one.position), default=None)

    def _goes_elsewhere(self, size: int) -> bool:
        """Whether there is a place from which it can be had in ranges."""
        return self._could_be_ranged(size) and self._means.source.elsewhere(self.instance, None)

    def _missing(self, size: int | None, block: int) -> tuple[int, int | None]:
        """What to ask for, [start, stop), where ``block`` is missing: up to what is kept.

        From the beginning unless that is kept: only there it shows that the archive sends the right instance. And
        unless the bytes can never change: then a whole body is compared with what is kept as it passes.
        """
        has = partial(self._means.tiers.has, self.instance.key)
        if size is None or not self.instance.is_fixed or not has(0):
            return 0, None
        return block, next((later for later in range(block + 1, -(-size // BLOCK_BYTES)) if has(later)), None)

    async def _end(self, download: Download) -> None:
        """End a download that does not bring what is wanted, once those it still serves have theirs.

        Readers ahead of it then wait for the next download as well: each download serves at least one piece to
        everyone who waits, so two readers far apart in an instance larger than the cache both get on.
        """
        await download.retired()
        download.cancel()

    # --- both --------------------------------------------------------------------------------------------------------

    def _hurry(self, download: Download) -> Download:
        """Somebody waits for it now."""
        if not download.urgent:
            download.hurry()
            self._means.slots.serve_urgent()
        return download

    def _start(self, size: int | None, start: int, stop: int | None) -> Download:
        """Begin to fetch blocks [start, stop)."""
        download = self._new(size, start, stop)
        self._means.nursery.start_soon(self.run, download)
        return download

    def _new(self, size: int | None, start: int, stop: int | None) -> Download:
        """A download that is to be run."""
        tiers, settings = self._means.tiers, self._means.settings
        end = None if stop is None or (size is not None and stop * BLOCK_BYTES >= size) else stop * BLOCK_BYTES
        store = partial(tiers.put, self.instance)
        download = Download(self.instance, size, settings, store, tiers.room, self._seams, start * BLOCK_BYTES, end)
        self.running[download] = None
        self._means.stats.count("downloads")
        return download

    async def run(self, download: Download) -> None:
        """Let it fetch until it is over, and learn from it."""
        try:
            look_beside = partial(self._look_beside, self._seams, download)
            await download.run(self._means.source, self._means.slots, look_beside)
        finally:
            self._means.stats.count("downloads_cancelled", download.cancelled)
            if download in self.running:
                del self.running[download]
                self._learn(download)
            self._forget_if_over()

    async def _look_beside(self, seams: Seams, download: Download) -> bytes:
        """See what stands before, if it is kept; what is kept after it, if that has not been compared with anything.

        :raises Replaced: if something else has come of what stands before.
        """
        start = download.start // BLOCK_BYTES
        if start and start not in seams:
            before = await self._kept(start - 1)
            if before is not None and len(before) == BLOCK_BYTES:
                seams.see(start, before)
        if download.stop is None or (stop := download.stop // BLOCK_BYTES) in seams:
            return b""
        return await self._kept(stop) or b""

    async def _kept(self, block: int) -> bytes | None:
        tiers, key = self._means.tiers, self.instance.key
        return tiers.in_memory(key, block) or await tiers.get(key, block)

    def _learn(self, download: Download) -> None:
        if isinstance(download.error, Replaced):
            self._begin_anew(download.error)
            return
        if download.proven_size is not None:
            self.size = download.proven_size
        self._is_proven = self._is_proven or download.has_shown_identity
        if download.error is not None and not download.urgent:
            self._runs.clear()  # nobody has heard of it: who reads on shall ask for what he wants, and no more

    def _begin_anew(self, contradiction: IdcfsError) -> None:
        """The archive contradicts itself, or what is kept: of all that has come, nothing is to be relied on."""
        self._contradiction = contradiction if self._readers else None
        self._means.replaced(self.instance.key)
        self._means.tiers.drop(self.instance.key)
        self.size, self._is_proven = None, False
        self._seams = Seams(self.instance)
        self._runs.clear()
        for download in self.running:
            download.cancel(contradiction)
        self.running.clear()

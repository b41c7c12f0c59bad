"""The downloads of one instance: who has it open, and by which of two ways it is fetched for them.

Where the source starts at 0 only, or the instance is small, one stream serves all readers (``streams.py``). Where the
source starts anywhere, each reader has ranges of its own (``ranges.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import trio

from ..errors import IdcfsError, Replaced, WrongSize
from ..settings import BLOCK_BYTES
from .blocks import Slice, block_count
from .download import Download
from .fetching import Fetching, Means
from .instance import Instance
from .ranges import Ranges
from .streams import Streams


class Downloads:
    """Those of one instance, while it is open or one of them runs."""

    def __init__(self, instance: Instance, means: Means, forget: Callable[[Downloads], None]) -> None:
        """
        :param forget: called when it is neither open nor being fetched any more.
        """
        self.instance = instance
        self.size: int | None = None
        """Exact size in bytes, proven by a download that has ended."""
        self._means = means
        self._fetching = Fetching(instance, means, self._learn, self._forget_if_over)
        self._streams = Streams(self._fetching)
        self._ranges = Ranges(self._fetching)
        self._forget = forget
        self._readers = 0
        self._lingering: trio.CancelScope | None = None
        self._contradiction: IdcfsError | None = None
        """Bytes that came did not fit those before: while it stays open, nobody may be given a mixture of the two."""

    @property
    def running(self) -> dict[Download, None]:
        """Those that run."""
        return self._fetching.running

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
        """:raises Replaced, WrongSize: if some of what has been handed out since it was opened cannot be relied on."""
        if self._contradiction is not None:
            raise copy(self._contradiction)

    def contradict(self, error: IdcfsError) -> None:
        """What has come does not fit what is kept, or the size by which it was opened: see ``check``."""
        if self._contradiction is None:
            self._begin_anew(error)

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
        while (download := self._showing_size() or self._fetching.start(None, 0, None)).retiring:
            await self._streams.end(download)
        self._fetching.hurry(download)
        return await download.size()

    def _showing_size(self) -> Download | None:
        showing = (one for one in self.running if not one.closed and (one.stop is None or one.proven_size is not None))
        return next(showing, None)

    async def expect(self, size: int, offset: int, end: int) -> None:
        """Somebody is about to read bytes [offset, end): run ahead of it.

        :raises Replaced: see ``check``.
        """
        is_ranged = self._fetching.is_ranged(size)
        if is_ranged:
            await self._means.tiers.load(self.instance.key)
        self.check()
        if is_ranged:
            self._ranges.expect(size, offset, end)
        else:
            self._streams.expect(end)

    async def serve(self, size: int, wanted: Slice, end: int) -> Download | None:
        """A download that brings ``wanted``, which is not kept; None when things have changed: then look again.

        :param end: up to where is read: what is missing until there is asked for with it.
        :raises IdcfsError: if the beginning cannot be had, which has to be there first; see ``check``, too.
        """
        self.check()
        if self._fetching.is_ranged(size):
            return await self._ranges.serve(size, wanted, end)
        return await self._streams.serve(size, wanted.block)

    async def fetch(self, size: int | None, block: int) -> tuple[int, int]:
        """Fetch what is missing from ``block`` on, or a good part of it, unless that is being fetched; not urgently.

        What is new runs in this task.

        :return: the exact size in bytes, and the block up to which it has been fetched.
        :raises IdcfsError: if it cannot be had, or was stopped; see ``check``, too.
        """
        self.check()
        is_ranged = size is not None and self._fetching.is_ranged(size)
        download = self._fetching.coming(block) or (None if is_ranged else self._streams.nearest(block))
        if download is None:
            part = self._ranges.next_part(block) if is_ranged else self._streams.next_part(size, block)
            download = self._fetching.new(size, *part)
            download.want_all()
            await self._fetching.run(download)
        brings = download.start <= block * BLOCK_BYTES
        size = await download.whole()
        stop = block_count(size) if download.stop is None else download.stop // BLOCK_BYTES
        return size, max(block, stop) if brings else block

    # --- what they show ----------------------------------------------------------------------------------------------

    def _learn(self, download: Download) -> None:
        if isinstance(download.error, (Replaced, WrongSize)):
            self._begin_anew(download.error)
            return
        if download.proven_size is not None:
            self.size = download.proven_size
        self._fetching.note_identity(download)
        if download.error is not None and not download.urgent:  # nobody has heard of it
            self._ranges.forget_readers()

    def _begin_anew(self, contradiction: IdcfsError) -> None:
        """The archive contradicts itself, or what is kept: of all that has come, nothing is to be relied on."""
        self._contradiction = contradiction if self._readers else None
        self._means.replaced(self.instance.key)
        self._means.tiers.drop(self.instance.key)
        self.size = None
        self._ranges.forget_readers()
        self._fetching.begin_anew(contradiction)

"""Which places have been found to hold the same bytes of an instance.

What one place has shown, its bytes and that they are of the right instance, says nothing of another one. So before
bytes of the middle are taken from a place that nothing is known of, and that touch nothing known, its beginning is
compared with what is known of it, and, where that may be its own, a block that was kept before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

import trio

from ..deadline import Progress
from .blocks import block_count
from .seams import Seams, Seen


class Agreed:
    """What is remembered of an instance when nobody has it open: the kernel may keep its pages all the same."""

    def __init__(self) -> None:
        self.places: set[Hashable] = set()
        """Those whose bytes have been found to be the same."""
        self.beginning = Seen()
        """What its first block was like."""
        self.brought: set[int] = set()
        """Blocks that came from a place of which nobody knew anything: they are no proof of what it sends."""

    def clear(self) -> None:
        """Nothing of it holds any more; what is still being taken of it is written into the old ones."""
        self.places = set()
        self.beginning = Seen()
        self.brought = set()


class Places:
    """Those of one instance, for those who have it open."""

    def __init__(self, agreed: Agreed, has: Callable[[int], bool], keeps_any: Callable[[], bool], seams: Seams) -> None:
        """
        :param agreed: those whose bytes have been found to be the same; outlives this.
        :param has: whether a block is kept.
        :param keeps_any: whether any is, from an earlier mount.
        :param seams: what has been seen of it since it was opened.
        """
        self._turn = trio.Lock()
        self._waiting: list[Progress] = []  # of who has it, and of those who want it
        self._agreed = agreed.places
        self._brought = agreed.brought
        self._has = has
        self._keeps_any = keeps_any
        self._seams = seams
        self._has_left = False

    @asynccontextmanager
    async def turn(self, progress: Progress) -> AsyncIterator[None]:
        """For who compares: the others wait, and need not compare then.

        :param progress: of who wants it.
        """
        self._waiting.append(progress)
        try:
            async with self._turn:
                yield
        finally:
            self._waiting.remove(progress)

    def advance(self, amount: int) -> None:
        """So many bytes have come that are compared, which is progress for all who wait for that."""
        for progress in self._waiting:
            progress.advance(amount)

    @property
    def is_another_expected(self) -> bool:
        """Whether the next body probably comes from a place that has not been compared."""
        return self._has_left or not self._agreed

    def expect_another(self) -> None:
        """The source has gone to another place."""
        self._has_left = True

    def agree(self, place: Hashable) -> None:
        """What comes from ``place`` is what is known, or the first that is."""
        self._agreed.add(place)
        self._brought.clear()
        self._has_left = False

    def note_kept(self, block: int) -> None:
        """A block is kept that was not."""
        if not self._agreed:
            self._brought.add(block)

    def believes(self, place: Hashable) -> bool:
        """Whether bytes of ``place`` may be taken from anywhere."""
        return place in self._agreed

    def is_first(self, size: int | None) -> bool:
        """Whether there is nothing that a place could contradict."""
        if self._agreed or self._seams:
            return False
        return not self._keeps_any() if size is None else self._first_kept(size) is None

    def to_compare(self, size: int) -> list[int]:
        """The blocks to fetch once more from a place: the beginning, and one that was kept before if that was not."""
        kept = None if self._agreed else self._first_kept(size)
        return [0, kept] if kept else [0]

    def _first_kept(self, size: int) -> int | None:
        """Of those that prove something."""
        blocks = (block for block in range(block_count(size)) if block not in self._brought)
        return next((block for block in blocks if self._has(block)), None)

"""Which places have been found to hold the same bytes of an instance.

What one place has shown, its bytes and that they are of the right instance, says nothing of another one. So before
bytes of the middle are taken from a place that nothing is known of, and that touch nothing known, its beginning is
compared with what is known of it, or, where that is not known, a block that is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import trio

from .blocks import block_count
from .seams import Seams, Seen


class Agreed:
    """What is remembered of an instance when nobody has it open: the kernel may keep its pages all the same."""

    def __init__(self) -> None:
        self.places: set[Hashable] = set()
        """Those whose bytes have been found to be the same."""
        self.beginning = Seen()
        """What its first block was like."""

    def clear(self) -> None:
        """Nothing of it holds any more."""
        self.places.clear()
        self.beginning = Seen()


class Places:
    """Those of one instance, for those who have it open."""

    def __init__(self, agreed: set[Hashable], has: Callable[[int], bool], seams: Seams) -> None:
        """
        :param agreed: those whose bytes have been found to be the same; outlives this.
        :param has: whether a block is kept.
        :param seams: what has been seen of it since it was opened.
        """
        self.turn = trio.Lock()
        """For who compares: the others wait, and need not."""
        self._agreed = agreed
        self._has = has
        self._seams = seams
        self._has_left = False

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
        self._has_left = False

    def believes(self, place: Hashable) -> bool:
        """Whether bytes of ``place`` may be taken from anywhere."""
        return place in self._agreed

    def is_first(self, size: int | None) -> bool:
        """Whether there is nothing that a place could contradict."""
        return not self._agreed and not self._seams and (size is None or self._first_kept(size) is None)

    def to_compare(self, size: int) -> list[int]:
        """The blocks to fetch once more from a place: the beginning, and one that is known if that is not."""
        if self._has(0) or 0 in self._seams:
            return [0]
        kept = self._first_kept(size)
        return [0] if kept is None else [0, kept]

    def _first_kept(self, size: int) -> int | None:
        return next((block for block in range(block_count(size)) if self._has(block)), None)

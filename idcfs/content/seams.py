"""Where the bodies of one instance meet: the last bytes before each block, as every body has shown them.

Ranges that are fetched at once come in any order. So each begins a little before what is wanted of it, and what comes
there is held against what the range before ends with, whichever is there first. Of those bytes a digest is enough.
"""

from __future__ import annotations

from xxhash import xxh3_128

from ..errors import Replaced
from ..settings import KIB
from .instance import Instance

SEAM_BYTES = 64 * KIB
"""What is asked for once more where two bodies meet. It costs less than the round trip that brings it, and no two
encodings of an instance are the same for so long at the same place, but for background."""


class Seams:
    """Of one instance, as long as somebody has it open: some 100 bytes a block."""

    def __init__(self, instance: Instance, lasting: dict[int, bytes]) -> None:
        """
        :param lasting: digests of the seams of the first block, which outlive this.
        """
        self._instance = instance
        self._lasting = lasting
        self._digests = dict(lasting)

    def __contains__(self, block: int) -> bool:
        """Whether it is known what stands before ``block``."""
        return block in self._digests

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self._digests)

    def see(self, block: int, before: bytes) -> None:
        """Before ``block`` stands what ``before`` ends with: no fewer than ``SEAM_BYTES``; of 0, those after it.

        :raises Replaced: if something else stood there before.
        """
        digest = xxh3_128(memoryview(before)[-SEAM_BYTES:]).digest()
        if self._digests.setdefault(block, digest) != digest:
            raise Replaced(f"{self._instance}: the archive sends other bytes than it sent before")
        if block <= 1:
            self._lasting[block] = digest

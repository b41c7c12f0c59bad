"""What is kept beside what a download fetches, and has to be compared with it."""

from __future__ import annotations

from ..settings import BLOCK_BYTES
from .blocks import Key
from .seams import Seams
from .tiers import Tiers


class Beside:
    """For the downloads of one instance."""

    def __init__(self, tiers: Tiers, key: Key, seams: Seams) -> None:
        self._tiers = tiers
        self._key = key
        self._seams = seams

    async def look(self, start: int, stop: int | None) -> bytes:
        """See what stands before byte ``start``, if it is kept; what is kept after ``stop``, if that is to be compared.

        :raises Replaced: if something else has come of what stands before.
        """
        block = start // BLOCK_BYTES
        if block and block not in self._seams:
            before = await self._kept(block - 1)
            if before is not None and len(before) == BLOCK_BYTES:
                self._seams.see(block, before)
        if stop is None or stop // BLOCK_BYTES in self._seams:
            return b""
        return await self._kept(stop // BLOCK_BYTES) or b""

    async def begins(self, block: int) -> bytes:
        """How a kept block begins, if the one before it is new, and nothing has shown yet that the two fit."""
        tiers = self._tiers
        if block in self._seams or not tiers.has(self._key, block) or tiers.has(self._key, block - 1):
            return b""
        return await self._kept(block) or b""

    async def _kept(self, block: int) -> bytes | None:
        return self._tiers.in_memory(self._key, block) or await self._tiers.get(self._key, block)

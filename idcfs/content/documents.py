"""Whole documents in the block cache, beside the contents of files: each proves itself that it is whole.

They are cut into blocks as files are, with a header before them that has their length and digest, since nobody else
knows either. So they count among the blocks, are evicted with them, and outlive the mount on disk.
"""

from __future__ import annotations

import struct

import xxhash

from ..errors import Replaced
from ..settings import BLOCK_BYTES
from .blocks import Key, block_count
from .tiers import Tiers

_HEADER = struct.Struct("<8s16sQ")
_MAGIC = b"idcfsdoc"


class Documents:
    """Documents by their key: who asks makes sure that no instance has it."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers

    async def get(self, key: Key) -> bytes | None:
        """The document, if all of it is kept."""
        await self._tiers.load(key)
        first = await self._block(key, 0)
        if first is None or len(first) < _HEADER.size:
            return None
        magic, told, length = _HEADER.unpack_from(first)
        rest = [await self._block(key, one) for one in range(1, _blocks(length))] if magic == _MAGIC else [None]
        body = b"".join([first[_HEADER.size :], *(block or b"" for block in rest)])
        if len(body) == length and digest(body) == told:
            return body
        if None not in rest:  # else some of it has been evicted
            self._tiers.drop(key)
        return None

    async def put(self, key: Key, body: bytes) -> None:
        """Keep a document in the place of what was kept."""
        if (room := self._tiers.room()) is not None:
            await room
        await self._tiers.load(key)  # else it would show only later that other bytes are kept
        try:
            self._put(key, body)
        except Replaced:  # what was kept is gone now
            self._put(key, body)

    def _put(self, key: Key, body: bytes) -> None:
        header = _HEADER.pack(_MAGIC, digest(body), len(body))
        first = BLOCK_BYTES - len(header)
        self._tiers.put(key, 0, header + body[:first])
        for number in range(1, _blocks(len(body))):
            start = first + (number - 1) * BLOCK_BYTES
            self._tiers.put(key, number, body[start : start + BLOCK_BYTES])

    async def _block(self, key: Key, number: int) -> bytes | None:
        found = self._tiers.in_memory(key, number)
        return found if found is not None else await self._tiers.get(key, number)


def digest(body: bytes) -> bytes:
    """Tells one document from another."""
    return xxhash.xxh3_128_digest(body)


def _blocks(length: int) -> int:
    return block_count(_HEADER.size + length)

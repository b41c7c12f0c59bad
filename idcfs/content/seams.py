"""What bodies of one instance have shown of it, by which others are compared with it: digests of pieces of 64 KiB.

Whatever has been handed out is remembered so, as long as somebody has the instance open; of its first block for longer.
So who brings it again is compared with it, piece by piece, wherever it stopped. And since ranges that are fetched at
once come in any order, each begins a piece before what is wanted of it: that has to be what the range before ends with,
whichever is there first.
"""

from __future__ import annotations

from xxhash import xxh3_128

from ..errors import Replaced
from ..settings import BLOCK_BYTES, KIB
from .instance import Instance

SEAM_BYTES = 64 * KIB
"""A piece, and what is asked for once more where two bodies meet. It costs less than the round trip that brings it, and
no two encodings of an instance are the same for so long at the same place, but for background."""

_LAST = BLOCK_BYTES // SEAM_BYTES - 1
_DIGEST_BYTES = xxh3_128().digest_size
_NOTHING = bytes(_DIGEST_BYTES)


def contradiction(instance: Instance) -> Replaced:
    """What to raise where bytes of ``instance`` are not those that came before."""
    return Replaced(f"{instance}: the archive sends other bytes than it sent before")


class Seen:
    """What is known of one block, in some 400 bytes."""

    __slots__ = ("_digests", "_short")

    def __init__(self) -> None:
        self._digests = bytearray()  # of whole pieces, one after the other
        self._short: tuple[int, int, bytes] | None = None  # a piece of which only so many bytes have come, and theirs

    def __bool__(self) -> bool:
        return self._short is not None or bool(self._digests)

    @property
    def end(self) -> int:
        """Up to where anything of the block is known."""
        short = 0 if self._short is None else self._short[0] * SEAM_BYTES + self._short[1]
        return max(len(self._digests) // _DIGEST_BYTES * SEAM_BYTES, short)

    def known(self, piece: int, beyond: int = 0) -> tuple[int, bytes] | None:
        """How many first bytes of a piece are known, and their digest; None unless they are more than ``beyond``."""
        if self._short is not None and self._short[0] == piece and self._short[1] > beyond:
            return self._short[1:]
        digest = bytes(self._digests[piece * _DIGEST_BYTES : (piece + 1) * _DIGEST_BYTES])
        return None if digest in (b"", _NOTHING) else (SEAM_BYTES, digest)

    def learn(self, piece: int, length: int, digest: bytes) -> None:
        """So many first bytes of a piece have this digest, as far as is known by now."""
        if length == SEAM_BYTES:
            stop = (piece + 1) * _DIGEST_BYTES
            self._digests.extend(bytes(max(0, stop - len(self._digests))))
            self._digests[stop - _DIGEST_BYTES : stop] = digest
            if self._short is not None and self._short[0] == piece:
                self._short = None
        elif (self.known(piece) or (0, b""))[0] < length:
            self._short = (piece, length, digest)


class Seams:
    """Of one instance, as long as somebody has it open."""

    def __init__(self, instance: Instance, beginning: Seen) -> None:
        """
        :param beginning: what is known of the first block, which outlives this.
        """
        self._instance = instance
        self._blocks = {0: beginning}

    def __contains__(self, block: int) -> bool:
        """Whether it is known what stands before ``block``; of 0, how it begins."""
        if block == 0:
            return self.known(0, 0) is not None
        return (self.known(block - 1, _LAST) or (0, b""))[0] == SEAM_BYTES

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return any(self._blocks.values())

    @property
    def end(self) -> int:
        """Up to which byte of the instance anything is known."""
        return max((block * BLOCK_BYTES + seen.end for block, seen in self._blocks.items() if seen), default=0)

    def see(self, block: int, before: bytes) -> None:
        """Before ``block``, which is not 0, stands what ``before`` ends with: no fewer than ``SEAM_BYTES``.

        :raises Replaced: if something else stood there before.
        """
        Trace(self, block * BLOCK_BYTES - SEAM_BYTES).go_on(memoryview(before)[-SEAM_BYTES:])

    def known(self, block: int, piece: int, beyond: int = 0) -> tuple[int, bytes] | None:
        """See ``Seen``."""
        return self._blocks[block].known(piece, beyond) if block in self._blocks else None

    def learn(self, block: int, piece: int, length: int, digest: bytes) -> None:
        """See ``Seen``; what is known of the piece has been compared.

        :raises Replaced: if as many bytes are known, and are others.
        """
        known = self.known(block, piece, length - 1)
        if known is not None and known != (length, digest) and known[0] == length:
            raise contradiction(self._instance)
        self._blocks.setdefault(block, Seen()).learn(piece, length, digest)


class Trace:
    """One that brings bytes in order: they are compared with what is known, which they are from then on."""

    def __init__(self, seams: Seams, start: int) -> None:
        """
        :param start: where its bytes begin, and a piece.
        """
        self.position = start
        """Up to which byte it has come."""
        self._seams = seams
        self._digest = xxh3_128()  # of the piece so far

    @property
    def compared_end(self) -> int:
        """Up to where nothing is left to compare: where more of a piece is known than has come, up to that piece."""
        block, piece, length = self._place
        return self.position if self._seams.known(block, piece, length) is None else self.position - length

    def go_on(self, data: memoryview) -> None:
        """Take the next bytes.

        :raises Replaced: if they are others than are known.
        """
        while data:
            block, piece, length = self._place
            stop, _ = self._seams.known(block, piece, length) or (SEAM_BYTES, b"")
            part = data[: stop - length]
            data = data[len(part) :]
            self._digest.update(part)
            self.position += len(part)
            if length + len(part) == stop:
                self._seams.learn(block, piece, stop, self._digest.digest())
            if length + len(part) == SEAM_BYTES:
                self._digest = xxh3_128()

    def stop(self) -> None:
        """It brings no more: what has come of its last piece is remembered."""
        block, piece, length = self._place
        if length and self._seams.known(block, piece, length - 1) is None:
            self._seams.learn(block, piece, length, self._digest.digest())

    @property
    def _place(self) -> tuple[int, int, int]:
        """The block and the piece in it that comes, and how much of that has."""
        block, offset = divmod(self.position, BLOCK_BYTES)
        return block, *divmod(offset, SEAM_BYTES)

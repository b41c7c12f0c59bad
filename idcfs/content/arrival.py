"""What has arrived of one instance: checked, and cut into blocks. No waiting and no I/O.

Bytes come in order. The block that is arriving is kept here until the next one begins, also once it is full: whoever
reads in order is served from it, whatever the cache can hold. Nothing is handed out before the file meta has shown that
this is the instance asked for, stored as the index says.

A body that broke off is followed by another one, perhaps from another place: from a little before where it broke off if
the source can start there, else from where the first one began. Only the bytes not yet known are taken of it, once the
others have been shown to be the same: see ``Overlap``. What is wanted from the middle begins a little before it as
well, for what comes there has to be what others have seen there: see ``Seams``. And a block that leads to a kept one is
neither kept nor handed out to its end before the body has gone on as that one begins. What others have seen of the
same bytes is compared before those are handed out, and what is handed out is remembered for others: see ``Trace``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from xxhash import xxh3_128

from ..errors import Damaged, Replaced, Truncated, WrongSize
from ..settings import BLOCK_BYTES, MAX_INSTANCE_BYTES, MAX_UNTOLD_BYTES
from .blocks import Slice
from .identity import is_proven
from .instance import Instance
from .overlap import Following, Overlap
from .seams import SEAM_BYTES, Seams, Trace


class Arrival:
    """The bytes of ``instance`` so far."""

    def __init__(
        self,
        instance: Instance,
        size: int | None,
        seams: Seams,
        store: Callable[[int, bytes], None],
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """
        :param size: the exact size in bytes, if known.
        :param seams: what all bodies of the instance have shown where they meet.
        :param store: called with each whole block.
        :param start: where a block starts, and bytes are wanted from. Not 0 only for an instance of which the size is
            known and the beginning has been proven before.
        :param stop: up to where they are wanted; a later block's start.
        """
        self.size = size
        """As known before, announced, or counted at the end."""
        self.stop = stop
        """Where a body ends that starts where it was asked to; None for the end of the instance."""
        self.is_whole = False
        """Whether a body came to its end."""
        self._known_size = size
        self._instance = instance
        self._store = store
        self._seams = seams
        self._announced = False
        self._checked = start > 0
        self._first = self._block = start // BLOCK_BYTES
        self._trace = Trace(seams, start)
        self._pieces: list[bytes | memoryview] = []  # of the block that is arriving
        self._filled = 0
        self._before = b""  # the last bytes before the block that is arriving, as far as they are known
        self._known = xxh3_128()  # of all blocks from the first on but the one that is arriving
        self._overlap = Overlap(instance, SEAM_BYTES if start else 0)
        self._next: Following | None = None  # what follows the block that is arriving, once it is full
        self._is_cut = False

    def lead_to(self, after: bytes) -> None:
        """These bytes, known from elsewhere, follow what is wanted: bodies have to go on with the first of them.

        To be called before each body.
        """
        self._overlap.expect_after(after)

    @property
    def start(self) -> int:
        """Where the bytes asked for begin."""
        return self._first * BLOCK_BYTES

    @property
    def position(self) -> int:
        """Up to which byte it has arrived."""
        return self._block * BLOCK_BYTES + self._filled

    @property
    def resume_at(self) -> int:
        """Where the next body is asked to start: further on only if these are bytes that cannot change."""
        if self._checked and self._instance.is_fixed:
            return self.position - self._overlap.lead_bytes - len(self._tail())
        return self.start

    @property
    def known_ahead(self) -> int:
        """How many bytes the body brings next that come only to be compared."""
        return self._overlap.ahead

    @property
    def asked_stop(self) -> int | None:
        """Where the next body is asked to end; None for the end of the instance."""
        return None if self.stop is None else self.stop + self._overlap.after_bytes

    @property
    def left(self) -> int | None:
        """How many of the bytes asked for are still to come, if that is known."""
        return None if self._end is None else self._end - self.position

    @property
    def is_checked(self) -> bool:
        """Whether the file meta has shown that these are the right bytes."""
        return self._checked

    @property
    def has_shown_beginning(self) -> bool:
        """Whether these are the right bytes, and so many that others can be told from them."""
        return self._checked and (self.position >= SEAM_BYTES or self.is_whole)

    @property
    def has_proven_size(self) -> bool:
        """Whether the archive's answer proves ``size``; knowing it beforehand does not."""
        return self._checked and (self._announced or (self.is_whole and self.stop is None))

    @property
    def has_all(self) -> bool:
        """Whether every byte is here, though the body may not have ended yet."""
        return self.is_whole or self.left == 0

    @property
    def is_cut_off(self) -> bool:
        """Whether what follows in the body is not wanted any more: see ``cut``."""
        return self._is_cut and self.has_all and self._next is not None and self._next.is_seen

    @property
    def is_held_back(self) -> bool:
        """Whether a block is full, and may not be handed out to its end before more has come: see ``go_on_with``."""
        return self._filled == BLOCK_BYTES and not self.has_all and (self._next is None or not self._next.is_seen)

    @property
    def following(self) -> int | None:
        """The block after one that is full now, if it has to be said how that begins: see ``go_on_with``."""
        is_asked = self._filled == BLOCK_BYTES and self._next is None and (self._is_cut or not self.has_all)
        return self._block + 1 if is_asked else None

    @property
    def touches_known(self) -> bool:
        """Whether the next body is compared with what is known where it begins; at its end would be too late."""
        return self.position > self.start or (self.start > 0 and self._first in self._seams)

    def is_to_come(self, block: int) -> bool:
        """Whether a block is the one that is arriving or a later one of those asked for."""
        return block >= self._block and (self.stop is None or block * BLOCK_BYTES < self.stop)

    @property
    def readable_end(self) -> int:
        """Up to where bytes may be handed out: the last one only once the body has ended as it should.

        Else a length that is announced too small would look like the end of the file. And the first ones only once so
        many are here that they can be told from others, should the rest come from elsewhere; and where others have seen
        the same bytes, those that have been compared.
        """
        return self._trace.compared_end if self.has_shown_beginning else 0

    def get(self, wanted: Slice) -> bytes | None:
        """The wanted bytes, if they are in the block that is arriving and may be handed out."""
        if wanted.block != self._block or wanted.end > self.readable_end:
            return None
        return self._joined()[wanted.start : wanted.stop]

    def go_on_with(self, known: bytes) -> None:
        """The block ``following`` is kept, and these are its first bytes: the body has to go on with them.

        :param known: nothing, where it is not kept, or need not be compared.
        """
        self._next = Following(self._instance, known)
        if not known and not self.has_all:
            self._keep()

    def cut(self, stop: int) -> None:
        """Want no more than up to ``stop``, a block's start that is still to come, of a body that goes on."""
        if self.stop is None and self.position < stop < (self.size or 0):
            self.stop = stop
            self._is_cut = True

    def begin(self, start: int, stop: int | None, announced: int | None) -> None:
        """A body begins, at byte ``start``, and goes to ``stop``; its headers may have announced the instance's size.

        :param stop: None where it goes to the instance's end, whatever was asked for.
        :raises Damaged: if that is not the size known, or the body is not of the range that was asked for.
        """
        if announced is not None:
            self._agree_on_size(announced)
            self._announced = True
        if stop not in (None, self.asked_stop):
            raise Damaged(f"{self._instance}: the archive sends up to byte {stop}, not to {self.asked_stop}")
        if start == self.start and not self._overlap.lead_bytes:
            self._overlap.expect_again(self.position - self.start, self._digest())
        elif start == self.resume_at:
            self._expect_tail()
        elif start == 0:
            self._begin_anew()
        else:
            raise Damaged(f"{self._instance}: the archive sends from byte {start} on, not from {self.resume_at}")
        if stop is None:
            self.stop = None
            self._overlap.expect_after(b"")
        if self._next is not None:
            self._next.expect()
        self._is_cut = False

    def leave_off(self) -> None:
        """No more comes, or not from here on: what may have been handed out is remembered."""
        if self.readable_end:
            self._trace.stop()

    def forget_unproven(self) -> None:
        """What has come so far may be of something else, and so may the size: the next body is the first one.

        Nothing is forgotten once the file meta has shown that it is the right instance.
        """
        if not self._checked:
            self._begin_anew()
            self.size = self._known_size
            self._announced = False

    def _digest(self) -> xxh3_128:
        """Of all that has arrived, from the first block on."""
        digest = self._known.copy()
        if self._pieces:
            digest.update(self._joined())
        return digest

    def _expect_tail(self) -> None:
        """The body begins with the last bytes that are known, or else with the lead."""
        if tail := self._tail():
            self._overlap.expect_again(len(tail), xxh3_128(tail))
        else:
            self._overlap.expect_lead()

    def _begin_anew(self) -> None:
        """Take the instance from its beginning, and see again that it is the right one."""
        self.leave_off()
        self._trace = Trace(self._seams, 0)
        self._first = self._block = self._filled = 0
        self._next = None
        self._overlap.expect_nothing()
        self._pieces = []
        self._before = b""
        self._known = xxh3_128()
        self._checked = False

    def take(self, chunk: bytes) -> Iterator[None]:
        """Take the next bytes of the body, yielding after each piece so that it can be handed out before the next.

        After each piece ``go_on_with`` is to be called if there is a block ``following``.

        :raises Damaged: if these cannot be the stored bytes.
        """
        data = memoryview(chunk)
        if known := data[: self._overlap.ahead]:
            self._take_known(known)
            data = data[len(known) :]
        data, beyond = self._parted(data)
        while data and not self.is_cut_off:
            if self._filled == BLOCK_BYTES:
                following = self._next or Following(self._instance)
                data = following.compare(data)
                if following.is_seen and not self.is_cut_off:
                    yield from self._begin_block(following.known)
            else:
                piece = data[: BLOCK_BYTES - self._filled]
                data = data[len(piece) :]
                self._add(piece)
                yield
        if beyond:
            self._overlap.compare_after(beyond)

    def end(self) -> None:
        """The body was whole; so is the instance, if it is as long as was said.

        :raises Damaged: if it is not.
        """
        # A body that was cut goes on, so that it can be compared; a range up to there has been already.
        lacks_next = self._is_cut and self._next is not None and not self._next.is_seen
        if self._overlap.ahead or self.is_held_back or lacks_next:
            raise self._too_little()
        if self.stop is None:
            self._agree_on_size(self.position)
            self._check(whole=True)
            if self.position < self._seams.end:
                raise Replaced(f"{self._instance}: the archive sends fewer bytes than it sent before")
        elif self.position != self.stop or not self._overlap.has_seen_after:
            raise Truncated(f"{self._instance}: the archive sent less than the range asked for")
        self.is_whole = True
        self._keep()
        self.leave_off()

    def _too_little(self) -> Damaged | Truncated:
        if self._announced or self._overlap.lead_bytes:  # it is as long as ever, by its own words
            return Truncated(f"{self._instance}: the archive sent less than what had come before")
        return Replaced(f"{self._instance}: the archive sends fewer bytes than it sent before")

    def _take_known(self, known: memoryview) -> None:
        if lead := self._overlap.compare(known):
            self._before = lead
            self._seams.see(self._first, lead)

    def _parted(self, data: memoryview) -> tuple[memoryview, memoryview]:
        """What is wanted of ``data``, and what is only compared."""
        left = len(data) if self.stop is None or not self._overlap.after_bytes else self.stop - self.position
        return data[:left], data[left:]

    def _begin_block(self, known: bytes) -> Iterator[None]:
        """The next block begins, and its first bytes have come if they are ``known``: only now the last one is kept."""
        if known:
            self._keep()
            yield
        self._known.update(self._joined())
        self._before = self._tail()
        self._block += 1
        self._filled = 0
        self._pieces = []
        self._next = None
        if known:
            self._add(memoryview(known))
            yield

    def _tail(self) -> bytes:
        """The last bytes that are known."""
        here = self._joined()[-SEAM_BYTES:] if self._pieces else b""
        return self._before[len(here) - SEAM_BYTES :] + here if len(here) < SEAM_BYTES else here

    def _add(self, piece: memoryview) -> None:
        if self._end is not None and self.position + len(piece) > self._end:
            if self.stop is not None:
                raise Damaged(f"{self._instance}: the archive sends more than the range asked for")
            raise WrongSize(f"{self._instance}: the archive sends more than the {self.size} bytes that are stored")
        if self._end is None and self.position > MAX_UNTOLD_BYTES:
            raise Damaged(f"{self._instance}: no length is told, and there seems to be no end to what comes")
        self._pieces.append(piece)
        self._filled += len(piece)
        self._check(whole=False)
        self._compare(piece)

    @property
    def _end(self) -> int | None:
        """Where the bytes asked for end, if that is known."""
        return self.size if self.stop is None else self.stop

    def _keep(self) -> None:
        self._compare(memoryview(b""))
        self._store(self._block, self._joined())

    def _compare(self, last: memoryview) -> None:
        """Compare what may be handed out now with what is known; ``last`` is what came last, and need not be copied."""
        if self._checked:
            new = self.position - self._trace.position
            data = last if new <= len(last) else memoryview(self._joined())
            is_last = self.position == self._end and not self.is_whole
            self._trace.go_on(data[len(data) - new : len(data) - (is_last or self.is_held_back)])

    def _joined(self) -> bytes:
        """What is here of the block that is arriving; copied once, and then shared with whoever keeps it."""
        if len(self._pieces) != 1 or not isinstance(self._pieces[0], bytes):
            self._pieces = [b"".join(self._pieces)]
        return cast("bytes", self._pieces[0])

    def _agree_on_size(self, size: int) -> None:
        if self.size is not None and self.size != size:
            raise WrongSize(f"{self._instance}: the archive has {size} bytes where {self.size} should be stored")
        if size > MAX_INSTANCE_BYTES:
            raise Damaged(f"{self._instance}: the archive announces {size:,} bytes, more than any instance has")
        self.size = size

    def _check(self, *, whole: bool) -> None:
        """See, once, that this is the instance asked for, stored as the index says."""
        if not self._checked:
            start = self._pieces[0] if len(self._pieces) == 1 else self._joined()  # the first needs no copy
            self._checked = is_proven(self._instance, start, whole=whole)

"""What a body brings that is known: it comes only to be compared, before the bytes that are wanted and after them.

Before them come once more those that a broken body has brought, compared by a digest, or the last few of them; or,
where a body begins in the middle, the lead: what stands before the first block, which others may have seen. After them
comes what is known to follow; a body that goes on across kept blocks brings that in its midst. See ``arrival`` for why.
"""

from __future__ import annotations

from xxhash import xxh3_128

from ..errors import Damaged
from .instance import Instance
from .seams import SEAM_BYTES, contradiction


class Following:
    """What is known to follow, of which a body has to bring the first bytes. No waiting and no I/O."""

    def __init__(self, instance: Instance, known: bytes = b"") -> None:
        self.known = known[:SEAM_BYTES]
        """The bytes that are compared."""
        self._instance = instance
        self._seen = 0

    @property
    def is_seen(self) -> bool:
        """Whether the body has shown all of them."""
        return self._seen == len(self.known)

    def expect(self) -> None:
        """A body begins that has shown nothing of them."""
        self._seen = 0

    def compare(self, data: memoryview) -> memoryview:
        """Take the next bytes; returns those that come after what is compared.

        :raises Replaced: if they are other bytes than those known.
        """
        known = self.known[self._seen : self._seen + len(data)]
        if data[: len(known)] != known:
            raise contradiction(self._instance)
        self._seen += len(known)
        return data[len(known) :]


class Overlap:
    """That of one instance's arrival, body by body. No waiting and no I/O."""

    def __init__(self, instance: Instance, lead_bytes: int) -> None:
        """
        :param lead_bytes: how long the lead is, which nobody has shown yet.
        """
        self.lead_bytes = lead_bytes
        """How long it is; 0 once it has come, or is not needed."""
        self.ahead = 0
        """How many bytes the body brings next that come only to be compared."""
        self._instance = instance
        self._again = xxh3_128()  # of those that come once more,
        self._expected = self._again  # which is to be of the same bytes
        self._led: list[memoryview] = []  # what has come of the lead
        self._after = Following(instance)  # the bytes asked for

    @property
    def after_bytes(self) -> int:
        """How many bytes are known that follow those asked for."""
        return len(self._after.known)

    @property
    def has_seen_after(self) -> bool:
        """Whether the body has shown all of those."""
        return self._after.is_seen

    def expect_after(self, after: bytes) -> None:
        """These bytes follow those asked for: bodies have to go on with the first of them."""
        self._after = Following(self._instance, after)

    def expect_again(self, length: int, expected: xxh3_128) -> None:
        """A body begins, with ``length`` bytes that are known, and have this digest."""
        self._begin(length)
        self._again, self._expected = xxh3_128(), expected

    def expect_lead(self) -> None:
        """A body begins, with the lead if that has not come yet."""
        self._begin(self.lead_bytes)
        self._led = []

    def expect_nothing(self) -> None:
        """A body begins from which everything is new."""
        self._begin(0)
        self.lead_bytes = 0

    def _begin(self, ahead: int) -> None:
        self.ahead = ahead
        self._after.expect()

    def compare(self, known: memoryview) -> bytes:
        """Take the next bytes, of those ``ahead``; returns the lead with its last one, else nothing.

        :raises Replaced: if they are other bytes than before.
        """
        self.ahead -= len(known)
        if self.lead_bytes:
            return self._take_lead(known)
        self._again.update(known)
        if not self.ahead and self._again.digest() != self._expected.digest():
            raise contradiction(self._instance)
        return b""

    def _take_lead(self, piece: memoryview) -> bytes:
        self._led.append(piece)
        if self.ahead:
            return b""
        self.lead_bytes = 0
        return b"".join(self._led)

    def compare_after(self, data: memoryview) -> None:
        """Take the next bytes, after those asked for.

        :raises Replaced: if they are other bytes than those known.
        :raises Damaged: if they are more.
        """
        if self._after.compare(data):
            raise Damaged(f"{self._instance}: the archive sends more than the range asked for")

"""What waits to be written to the disk cache, and when that is done. No I/O.

It is done when no more contents come, or when as many wait as may: see ``disk``. State changes between two checkpoints
only.
"""

from __future__ import annotations

from collections.abc import Set

import trio

from ..settings import MIB
from .block_files import NewBlock, name_of
from .blocks import Key
from .disk_work import Work

_QUEUE_BYTES = 16 * MIB
"""May wait to be written beyond what may be behind, before ``room`` waits."""
_MOST_BEHIND_BYTES = 128 * MIB
"""May wait that are in memory anyway: half a second's work, at the end of the mount too."""
_BATCH_BYTES = 4 * MIB
"""Written together: their locks cost little, and what comes meanwhile finds room in the queue."""
_USES_AT_ONCE = 256
_QUIET_SECONDS = 0.25
"""Contents that come no closer to each other do not hold up the writing."""
_LONGEST_SECONDS = 5.0
"""Nothing waits longer for its turn."""


class Queue:
    """Work for one writer: it waits until some is ``ready``, does what it takes, and says that it has finished."""

    def __init__(self, behind_bytes: int) -> None:
        """
        :param behind_bytes: may wait, since they are in memory as well: see ``evicted``.
        """
        self.next = Work()
        """What has gathered."""
        self.current = Work()
        """The writer's: it is not changed any more."""
        self.has_work = trio.Event()
        """There is something to do."""
        self.is_urgent = trio.Event()
        """There is something that should not wait for more of its kind."""
        self._behind_bytes = min(behind_bytes, _MOST_BEHIND_BYTES)
        self._has_given_up = False
        self._is_quiet = True
        self._settled = trio.Event()  # something waits no longer

    # --- what is to be done ------------------------------------------------------------------------------------------

    def find(self, key: Key, block: int) -> NewBlock | None:
        """A block that waits to be written, or is being written."""
        queued = self.next.blocks.get((key, block))
        if queued is None and key not in self.next.drops:
            queued = self.current.blocks.get((key, block))
        return queued

    def is_to_drop(self, key: Key) -> bool:
        """Whether what is on disk of the instance ``key`` is to be removed."""
        return key in self.next.drops or key in self.current.drops

    def add(self, block: NewBlock) -> None:
        """Have ``block`` written; there is none of its number."""
        self.next.add(block)
        self._is_quiet = False
        self._gather()

    def use(self, key: Key, block: int) -> None:
        """A block has been used just now."""
        self.next.use(name_of(key, block), key, block)
        self._gather()

    def lose(self, name: bytes) -> None:
        """The file of the block ``name`` is not there, or damaged."""
        self.next.lost.add(name)
        self.hurry()

    def drop(self, key: Key) -> None:
        """Have what is kept of the instance ``key`` removed, and write nothing of it."""
        self.next.drop(key)
        self.hurry()
        self._tell_of_room()

    def evicted(self, key: Key, block: int) -> None:
        """A block is in memory no longer: should it wait to be written, it is time."""
        if (key, block) in self.next.blocks:
            self.hurry()

    def hurry(self) -> None:
        """There is work that should not wait."""
        self.has_work.set()
        self.is_urgent.set()

    def _gather(self) -> None:
        """There is work that gets cheaper with more of its kind."""
        self.has_work.set()
        if self.next.size >= max(self._behind_bytes, _BATCH_BYTES) or len(self.next.used) >= _USES_AT_ONCE:
            self.hurry()

    # --- who waits for it --------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether not too much waits to be written."""
        return self._has_given_up or self.waiting_bytes <= self._behind_bytes + _QUEUE_BYTES

    async def room(self) -> None:
        """Wait while much waits to be written."""
        while not self.has_room:
            await self._settled.wait()

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that memory had better keep it."""
        return self.waiting_bytes > _QUEUE_BYTES

    async def sync(self) -> None:
        """Return when what waits now is written, or cannot be."""
        for _ in range(2):  # the first time it may turn out that blocks have gone which memory has
            blocks = self.next.blocks.keys() | self.current.blocks.keys()
            uses = self.next.used, self.current.used  # as they are taken: the same blocks may be used without end
            self.hurry()
            while not self._has_given_up and self._waits(blocks, uses):
                await self._settled.wait()

    @property
    def waiting_bytes(self) -> int:
        """Of contents that are not written yet."""
        return self.next.size + self.current.size

    def _waits(self, blocks: Set[tuple[Key, int]], uses: tuple[object, ...]) -> bool:
        """Whether any of ``blocks`` and ``uses`` is yet to be written."""
        works = self.next, self.current
        return any(work.blocks.keys() & blocks or any(work.used is one for one in uses) for work in works)

    def _tell_of_room(self) -> None:
        self._settled.set()
        self._settled = trio.Event()

    # --- the writer --------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Return when there is work, and no more contents come or what waits should not."""
        await self.has_work.wait()
        await self._until_quiet()
        self.has_work, self.is_urgent = trio.Event(), trio.Event()

    async def _until_quiet(self) -> None:
        with trio.move_on_after(_LONGEST_SECONDS):
            while not self.is_urgent.is_set():
                self._is_quiet = True
                with trio.move_on_after(_QUIET_SECONDS):
                    await self.is_urgent.wait()
                if self._is_quiet:
                    return

    def take(self) -> Work:
        """What is to be done now, which is ``current`` until ``finish``."""
        self.current = self.next.take(_BATCH_BYTES)
        return self.current

    def drop_later(self) -> None:
        """What the current work should have dropped is still there."""
        self.next.drops |= self.current.drops

    def finish(self) -> None:
        """The current work is done, or cannot be."""
        self.current = Work()
        if self.next.blocks:
            self.hurry()
        self._tell_of_room()

    def give_up(self) -> int:
        """There is no writer any more: nobody waits for one. Returns how many blocks are not written."""
        unkept = len(self.next.blocks)
        self._has_given_up = True
        self.next = Work()
        self._tell_of_room()
        return unkept

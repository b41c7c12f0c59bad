"""IDC's public buckets: every file of a series by its exact size, and any range of it, over anonymous HTTPS."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Protocol

from ..errors import Damaged, Gone
from .body import InstanceBody, open_body
from .habits import RangeHabit
from .inventory import BucketSeries, IdentifiedObject, Inventory


class BucketInstance(BucketSeries, Protocol):
    """What a file is found by."""

    @property
    def instance_uid(self) -> str: ...


class BucketArchive:
    """The buckets. Errors are those of the transport, and Gone for what they do not hold."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._ranges = defaultdict[str, RangeHabit](partial(RangeHabit, known=True))  # of each bucket

    def may_hold(self, series: BucketSeries) -> bool:
        """Whether the index says where the files of ``series`` are."""
        return self._inventory.is_placed(series)

    def starts_anywhere(self, instance: BucketInstance) -> bool:
        """Whether its bucket sends ranges of ``instance``: all do, until one shows that it does not."""
        return self._ranges[instance.bucket].may_send(instance.instance_uid)

    async def sizes(self, series: BucketSeries, *, in_part: bool = False) -> dict[str, int]:
        """The exact size in bytes of each instance of ``series``, by SOPInstanceUID.

        :param in_part: of as many as can be told at present.
        :raises Gone: if there are none.
        """
        found = await self._inventory.objects(series, in_part=in_part)
        return {uid: stored.size for uid, stored in found.items()}

    async def size(self, instance: BucketInstance) -> int:
        """The exact size in bytes of ``instance``.

        :raises Gone: if the bucket does not hold it.
        """
        return (await self._object_of(instance)).size

    @asynccontextmanager
    async def fetch(
        self, instance: BucketInstance, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[InstanceBody]:
        """Bytes [start, stop) of ``instance`` as stored, or all from 0 on where the bucket sends no ranges of it.

        Its size is always known.

        :raises Gone: if the bucket does not hold it.
        :raises Damaged: if the file is not as long as it is listed.
        """
        stored = await self._object_of(instance)
        path = f"/{instance.content}/{stored.name}"
        start, end = (start, stop) if self.starts_anywhere(instance) else (0, None)
        end = None if end is None or end >= stored.size else end
        transport = self._inventory.transport(instance.bucket)
        async with AsyncExitStack() as stack:
            try:
                stream = transport.stream(path, "*/*", start, end, kind="bucket_requests")
                answer = await stack.enter_async_context(stream)
                body = await open_body(answer, start, end, any_type=True)
                _agree_on_size(body, stored, answer.where)
                if start or end is not None:
                    self._note_range(instance, is_range=answer.status == 206)
            except (Gone, Damaged):
                self._inventory.distrust(instance)
                raise
            yield body

    def _note_range(self, instance: BucketInstance, *, is_range: bool) -> None:
        habit = self._ranges[instance.bucket]
        if is_range:
            habit.note_range()
        else:
            habit.note_whole(instance.instance_uid)

    async def _object_of(self, instance: BucketInstance) -> IdentifiedObject:
        if instance.instances == 1 and (only := await self._inventory.only_object(instance)) is not None:
            return IdentifiedObject(instance.instance_uid, *only)
        return await self._inventory.object(instance, instance.instance_uid)


def _agree_on_size(body: InstanceBody, stored: IdentifiedObject, where: str) -> None:
    """What comes in chunks, or compressed, does not tell its size; the list does."""
    if body.size is None:
        body.size = stored.size
    if body.size != stored.size:
        raise Damaged(f"{where} has {body.size} bytes, and is listed with {stored.size}")

"""IDC's public buckets: every file of a series by its exact size, and any range of it, over anonymous HTTPS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from ..errors import Damaged, Gone
from .body import InstanceBody, open_body
from .inventory import BucketSeries, IdentifiedObject, Inventory


class BucketInstance(BucketSeries, Protocol):
    """What a file is found by."""

    @property
    def instance_uid(self) -> str: ...


class BucketArchive:
    """The buckets. Errors are those of the transport, and Gone for what they do not hold."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def may_hold(self, series: BucketSeries) -> bool:
        """Whether the index says where the files of ``series`` are."""
        return self._inventory.is_placed(series)

    async def sizes(self, series: BucketSeries, *, in_part: bool = False) -> dict[str, int]:
        """The exact size in bytes of each instance of ``series``, by SOPInstanceUID.

        :param in_part: of as many as can be told at present.
        :raises Gone: if there are none.
        """
        found = await self._inventory.objects(series, in_part=in_part)
        return {uid: stored.size for uid, stored in found.items()}

    @asynccontextmanager
    async def fetch(
        self, instance: BucketInstance, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[InstanceBody]:
        """Bytes [start, stop) of ``instance`` as stored; its size is always known.

        :raises Gone: if the bucket does not hold it.
        :raises Damaged: if the file is not as long as it is listed.
        """
        stored = await self._object_of(instance)
        path = f"/{instance.content}/{stored.name}"
        end = None if stop is None or stop >= stored.size else stop
        transport = self._inventory.transport(instance.bucket)
        async with AsyncExitStack() as stack:
            try:
                stream = transport.stream(path, "*/*", start, end, kind="bucket_requests")
                answer = await stack.enter_async_context(stream)
                body = await open_body(answer, start, end, any_type=True)
                _agree_on_size(body, stored, answer.where)
            except (Gone, Damaged):
                self._inventory.distrust(instance)
                raise
            yield body

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

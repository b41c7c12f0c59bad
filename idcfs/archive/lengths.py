"""How long instances are whose archive does not say so: the list of the bucket that holds them too does.

Else only the end of a body would show it, which whoever opens the file would wait for. The list costs a request or
two for a series of one instance, and one per file, once, for all others (``inventory.py``): a wait that has a limit.
What has taken longer is found out all the same, for the next instance of the series.
"""

from __future__ import annotations

import logging

import trio
from cachetools import TTLCache

from ..errors import IdcfsError
from .bucket import BucketArchive, BucketInstance

_LONGEST_SECONDS = 5.0
"""How long a body that has begun waits for its length: far less than an archive takes for an idle connection."""
_UNKNOWN_SECONDS = 60.0
"""How long a series of which it could not be told is not asked about again."""
_MAX_UNKNOWN = 10_000

log = logging.getLogger(__name__)


class Lengths:
    """What the buckets' lists say."""

    def __init__(self, buckets: BucketArchive, timeout_seconds: float) -> None:
        self._buckets = buckets
        self._longest_seconds = min(_LONGEST_SECONDS, timeout_seconds / 4)
        self._unknown: TTLCache[str, bool] = TTLCache(_MAX_UNKNOWN, _UNKNOWN_SECONDS, trio.current_time)

    async def of(self, instance: BucketInstance) -> int | None:
        """The size of ``instance`` in bytes, None where that is not to be had at present."""
        if instance.content in self._unknown:
            return None
        with trio.move_on_after(self._longest_seconds) as scope:
            try:
                return await self._buckets.size(instance)
            except IdcfsError as error:
                log.info("nor does the bucket tell how long %s is: %s", instance, error, extra={"kind": __name__})
        if scope.cancelled_caught:
            log.info("the bucket does not tell soon how long %s is", instance, extra={"kind": __name__})
        self._unknown[instance.content] = True
        return None

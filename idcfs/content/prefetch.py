"""Which siblings to fetch before anyone asks.

Tools read a series file by file. Once a second sibling is opened near the first, those that follow in the same
direction are fetched in parallel: as many requests at once as set, as many bytes ahead of the reader as set, never past
the series. Every opening moves that window on; nothing else does, so whoever stops opening files stops the fetching.

A sibling of no more than a download's own read-ahead is fetched whole even if the tool only looks at headers: pixels
follow, and the request is what costs. A larger one is fetched only for who has read most of the siblings before.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import suppress
from functools import partial

import trio
from cachetools import LRUCache

from ..errors import Damaged, Gone, IdcfsError
from ..settings import ContentSettings
from ..stats import Stats
from .amounts import affordable_for_later
from .instance import Instance, Siblings
from .reader import Reader, Wish

NEAR = 32
"""Siblings opened further apart than this do not follow each other. Parallel readers of one series are nearer."""
IDLE_SECONDS = 5.0
"""A series of which no file has been open for so long is not being read any more."""
MAX_FOLLOWED = 250_000
"""Siblings of all series that are followed: each trail keeps its series' listing in memory."""
_REMEMBERED = 4
"""Openings that show the direction: parallel readers open files a little out of order."""

log = logging.getLogger(__name__)


class _Trail:
    """What is known of the reading of one series."""

    def __init__(self, siblings: Siblings) -> None:
        self.siblings = siblings
        self.open_files = 0
        self.last_used = trio.current_time()
        self.recent: deque[int] = deque(maxlen=_REMEMBERED)
        self.reads_all = False
        """Whether the sibling closed last had been read for the most part."""
        self.fetching: dict[int, Wish] = {}
        self.fetched: set[int] = set()
        """Fetched and not opened yet."""
        self.awaited: set[int] = set()
        """Opened while being fetched."""
        self.tried: set[int] = set()
        """Not to be fetched (again): opened, fetched, or failed."""
        self.given_up = False
        self._sizes: dict[int, int] = {}

    @property
    def weight(self) -> int:
        """What it costs to follow the series."""
        return min(len(self.siblings) + 1, MAX_FOLLOWED)

    def follow(self, ordinal: int) -> None:
        """A sibling is opened. Far from the last one, or long after it, what was fetched may be wanted once more."""
        is_far = bool(self.recent) and abs(ordinal - self.recent[-1]) > NEAR
        if is_far:
            self.recent.clear()
        if is_far or self.is_idle:
            self.tried = set(self.fetching)
        self.recent.append(ordinal)
        self.last_used = trio.current_time()

    def size(self, ordinal: int) -> int:
        """Size of a sibling in bytes, as known when it was first asked for: it is asked for each time one is opened."""
        size = self._sizes.get(ordinal)
        if size is None:
            size = self._sizes[ordinal] = self.siblings.size(ordinal)
        return size

    @property
    def is_idle(self) -> bool:
        """Whether the series is not being read any more."""
        return not self.open_files and trio.current_time() - self.last_used > IDLE_SECONDS

    @property
    def direction(self) -> int:
        """1 or -1, in the order of the listing; 0 while there is none."""
        step = self.recent[-1] - self.recent[0]
        return (step > 0) - (step < 0)

    def ahead(self) -> Iterator[int]:
        """The ordinals that follow those opened."""
        direction = self.direction
        front = max(self.recent, key=lambda ordinal: ordinal * direction)
        return iter(range(front + 1, len(self.siblings)) if direction > 0 else range(front - 1, -1, -1))


class Prefetcher:
    """Follows the reading of each series and fetches ahead of it."""

    def __init__(
        self, reader: Reader, settings: ContentSettings, capacity_bytes: int, nursery: trio.Nursery, stats: Stats
    ) -> None:
        """
        :param capacity_bytes: what the cache can keep.
        """
        self._reader = reader
        self._number = settings.prefetch
        self._small_bytes = settings.read_ahead_bytes
        self._ahead_bytes = min(settings.prefetch_bytes, affordable_for_later(capacity_bytes))
        self._fetches = 0
        self._hungry: dict[_Trail, None] = {}  # those that may have more to fetch, whose turn it is first
        self._nursery = nursery
        self._stats = stats
        self._trails: LRUCache[Hashable, _Trail] = LRUCache(MAX_FOLLOWED, getsizeof=lambda trail: trail.weight)
        self._watching = False
        stats.gauge("prefetching", lambda: self._fetches)

    def opened(self, siblings: Siblings, ordinal: int) -> None:
        """A file of a series has been opened."""
        if not self._number:
            return
        trail = self._trail(siblings)
        if not trail.recent or trail.recent[-1] != ordinal:
            trail.follow(ordinal)
        trail.open_files += 1
        trail.tried.add(ordinal)
        if ordinal in trail.fetching:
            trail.awaited.add(ordinal)
        elif ordinal in trail.fetched:
            trail.fetched.remove(ordinal)
            self._stats.count("prefetched_used")
        self._fetch_ahead(trail)

    def closed(self, siblings: Siblings, ordinal: int, read_bytes: int) -> None:
        """A file of a series has been closed; ``read_bytes`` of it had been read."""
        trail = self._trails.get(siblings.series)
        if trail is None:
            return
        trail.open_files = max(0, trail.open_files - 1)
        trail.last_used = trio.current_time()
        trail.given_up = trail.given_up and not read_bytes  # the archive answers again
        trail.reads_all = 2 * read_bytes >= siblings.size(ordinal)
        self._fetch_ahead(trail)

    def _trail(self, siblings: Siblings) -> _Trail:
        trail = self._trails.get(siblings.series)
        if trail is None:
            trail = _Trail(siblings)
            while self._trails.currsize + trail.weight > MAX_FOLLOWED:
                self._stop(self._trails.popitem()[1])
            self._trails[siblings.series] = trail
        return trail

    def _fetch_ahead(self, trail: _Trail) -> None:
        """Start what may be fetched now."""
        self._hungry[trail] = None
        self._start()

    def _start(self) -> None:
        while (following := self._next()) is not None:
            self._nursery.start_soon(self._work, *following)

    def _next(self) -> tuple[_Trail, int, Wish] | None:
        """What may be fetched now, and is from here on: of one series after the other, the next sibling of each."""
        if self._fetches == self._number:
            return None
        for trail in list(self._hungry):
            del self._hungry[trail]
            following = self._following(trail)
            if following is not None:
                self._hungry[trail] = None  # behind the others
                return trail, following[0], self._begin(trail, *following)
        return None

    def _following(self, trail: _Trail) -> tuple[int, Instance] | None:
        """The sibling of a series to fetch next, if any; one that cannot be asked for is passed over."""
        if trail.direction == 0 or trail.given_up or trail.is_idle:
            return None
        for ordinal in self._window(trail):
            if ordinal not in trail.tried:
                with suppress(Damaged):
                    return ordinal, trail.siblings.instance(ordinal)
        return None

    def _begin(self, trail: _Trail, ordinal: int, instance: Instance) -> Wish:
        trail.tried.add(ordinal)
        wish = trail.fetching[ordinal] = Wish(self._reader, instance)
        self._fetches += 1
        if not self._watching:
            self._watching = True
            self._nursery.start_soon(self._stop_idle_trails)
        return wish

    def _end(self, trail: _Trail, ordinal: int) -> None:
        del trail.fetching[ordinal]
        trail.awaited.discard(ordinal)
        self._fetches -= 1

    def _window(self, trail: _Trail) -> Iterator[int]:
        """The siblings that may be fetched before anyone asks, the next one first."""
        left = self._ahead_bytes
        for number, ordinal in enumerate(trail.ahead()):
            size = trail.size(ordinal)
            left -= size
            if number == 2 * self._number or left < 0 or (size > self._small_bytes and not trail.reads_all):
                return
            yield ordinal

    async def _work(self, trail: _Trail, ordinal: int, wish: Wish) -> None:
        """Fetch one sibling after the other, as long as there is one.

        All in one task, where the next request is sent as soon as an answer has ended. A task for each would first
        have to wait for its turn, and while 16 downloads keep the processor busy a turn takes milliseconds.
        """
        await self._fetch(trail, ordinal, wish, gives_way=True)
        while (following := self._next()) is not None:
            await self._fetch(*following)

    async def _fetch(self, trail: _Trail, ordinal: int, wish: Wish, *, gives_way: bool = False) -> None:
        try:
            if gives_way:
                await self._give_way(wish.instance)
            await self._fetch_one(trail, ordinal, wish)
        except (Gone, Damaged):
            pass  # of this sibling alone, or the download was stopped
        except IdcfsError as error:
            log.debug("nothing more is fetched ahead of series %s: %s", trail.siblings.series, error)
            self._give_up(trail, wish)
        except Exception:
            log.exception("fetching ahead of series %s failed: this is a bug", trail.siblings.series)
            self._give_up(trail, wish)
        finally:
            if not wish.given_up:
                wish.give_up()
                self._end(trail, ordinal)

    async def _give_way(self, instance: Instance) -> None:
        """To the opened file that led here: it takes as long to get its slot, and comes first."""
        await self._reader.look_up(instance)
        for _ in range(2):
            await trio.lowlevel.checkpoint()

    async def _fetch_one(self, trail: _Trail, ordinal: int, wish: Wish) -> None:
        siblings = trail.siblings
        instance, size = wish.instance, siblings.exact_size(ordinal)
        if self._reader.is_fetching(instance):
            return
        if size and await self._reader.has_all(instance, size):
            await self._reader.read_first(instance)
            return
        await self._reader.fetch_ahead(wish, size, partial(siblings.learn, ordinal))
        if wish.given_up:
            return
        self._stats.count("prefetched")
        if ordinal in trail.awaited:
            self._stats.count("prefetched_used")
        else:
            trail.fetched.add(ordinal)

    def _give_up(self, trail: _Trail, wish: Wish) -> None:
        """The archive fails: whoever reads shall hear of it, nobody else needs to.

        What failed may have been stopped long before, and somebody reads the series anew.
        """
        if not wish.given_up:
            trail.given_up = True
            self._stop(trail)

    def _stop(self, trail: _Trail) -> None:
        """Stop what is being fetched of a series; it may be fetched another time."""
        self._hungry.pop(trail, None)
        trail.tried.difference_update(trail.fetching)
        for ordinal, wish in list(trail.fetching.items()):
            self._end(trail, ordinal)
            wish.give_up()

    async def _stop_idle_trails(self) -> None:
        """Stop fetching for those who have stopped reading; ends with the last fetch."""
        while active := [trail for trail in self._trails.values() if trail.fetching]:
            for trail in active:
                if trail.is_idle:
                    self._stop(trail)
            self._start()
            await trio.sleep(1)
        self._watching = False

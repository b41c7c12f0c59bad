"""Whatever mounts do with a directory they share, and whatever happens to its files: right bytes or none.

A model that only asked for that would be content with a tier that keeps nothing, so it also knows of blocks that must
be there: what has been put, and neither dropped, evicted nor damaged since.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from idcfs.content import block_files, disk_directory, disk_known, upkeep
from idcfs.content.blocks import Key
from idcfs.content.disk import DiskTier
from idcfs.errors import Damaged
from idcfs.settings import KIB, MIB
from idcfs.stats import Stats

Place = tuple[Key, int]

KEYS: list[Key] = [("a", "1"), ("a", "2"), ("b", "1")]
PATIENT = settings(stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
SIZES = [0, 1, 4_000, 4_040, 4_041, 20_000]

mounts = st.sampled_from([0, 1])
keys = st.sampled_from(KEYS)
numbers = st.integers(0, 3)
places = st.tuples(keys, numbers)


def bytes_of(key: Key, number: int, generation: int) -> bytes:
    """What the archive has; all of a generation of an instance are replaced together."""
    made = random.Random(f"{key} {number} {generation}")
    return made.randbytes(made.choice(SIZES))


def write_all(tier: DiskTier) -> None:
    """What ``run`` does, at once."""
    assert tier.capacity
    while not tier.queue.next.is_empty:
        trio.run(tier.write_some)


class Mounts(RuleBasedStateMachine):
    """Two mounts and one directory, with room for everything."""

    capacity = 10 * MIB

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="idcfs-disk-"))
        self.tiers = [self.mounted() for _ in range(2)]
        self.generation: dict[Key, int] = dict.fromkeys(KEYS, 0)
        self.floor: list[dict[Key, int]] = [dict.fromkeys(KEYS, 0) for _ in range(2)]  # the oldest they may show
        self.queued: list[set[Place]] = [set(), set()]  # must be there for the one
        self.written: set[Place] = set()  # must be there for one who looks first now
        self.own: list[set[Place]] = [set(), set()]  # must be there for the one, from disk
        self.looked: list[set[Key]] = [set(), set()]
        self.dropped: list[set[Key]] = [set(), set()]
        self.damaged: set[Place] = set()
        self.stale: set[Key] = set()  # there may be blocks that contradict the new ones

    def mounted(self) -> DiskTier:
        """A tier that looks again each time for what it has not found: the model knows no clock."""
        with patch.object(disk_known, "KEPT_SECONDS", 0):
            return DiskTier(self.directory, self.capacity, Stats())

    def teardown(self) -> None:
        for tier in self.tiers:
            tier.close()
        shutil.rmtree(self.directory)

    # --- mounts ------------------------------------------------------------------------------------------------------

    @rule(mount=mounts, some=st.sets(places, min_size=1))
    def put_some(self, mount: int, some: set[Place]) -> None:
        for place in sorted(some):
            self.put(mount, place)

    @rule(mount=mounts, some=st.sets(places, min_size=1))
    def put_and_write(self, mount: int, some: set[Place]) -> None:
        self.put_some(mount, some)
        self.write(mount)

    def put(self, mount: int, place: Place) -> None:
        key, number = place
        tier = self.tiers[mount]
        was_there = tier.has(key, number)
        data = bytes_of(key, number, self.generation[key])
        try:
            tier.put(key, number, data)
        except Damaged:
            assert was_there
            assert self.generation[key] > 0
            self.drop(mount, key)
            return
        assert tier.has(key, number)
        if not was_there:
            self.queued[mount].add(place)

    @rule(mount=mounts, place=places)
    def get(self, mount: int, place: Place) -> None:
        key, number = place
        found = trio.run(self.tiers[mount].get, key, number)
        generations = range(self.floor[mount][key], self.generation[key] + 1)
        assert found in [None, *(bytes_of(key, number, generation) for generation in generations)]
        if self.must_be_there(mount, place):
            assert found == bytes_of(key, number, self.generation[key])
            assert self.tiers[mount].has(key, number)
        elif found is None:
            self.own[mount].discard(place)
        if key not in self.looked[mount]:  # it knows now of all that is there
            self.own[mount] |= {written for written in self.written if written[0] == key}
        self.looked[mount].add(key)

    @rule(mount=mounts)
    def get_all(self, mount: int) -> None:
        for key in KEYS:
            for number in range(4):
                self.get(mount, (key, number))

    def must_be_there(self, mount: int, place: Place) -> bool:
        if place in self.queued[mount] or place in self.own[mount]:
            return True
        return place[0] not in self.looked[mount] and place in self.written

    @rule(mount=mounts)
    def write(self, mount: int) -> None:
        self.damaged = {place for place in self.damaged if self.path(place).exists()}
        write_all(self.tiers[mount])
        self._has_written(mount)

    def _has_written(self, mount: int) -> None:
        self.stale -= self.dropped[mount]
        for known in (*self.own, self.written):  # what the other has put meanwhile goes as well
            known -= {place for place in known if place[0] in self.dropped[mount]}
        written = {place for place in self.queued[mount] - self.damaged if place[0] not in self.stale}
        self.written |= written
        self.own[mount] |= {place for place in written if place[0] in self.looked[mount]}
        self.queued[mount] = set()
        for key in self.dropped[mount]:  # what was put afterwards is new as well
            for floor in self.floor:
                floor[key] = max(floor[key], self.floor[mount][key])
        self.dropped[mount] = set()

    @rule(mount=mounts, key=keys)
    def drop(self, mount: int, key: Key) -> None:
        self.tiers[mount].drop(key)
        assert not any(self.tiers[mount].has(key, number) for number in range(4))
        assert trio.run(self.tiers[mount].get, key, 0) is None
        self.floor[mount][key] = self.generation[key]
        self.dropped[mount].add(key)
        self.looked[mount].add(key)
        self.unsure(key)

    @rule(mount=mounts)
    def reopen(self, mount: int) -> None:
        self.damaged = {place for place in self.damaged if self.path(place).exists()}
        self.tiers[mount].close()
        self._has_written(mount)
        self.tiers[mount] = self.mounted()
        self.looked[mount] = set()
        self.own[mount] = set()

    @rule(key=keys)
    def replace(self, key: Key) -> None:
        """The archive has other bytes from now on."""
        for mount in range(2):
            self.write(mount)
        self.generation[key] += 1
        self.stale.add(key)
        self.unsure(key)

    def unsure(self, key: Key) -> None:
        for known in (*self.queued, *self.own, self.written):
            known -= {place for place in known if place[0] == key}

    # --- damage ------------------------------------------------------------------------------------------------------

    def path(self, place: Place) -> Path:
        return disk_directory.block_path(self.directory, block_files.name_of(*place))

    def damage(self, *places: Place) -> list[Path]:
        """The files of ``places``, which need not be there any more; none if one of them is not there now."""
        paths = [self.path(place) for place in places]
        if not all(path.exists() for path in paths):
            return []
        for known in (*self.own, self.written):
            known -= set(places)
        self.damaged |= set(places)
        return paths

    @rule(place=places, position=st.floats(0, 0.999), bit=st.integers(0, 7))
    def flip(self, place: Place, position: float, bit: int) -> None:
        for path in self.damage(place):
            content = bytearray(path.read_bytes())
            if content:
                content[int(position * len(content))] ^= 1 << bit
            path.write_bytes(content)

    @rule(place=places, length=st.integers(0, 5_000))
    def resize(self, place: Place, length: int) -> None:
        for path in self.damage(place):
            with path.open("r+b") as file:
                file.truncate(length)

    @rule(one=places, other=places)
    def swap(self, one: Place, other: Place) -> None:
        contents = [path.read_bytes() for path in self.damage(one, other)]
        for place, content in zip((other, one), contents, strict=False):
            self.path(place).write_bytes(content)

    @rule(place=places)
    def delete(self, place: Place) -> None:
        for path in self.damage(place):
            path.unlink()

    # --- upkeep ------------------------------------------------------------------------------------------------------

    @rule()
    def verify(self) -> None:
        found = upkeep.verify(self.directory)
        assert found.blocks >= len(self.written)
        assert found.orphans == 0
        assert upkeep.info(self.directory).bytes == found.bytes

    @rule()
    def clear(self) -> None:
        upkeep.clear(self.directory)
        assert upkeep.info(self.directory) == upkeep.CacheInfo()
        assert not self.files()
        self.own = [set(), set()]
        self.written = set()

    # --- always ------------------------------------------------------------------------------------------------------

    def files(self) -> list[Path]:
        return [path for path in self.directory.glob("??/*") if path.is_file()]

    def rows(self, select: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.directory / "index.sqlite")) as connection:
            return connection.execute(select).fetchall()

    @invariant()
    def every_file_has_a_row_and_is_counted(self) -> None:
        rows = {bytes(name).hex(): size for name, size in self.rows("SELECT name, bytes FROM block")}
        assert {path.name for path in self.files()} <= set(rows)
        assert self.rows("SELECT bytes FROM state") == [(sum(rows.values()),)]
        assert sum(rows.values()) <= self.capacity

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert not list((self.directory / "tmp").iterdir())


class CrampedMounts(Mounts):
    """The same with room for a few blocks: nothing must be there but what waits to be written."""

    capacity = 40 * KIB

    def _has_written(self, mount: int) -> None:
        super()._has_written(mount)
        self.own = [set(), set()]
        self.written = set()


def test_two_mounts_and_one_directory() -> None:
    run_state_machine_as_test(Mounts, settings=settings(PATIENT, max_examples=25))


def test_two_mounts_with_little_room() -> None:
    run_state_machine_as_test(CrampedMounts, settings=settings(PATIENT, max_examples=15))

"""Whole documents in both tiers: what comes back is what was put, all of it, or nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from idcfs.content.blocks import MemoryTier
from idcfs.content.documents import Documents
from idcfs.content.tiers import Tiers
from idcfs.settings import BLOCK_BYTES, MIB
from tests.content.on_disk import KEY, OTHER, running

HEADER_BYTES = 32
SIZES = [0, 1, 1_000, BLOCK_BYTES - HEADER_BYTES, BLOCK_BYTES - HEADER_BYTES + 1, BLOCK_BYTES, 3 * MIB + 5]


def body(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_is_had_again_in_a_later_mount_too(size: int, tmp_path: Path) -> None:
    async with running(tmp_path) as disk:
        documents = Documents(Tiers(MemoryTier(16 * MIB), disk))
        assert await documents.get(KEY) is None
        await documents.put(KEY, body(size))
        assert await documents.get(KEY) == body(size)
        await disk.sync()
    async with running(tmp_path) as disk:
        documents = Documents(Tiers(MemoryTier(0), disk))
        assert await documents.get(KEY) == body(size)
        assert await documents.get(OTHER) is None


@pytest.mark.parametrize(("before", "after"), [(3 * MIB, 2 * MIB), (2 * MIB, 3 * MIB), (3 * MIB, 3 * MIB), (10, 20)])
async def test_another_version_takes_the_place_of_the_one_before(before: int, after: int, tmp_path: Path) -> None:
    async with running(tmp_path) as disk:
        documents = Documents(Tiers(MemoryTier(0), disk))
        await documents.put(KEY, body(before))
        await disk.sync()
        await documents.put(KEY, body(after, seed=2))
        await disk.sync()
        assert await documents.get(KEY) == body(after, seed=2)


async def test_of_a_document_that_is_kept_in_part_nothing_comes(tmp_path: Path) -> None:
    memory = MemoryTier(16 * MIB)
    async with running(tmp_path, capacity_bytes=0) as disk:
        documents = Documents(Tiers(memory, disk))
        await documents.put(KEY, body(3 * MIB))
        for missing in range(4):
            del memory._blocks[KEY, missing]
            assert await documents.get(KEY) is None
            await documents.put(KEY, body(3 * MIB))
            assert await documents.get(KEY) == body(3 * MIB)


async def test_blocks_of_two_versions_make_no_document(tmp_path: Path) -> None:
    async with running(tmp_path, capacity_bytes=0) as disk:
        tiers = Tiers(MemoryTier(16 * MIB), disk)
        documents = Documents(tiers)
        await documents.put(KEY, body(2 * MIB, seed=2))
        mixed = tiers.in_memory(KEY, 1)
        assert mixed is not None
        tiers.drop(KEY)
        await documents.put(KEY, body(2 * MIB))
        memory = MemoryTier(16 * MIB)
        other = Documents(Tiers(memory, disk))
        for block in range(3):
            memory.put(KEY, block, tiers.in_memory(KEY, block) or b"")
        memory.put(KEY, 1, mixed)
        assert await other.get(KEY) is None
        assert memory.size == 0  # it would not be any better the next time

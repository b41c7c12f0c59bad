"""Cutting and keeping, without any source."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.content.blocks import MemoryTier, block_count, slices
from idcfs.settings import BLOCK_BYTES, MIB

KEY = ("content", "1.2.3")
near = st.integers(0, 6).flatmap(lambda block: st.integers(-2, 2).map(lambda by: max(0, block * BLOCK_BYTES + by)))
offsets = near | st.integers(0, 6 * BLOCK_BYTES)


@given(offset=offsets, end=offsets)
def test_slices_are_the_range_and_nothing_else(offset: int, end: int) -> None:
    at = offset
    for one in slices(offset, end):
        assert one.block * BLOCK_BYTES + one.start == at
        assert 0 <= one.start < one.stop <= BLOCK_BYTES
        at += one.stop - one.start
        assert at == one.end
    assert at == max(offset, end)


@given(offsets)
def test_so_many_blocks_are_counted_as_there_are(size: int) -> None:
    assert block_count(size) == len(list(slices(0, size)))


def test_a_range_of_many_blocks_has_one_slice_each() -> None:
    cut = list(slices(BLOCK_BYTES - 1, 3 * BLOCK_BYTES + 1))
    assert cut == [(0, BLOCK_BYTES - 1, BLOCK_BYTES), (1, 0, BLOCK_BYTES), (2, 0, BLOCK_BYTES), (3, 0, 1)]


def test_least_recently_used_goes_first() -> None:
    tier = MemoryTier(30)
    for block in range(3):
        tier.put(KEY, block, bytes(10))
    assert tier.get(KEY, 0) == bytes(10)
    tier.put(KEY, 3, bytes(10))
    assert [tier.get(KEY, block) is not None for block in range(4)] == [True, False, True, True]


def test_too_large_a_block_is_not_kept_and_pushes_nothing_out() -> None:
    tier = MemoryTier(10)
    tier.put(KEY, 0, b"kept")
    tier.put(KEY, 1, bytes(11))
    assert (tier.get(KEY, 0), tier.get(KEY, 1), tier.size) == (b"kept", None, 4)


def test_nothing_fits() -> None:
    tier = MemoryTier(0)
    tier.put(KEY, 0, b"x")
    assert (tier.get(KEY, 0), tier.size, tier.capacity) == (None, 0, 0)


def test_keys_are_told_apart() -> None:
    tier = MemoryTier(1 * MIB)
    tier.put(("a", "1"), 0, b"a1")
    tier.put(("a", "2"), 0, b"a2")
    tier.put(("b", "1"), 0, b"b1")
    assert [tier.get(key, 0) for key in (("a", "1"), ("a", "2"), ("b", "1"))] == [b"a1", b"a2", b"b1"]


@given(
    capacity=st.integers(0, 40),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.binary(max_size=15)), max_size=60),
)
@settings(deadline=None)
def test_against_a_model(capacity: int, steps: list[tuple[bool, int, bytes]]) -> None:
    tier = MemoryTier(capacity)
    model: OrderedDict[int, bytes] = OrderedDict()
    for is_put, block, data in steps:
        if is_put:
            tier.put(KEY, block, data)
            if len(data) <= capacity:
                model.pop(block, None)
                while sum(map(len, model.values())) + len(data) > capacity:
                    model.popitem(last=False)
                model[block] = data
        else:
            assert tier.get(KEY, block) == model.get(block)
            if block in model:
                model.move_to_end(block)
        assert tier.size == sum(map(len, model.values())) <= capacity

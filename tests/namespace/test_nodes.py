"""Inode numbers are arithmetic: they come back, never meet, and fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from idcfs.namespace.nodes import MAX_ORDINAL, ROOT, ROOT_INODE, Level, Node, View, inode_of, node_of
from tests.namespace.making import patient

MAX_ROW = 2**32 - 1

nodes = st.builds(
    Node,
    st.sampled_from(list(Level)),
    st.integers(0, MAX_ROW) | st.sampled_from([0, 1, MAX_ROW]),
    st.integers(0, MAX_ORDINAL) | st.sampled_from([0, 1, MAX_ORDINAL]),
    st.sampled_from(list(View)),
)


@patient
@given(nodes)
def test_a_number_gives_its_node_back(node: Node) -> None:
    assert node_of(inode_of(*node)) == node
    assert isinstance(node_of(inode_of(*node)).level, Level)


@patient
@given(nodes, nodes)
def test_two_nodes_never_share_a_number(one: Node, other: Node) -> None:
    assert (inode_of(*one) == inode_of(*other)) == (one == other)


def test_the_root_has_the_number_that_the_kernel_gives_it() -> None:
    assert inode_of(*ROOT) == ROOT_INODE == 1
    assert node_of(1) == ROOT


def test_the_largest_number_fits_in_63_bits() -> None:
    assert inode_of(Level.INSTANCE, MAX_ROW, MAX_ORDINAL, 15) < 2**63
    assert max(View) <= 15
    assert MAX_ORDINAL > 91_980  # instances of the largest series in IDC v25


def test_only_directories_are_directories() -> None:
    assert ROOT.is_directory
    assert all(Node(level, 5).is_directory for level in Level if Level.ROOT < level < Level.INSTANCE)
    assert not Node(Level.INSTANCE, 5, 1).is_directory

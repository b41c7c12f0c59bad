"""Every input that is kept, samples and what once broke something, is tried on its target."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, corpus, load

MOST_BYTES = 300_000
"""Of all inputs together: they are part of every clone."""


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_kept_breaks_nothing(target: str) -> None:
    paths = corpus(target)
    assert paths
    for path in paths:
        try:
            load(target)(path.read_bytes())
        except Exception as error:
            error.add_note(f"again: python -m scripts.fuzz {target} --repeat {path}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_at_all_break_nothing(target: str) -> None:
    load(target)(b"")


def test_what_is_kept_is_small_and_each_directory_is_a_target_s() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MOST_BYTES

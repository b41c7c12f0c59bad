"""Somebody who is not root, for tests that root runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

NOBODY = 65_534
AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    # Reading is all that is left to it: the interpreter and the checkout may be in somebody's private directory.
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
)
"""Stands before a command that is to be run as nobody."""


def only_root(why: str) -> pytest.MarkDecorator:
    """Marks a test that takes root's rights, and ``why``."""
    return pytest.mark.skipif(os.geteuid() != 0, reason=why)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)

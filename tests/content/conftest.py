"""What all tests of contents need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="package", autouse=True)
def patience_without_end() -> Iterator[None]:
    """A clock that jumps ahead when nothing moves in the event loop does not see that a thread is reading."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("idcfs.patience._PATIENCE_SECONDS", math.inf)
        yield


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a disk tier is to keep its blocks; not there yet."""
    return tmp_path / "cache" / "blocks"

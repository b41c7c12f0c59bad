"""A twin that serves a few files, as new for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.data import ct_series, multiframe
from tests.twin.asking import SLICES, Instance, instance_at
from tests.twin.client import Twin


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CT series of 12 slices and one RLE multi-frame instance, by SOPInstanceUID."""
    root = tmp_path_factory.mktemp("twin") / "files"
    paths = [*ct_series(root / "ct", SLICES, 64), multiframe(root / "rle", 4, 64, encapsulated=True, study="frames")]
    return {path.stem: path for path in paths}


@pytest.fixture(scope="module")
def module_twin(files: dict[str, Path]) -> Iterator[Twin]:
    root = next(iter(files.values())).parents[1]
    with Twin(data=root) as twin:
        yield twin


@pytest.fixture
def twin(module_twin: Twin) -> Twin:
    module_twin.reset()
    return module_twin


@pytest.fixture
def client(twin: Twin) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=twin.url, timeout=10, trust_env=False) as client:
        yield client


@pytest.fixture
def ct(files: dict[str, Path]) -> Instance:
    """URL path below the root, and bytes, of the first CT slice."""
    return instance_at(next(iter(files.values())))


@pytest.fixture
def rle(files: dict[str, Path]) -> Instance:
    return instance_at(list(files.values())[-1])

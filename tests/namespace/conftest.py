"""What tests of the namespace share: the catalog of the installed index, built once, and places for what is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import open_catalog
from idcfs.settings import PACKAGED
from tests.namespace.making import write_rows


@pytest.fixture(scope="session")
def cache_dir() -> Iterator[Path]:
    """Where the catalog of the packaged index lies; too large to leave behind."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def packaged(cache_dir: Path) -> Catalog:
    """The catalog of the packaged index."""
    return open_catalog(PACKAGED, cache_dir)


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where a store of lists and sizes is to lie; not there yet."""
    return tmp_path / "series.sqlite"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An index of one series."""
    return write_rows(tmp_path / "index.parquet")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory of the test's own, empty."""
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory

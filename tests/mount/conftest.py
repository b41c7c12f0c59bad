"""Real mounts for tests: made by the command, taken off whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.harness import Mount, mounted

NOWHERE = "http://127.0.0.1:9/dicomWeb"
"""An archive that nobody serves: whoever is mounted over it has not sent a request."""

MountMaker = Callable[..., Mount]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[MountMaker]:
    """``mount(URL, *options, at=…, cache=…)`` → a mount that lives as long as the test."""
    with contextlib.ExitStack() as stack:

        def make(archive: str, *options: str | Path, at: str = "mnt", cache: Path | None = None) -> Mount:
            directory = tmp_path.resolve() / at
            where = ("--archive", archive, "--cache-dir", cache or tmp_path / "cache")
            return stack.enter_context(mounted(directory, *where, *options, state_dir=tmp_path / "state"))

        yield make


@pytest.fixture(scope="session")
def packaged_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory for all mounts of the packaged index, so that its catalog is built once."""
    return tmp_path_factory.mktemp("packaged")


@pytest.fixture
def log_of(tmp_path: Path) -> Callable[[], str]:
    """The logs of the test's mounts so far."""
    return lambda: "".join(path.read_text() for path in (tmp_path / "state").rglob("*.log"))

"""What a mount shows, as files that other programs read: made beside its catalog when it is first asked for."""

from __future__ import annotations

from pathlib import Path

from ..cohort import Cohort
from ..errors import Gone, IdcfsError
from ..layout import Layout
from ..settings import PACKAGED
from .index import catalog_path
from .packaged import packaged_parquet
from .process import EXPORT, run_apart

SERIES = "series.parquet"
"""The rows of the index, with all its columns."""
COLLECTIONS = "collections.json"
"""What is in each collection, see ``export.write_collections``."""


class ExportedIndex:
    """The index of one mount, packaged or a file, as far as its catalog shows it."""

    def __init__(self, index: str, cache_dir: Path, layout: Layout, cohort: Cohort) -> None:
        self._index = index
        self._cache_dir = cache_dir
        self._layout = layout
        self._cohort = cohort
        self._catalog = catalog_path(index, cache_dir, layout, cohort)

    def path(self, name: str) -> Path:
        """Where ``SERIES`` or ``COLLECTIONS`` is, made if need be. All series are the index itself: nothing is copied.

        :raises Gone: if the index is another one than when it was mounted.
        :raises IdcfsError: if it cannot be made.
        """
        if catalog_path(self._index, self._cache_dir, self._layout, self._cohort) != self._catalog:
            raise Gone(f"--index {self._index} is another one than when it was mounted")
        if name == SERIES and not self._cohort:
            return packaged_parquet() if self._index == PACKAGED else Path(self._index)
        target = self._catalog.with_suffix(Path(name).suffix)
        if not target.exists():
            source = [] if self._index == PACKAGED else [str(Path(self._index).resolve())]
            code, reason = run_apart(EXPORT, str(self._catalog), str(target), *source)
            if code != 0:
                raise IdcfsError(f"{name} cannot be made: {reason}")
        return target

"""Which index a mount shows, and where its catalog is kept: built when first asked for, once per index version.

This module imports nothing heavy: with the catalog built, a mount only looks up a file name here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import Damaged, UsageError
from ..settings import PACKAGED
from .catalog import FORMAT, Catalog, SeriesRecord

_KEEP_SECONDS = 30 * 86_400
"""Catalogs that no mount opened for this long are removed when another is built."""

log = logging.getLogger(__name__)


def open_catalog(index: str, cache_dir: Path) -> Catalog:
    """The catalog of ``packaged`` or of a parquet file, built first if need be.

    :raises UsageError: if the index cannot be used, or the cache directory not written.
    """
    path = catalog_path(index, cache_dir)
    try:
        catalog = Catalog.open(path)
    except Damaged as error:
        if path.exists():
            log.warning("%s: building it again", error)
        _build(index, path)  # in place of a damaged one, and only if no other mount has done so by now
        catalog = Catalog.open(path)
    with suppress(OSError):  # says only that the catalog is in use
        os.utime(path)
    return catalog


def searched_catalog(archive: str, records: Iterable[SeriesRecord]) -> Catalog:
    """A catalog in memory over the series that a DICOMweb server lists, as one collection called ``archive``."""
    from .build import catalog_of_records  # here, not above: building needs 30 MB more of libraries

    return catalog_of_records(archive, records)


def unsearched_catalog(archive: str) -> Catalog:
    """What is known of a server before it is asked: that it is one collection."""
    return searched_catalog(archive, [_Unknown()])


class _Unknown:
    """Stands for series that nobody has looked for yet."""

    patient_id = study_uid = series_uid = ""
    instance_count = 0


def catalog_path(index: str, cache_dir: Path) -> Path:
    """Where the catalog of ``index`` is kept: the name changes with the index's version.

    :raises UsageError: if there is no such index.
    """
    if index == PACKAGED:
        try:
            identity = f"packaged-{version('idc-index-data')}"
        except PackageNotFoundError:
            raise UsageError("the package idc-index-data is not installed: install it, or give --index FILE") from None
    else:
        source = Path(index)
        try:
            status = source.stat()
        except OSError as error:
            raise UsageError(f"--index {index}: {error.strerror}") from None
        if not source.is_file():
            raise UsageError(f"--index {index} is not a file: give packaged, qido or a parquet file")
        stamp = f"{source.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        identity = "file-" + hashlib.blake2b(stamp.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
    return cache_dir / f"catalog-{FORMAT}-{identity}.arrow"


def _build(index: str, path: Path) -> None:
    """Build in a process of its own, so that this one stays small."""
    log.info("building the catalog %s (once per index version)", path)
    _remove_unused(path.parent)
    command = [sys.executable, "-m", "idcfs.namespace.build", str(path)]
    if index != PACKAGED:
        command.append(str(Path(index).resolve()))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        log.debug("building failed:\n%s", done.stderr)
        raise UsageError(reason[-1])


def _remove_unused(directory: Path) -> None:
    for path in directory.glob("catalog-*"):
        with suppress(OSError):  # gone by now, or not ours to remove
            if path.stat().st_mtime < time.time() - _KEEP_SECONDS:
                path.unlink()

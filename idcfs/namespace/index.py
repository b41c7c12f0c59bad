"""Which index a mount shows, and where its catalog is kept: built when first asked for, once per index version.

What a DICOMweb server lists may be the index too. Each mount asks it anew, but its last answer is kept for when it
cannot be asked.

This module imports nothing heavy, and no mount ever does: whatever is built is built in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from ..cohort import ALL, Cohort
from ..errors import Damaged, DeadlinePassed, Gone, IdcfsError, QuotaSpent, Refused, Unreachable, UsageError
from ..layout import DEFAULT, Layout
from ..settings import PACKAGED, ArchiveSettings
from .builders import LOCK_NAME, building_in
from .catalog import Catalog
from .packaged import packaged_version
from .process import BUILD, run_apart
from .schema import FORMAT, unsearched_table
from .searched import SearchedSeries, values_of

_KEEP_SECONDS = 30 * 86_400
"""Catalogs that no mount opened for this long are removed when another is built."""

_SEARCHED = "searched"
"""Where in the cache directory the lists of archives are."""
_CATALOG = "catalog-"
"""What the name of a catalog begins with, also of one that is being built."""
_CATALOG_NAME = re.compile(
    _CATALOG + r"\d+-(packaged-\d[\w.]*|(file-)?[0-9a-f]{20})(-[0-9a-f]{12})?(-cohort-[0-9a-f]{16})?"
    r"\.(arrow|parquet|json)(\.tmp)?",
    re.ASCII,
)
"""All of it, whatever ``FORMAT`` is, and of what is made of catalogs: a file of the user's own may begin alike."""
_SCRATCH = (None, "/dev/shm")
"""Where a catalog that cannot be kept is built: the usual temporary directory, and memory where that is full too."""
_RECORDS_PER_LINE = 1_000
"""What is sent to a builder at once: more than twice as fast as one by one, and holds up others for 1 ms."""

log = logging.getLogger(__name__)

Search = Callable[[], Awaitable[Sequence[SearchedSeries]]]
"""Every series of a server."""


def open_catalog(
    index: str,
    cache_dir: Path,
    layout: Layout = DEFAULT,
    cohort: Cohort = ALL,
    tell: Callable[[str], None] = log.warning,
) -> Catalog:
    """The catalog of ``packaged`` or of a parquet file, built first if need be.

    :param tell: is told what this waits for, if that takes long.
    :raises UsageError: if the index cannot be used or has no such cohort, or the cache directory not written.
    """
    path = catalog_path(index, cache_dir, layout, cohort)
    try:
        catalog = Catalog.open(path)
    except Damaged as error:
        if path.exists():
            log.warning("%s: building it again", error)
        # In place of a damaged one, and only if no other mount has done so by now.
        _build(index, path, layout, cohort, tell)
        catalog = Catalog.open(path)
    with suppress(OSError):  # says only that the catalog is in use
        os.utime(path)
    return catalog


async def search_catalog(
    search: Search, archive: ArchiveSettings, cache_dir: Path, layout: Layout = DEFAULT, *, offline: bool = False
) -> Catalog:
    """The catalog of what ``archive`` lists; of what it listed last, while it cannot be asked.

    :param offline: nobody expects the archive to be asked, so that it cannot be is no reason to warn.
    :raises IdcfsError: what ``search`` raised, if no list is kept or the archive did answer.
    """
    path = searched_path(archive, cache_dir, layout)
    try:
        records = await search()
    except (Unreachable, DeadlinePassed, QuotaSpent) as error:
        kept = await trio.to_thread.run_sync(_kept_catalog, path)
        if kept is None:
            raise
        catalog, age = kept
        loudness, why = (logging.INFO, "offline") if offline else (logging.WARNING, error)
        log.log(loudness, "%s: shown is what it listed %s ago (%s)", archive.name, _duration(age), why)
        return catalog
    except (Gone, Refused) as error:
        raise _doubting_root(error, archive) from None
    # In a thread: sending a million series to the builder must not hold up everything else. Unmounting does not wait
    # for it: what is built appears whole or not at all.
    keep = partial(_keep_catalog, _Searched(archive.name, records, layout), path)
    return await trio.to_thread.run_sync(keep, abandon_on_cancel=True)


def _doubting_root(error: Gone | Refused, archive: ArchiveSettings) -> IdcfsError:
    """What is likely where a server's own list of series is no such thing, unless we know the address ourselves."""
    if archive.is_idcs or archive.google_login:
        return error
    told = copy(error)
    told.args = (f"{error}; is the URL the server's DICOMweb root? Orthanc's ends in /dicom-web",)
    return told


def is_kept_of_indexes(name: str) -> bool:
    """Whether a cache directory holds something of that name for an index."""
    return name in (_SEARCHED, LOCK_NAME) or _CATALOG_NAME.fullmatch(name) is not None


def searched_path(archive: ArchiveSettings, cache_dir: Path, layout: Layout = DEFAULT) -> Path:
    """Where the catalog of what ``archive`` lists is kept; the name is that of its one collection, so it counts too."""
    identity = hashlib.blake2b(f"{archive.name}\0{archive.base_url}".encode(), digest_size=10).hexdigest()
    return cache_dir / _SEARCHED / f"{_CATALOG}{FORMAT}-{identity}{_mark(layout)}.arrow"


def clear_searched(cache_dir: Path) -> int:
    """Remove what archives listed last, also while mounts show it; returns how many bytes that was.

    A mount that shows it keeps what it has mapped. One that builds is waited for, since two must not write one file.

    :raises IdcfsError: if it cannot be removed.
    """
    directory = cache_dir / _SEARCHED
    freed = 0
    try:
        if directory.is_symlink():  # what it leads to may be anybody's, and is shown no more
            directory.unlink()
            return freed
        with building_in(directory):
            for path in _catalogs_in(directory):
                freed += path.stat().st_size
                path.unlink()
    except FileNotFoundError:
        return freed
    except OSError as error:
        raise IdcfsError(f"{directory} cannot be cleared: {error.strerror}") from None
    return freed


class _Searched(NamedTuple):
    """What a search has found, and how it is to be shown."""

    archive: str
    records: Sequence[SearchedSeries]
    layout: Layout


def _keep_catalog(found: _Searched, path: Path) -> Catalog:
    """The catalog of what was ``found``, kept at ``path`` if that can be written.

    :raises IdcfsError: if it cannot be built.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        return _built_of_records(found, path)
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): what %s lists is not kept", path, error.strerror or error, found.archive
        )
    return _unkept_catalog(found)


def _unkept_catalog(found: _Searched) -> Catalog:
    """The catalog of what was ``found``, mapped from a file that is removed already: only the mapping holds it."""
    reasons = []
    for place in _SCRATCH:
        try:
            with tempfile.TemporaryDirectory(prefix="idcfs-", dir=place, ignore_cleanup_errors=True) as directory:
                return _built_of_records(found, Path(directory) / "catalog.arrow")
        except OSError as error:
            reasons.append(str(error))
    raise IdcfsError(f"what {found.archive} lists cannot be written anywhere ({'; '.join(reasons)})")


def _built_of_records(found: _Searched, path: Path) -> Catalog:
    """The catalog of what was ``found``, built at ``path``.

    :raises OSError: if ``path`` cannot be written.
    :raises IdcfsError: if building failed.
    """
    lines = _lines(found.archive, found.records)
    code, reason = run_apart(BUILD, *_options(found.layout), str(path), "-", lines=lines)
    if code == os.EX_CANTCREAT:
        raise OSError(reason)
    if code != 0:
        raise IdcfsError(f"what {found.archive} lists cannot be sorted: {reason}")
    return Catalog.open(path)


def _options(layout: Layout, cohort: Cohort = ALL) -> list[str]:
    """How a builder is told of ``layout`` and ``cohort``; what a manifest holds comes by stdin."""
    options = {"layout": [layout.text], "collection": cohort.collections, "where": filter(None, [cohort.where])}
    options["manifest"] = [cohort.manifest.name] if cohort.manifest else []
    return [f"--{name}={value}" for name, values in options.items() for value in values]


def _lines(archive: str, records: Sequence[SearchedSeries]) -> Iterator[bytes]:
    """``records`` as ``columns.read_records`` wants them; bit by bit, so that no second copy of them comes to be."""
    yield _line((archive, len(records)))
    for start in range(0, len(records), _RECORDS_PER_LINE):
        some = records[start : start + _RECORDS_PER_LINE]
        yield _line([values_of(one) for one in some])


def _line(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"{text}\n".encode("utf-8", "surrogatepass")  # a server's JSON may hold lone surrogates


def _kept_catalog(path: Path) -> tuple[Catalog, float] | None:
    """The catalog kept at ``path`` and its age in seconds; None where there is none, or none with a series."""
    try:
        catalog = Catalog.open(path)
        age_seconds = time.time() - path.stat().st_mtime
    except (Damaged, OSError) as error:
        if os.path.exists(path):
            log.warning("%s: not used", error)
        return None
    return (catalog, age_seconds) if catalog.rows else None


def _duration(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "less than a minute"


def unsearched_catalog(archive: str, layout: Layout = DEFAULT) -> Catalog:
    """What is known of a server before it is asked: that it is one collection."""
    return Catalog(unsearched_table(archive, layout))


def catalog_path(index: str, cache_dir: Path, layout: Layout = DEFAULT, cohort: Cohort = ALL) -> Path:
    """Where the catalog of ``index`` is kept: the name changes with the index's version.

    :raises UsageError: if there is no such index.
    """
    if index == PACKAGED:
        identity = f"packaged-{packaged_version()}"
    else:
        source = Path(index)
        try:
            index.encode()
            status = source.stat()
        except UnicodeEncodeError:  # Arrow opens no such file
            raise UsageError(f"--index {index}: it is no text in UTF-8") from None
        except OSError as error:
            raise UsageError(f"--index {index}: {error.strerror}") from None
        if not source.is_file():
            raise UsageError(f"--index {index} is not a file: give packaged, qido or a parquet file")
        stamp = f"{source.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        identity = "file-" + hashlib.blake2b(stamp.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
    return cache_dir / f"{_CATALOG}{FORMAT}-{identity}{_mark(layout, cohort)}.arrow"


def _mark(layout: Layout, cohort: Cohort = ALL) -> str:
    """What tells the catalogs of one index apart."""
    mark = "" if layout == DEFAULT else f"-{hashlib.blake2b(layout.text.encode(), digest_size=6).hexdigest()}"
    return f"{mark}-cohort-{cohort.digest}" if cohort else mark


def _build(index: str, path: Path, layout: Layout, cohort: Cohort, tell: Callable[[str], None]) -> None:
    log.info("building the catalog %s (once per index version)", path)
    _remove_unused(path.parent)
    source = [] if index == PACKAGED else [str(Path(index).resolve())]
    given = cohort.manifest.rewound() if cohort.manifest else None
    code, reason = run_apart(BUILD, *_options(layout, cohort), str(path), *source, given=given, tell=tell)
    if code != 0:
        raise UsageError(reason)


def _remove_unused(directory: Path) -> None:
    for path in _catalogs_in(directory):
        with suppress(OSError):  # gone by now, or not ours to remove
            if path.stat().st_mtime < time.time() - _KEEP_SECONDS:
                path.unlink()


def _catalogs_in(directory: Path) -> list[Path]:
    return [path for path in directory.glob(f"{_CATALOG}*") if _CATALOG_NAME.fullmatch(path.name)]

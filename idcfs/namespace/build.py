"""The process that makes a catalog: reads an index, sorts it, writes it down.

A million rows take 0.9 GB for some seconds (v25; 1.5 in the readable layout), and numpy and pyarrow.compute 60 MB for
as long as a process lives. So it has one of its own (``python -m idcfs.namespace.build``), started by ``index.py``: the
mount's memory never sees it.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..cohort import ALL, Cohort, Manifest
from ..errors import Damaged, UsageError
from ..layout import DEFAULT, Layout, parse_layout
from ..settings import GIB
from .builders import building_in
from .catalog import Catalog
from .columns import index_of_records, read_index, read_records
from .narrow import narrowed
from .packaged import packaged_parquet
from .process import bound_memory, tell_parent, without_pandas
from .searched import SearchedSeries
from .table import catalog_table

_MOST_BYTES = 8 * GIB
"""Memory of this process: five times what IDC v25 takes in its largest layout. In parquet a thousand million rows that
are all the same have some KB."""


def build_from_parquet(
    source: Path, target: Path, releases: dict[int, int], layout: Layout = DEFAULT, cohort: Cohort = ALL
) -> None:
    """Write the catalog of ``cohort`` in the parquet file ``source`` to ``target``, which appears whole or not at all.

    Several mounts may start at once: whoever holds the lock builds, the others find it done. A cohort is made out
    before that: a condition may take long, and others need not wait for it.

    :param releases: time of each IDC release, in seconds since the epoch.
    :raises UsageError: if ``source`` is not a parquet file with idc-index's columns, or has no such cohort.
    """
    index = None
    if cohort and not _is_whole(target):
        index = narrowed(read_index(source, layout.columns), source, cohort)
    with building_in(target.parent, tell_parent):
        if not _is_whole(target):
            if index is None:
                index = narrowed(read_index(source, layout.columns), source, cohort)
            _write(catalog_table(index, releases, layout), target)


def build_from_records(lines: Iterable[bytes], target: Path, layout: Layout = DEFAULT) -> None:
    """Write the catalog of the list in ``lines`` to ``target``: whole or not at all, in place of what is there.

    :raises UsageError: if the list is not whole.
    """
    table = table_of_records(*read_records(lines), layout)
    with building_in(
        target.parent, tell_parent
    ):  # not sooner: whoever sends the lines may be stopped for as long as it likes
        _write(table, target)


def table_of_records(collection: str, records: Iterable[SearchedSeries], layout: Layout = DEFAULT) -> pa.Table:
    """The catalog's table over what a DICOMweb server lists, under one collection."""
    return catalog_table(index_of_records(collection, records, layout.columns), {}, layout)


def _is_whole(path: Path) -> bool:
    """Whether a catalog file of this format is at ``path``."""
    try:
        Catalog.open(path)
    except Damaged:
        return False
    return True


def _write(table: pa.Table, target: Path) -> None:
    temporary = target.with_name(f"{target.name}.tmp")  # a killed builder's is overwritten: the lock is ours
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def packaged_index() -> tuple[Path, dict[int, int]]:
    """The parquet of the installed idc-index-data and the time of each IDC release.

    :raises UsageError: if the package has none.
    """
    source = packaged_parquet()
    rows = pq.read_table(source.with_name("version_metadata_index.parquet")).to_pylist()
    return source, {row["idc_version"]: _epoch(row["version_timestamp"]) for row in rows}


def _known_releases() -> dict[int, int]:
    """Releases that the installed package can date; a file's own date serves for the others."""
    try:
        return packaged_index()[1]
    except (UsageError, OSError, pa.ArrowException):
        return {}


def _epoch(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


def main(arguments: list[str]) -> int:
    """``build [--layout L] [--collection C]… [--where SQL] [--manifest NAME] TARGET [SOURCE]``: without SOURCE, the
    packaged index; ``-`` is a list on stdin, see ``read_records``. A manifest is what stdin has, whatever it is called.

    Exit codes: 2 the source cannot be used, EX_CANTCREAT the target cannot be written.
    """
    parser = ArgumentParser(prog="build")
    parser.add_argument("--layout", type=parse_layout, default=DEFAULT)
    parser.add_argument("--collection", action="append", default=[])
    parser.add_argument("--where", default="")
    parser.add_argument("--manifest")
    parser.add_argument("target", type=Path)
    parser.add_argument("source", nargs="?", default="")
    given = parser.parse_args(arguments)
    manifest = None if given.manifest is None else Manifest(given.manifest, "", sys.stdin.buffer)
    cohort = Cohort(tuple(given.collection), given.where, manifest)
    try:
        _build(given.target, given.source, given.layout, cohort)
    except MemoryError:
        print(f"{given.source or 'the index'}: it needs more than {_MOST_BYTES // GIB} GiB of memory", file=sys.stderr)
        return 2
    except (UsageError, OSError) as error:
        print(*str(error).splitlines(), file=sys.stderr)  # on one line, whatever names hold
        return 2 if isinstance(error, UsageError) else os.EX_CANTCREAT
    return 0


def _build(target: Path, source: str, layout: Layout, cohort: Cohort) -> None:
    if source == "-":
        build_from_records(sys.stdin.buffer, target, layout)
        return
    if source:
        parquet, releases = Path(source), _known_releases() | {0: int(Path(source).stat().st_mtime)}
    else:
        parquet, releases = packaged_index()
    build_from_parquet(parquet, target, releases, layout, cohort)


if __name__ == "__main__":
    without_pandas()
    bound_memory(_MOST_BYTES)
    sys.exit(main(sys.argv[1:]))

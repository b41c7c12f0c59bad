"""The process that writes down what a catalog shows, for programs that know parquet or JSON and not catalogs.

It is one of its own (``python -m idcfs.namespace.export``), like the one that builds catalogs, and for the same reason.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UsageError
from .builders import building_in
from .columns import read_some
from .packaged import packaged_parquet
from .process import without_pandas
from .schema import UNKNOWN

_ROWS_AT_ONCE = 65_536
_GROUP_ROWS = 131_072
"""Rows of a row group: a tenth of the packaged index, 40 MB unpacked."""
_COUNTS = {"patients": "PatientID", "studies": "StudyInstanceUID"}
_SUMS = {"instances": "instanceCount", "bytes": "bytes"}
_LISTS = {"modalities": "Modality", "licenses": "license_short_name", "source_DOIs": "source_DOI"}


def write_series(source: Path, rows: Any, target: Path) -> None:
    """Write the rows of the parquet file ``source`` with those numbers to ``target``, with all columns, in their order.

    :param rows: numbers in a numpy array, sorted.
    """
    with pq.ParquetFile(source) as file, pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        kept: list[pa.RecordBatch] = []
        first = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            begin, end = np.searchsorted(rows, [first, first + batch.num_rows])
            kept.append(batch.take(pa.array(rows[begin:end] - first)))
            first += batch.num_rows
            if sum(some.num_rows for some in kept) >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(kept, file.schema_arrow))
                kept.clear()
        writer.write_table(pa.Table.from_batches(kept, file.schema_arrow))


def write_collections(source: Path, rows: Any, target: Path) -> None:
    """Write a list of the collections in those rows of ``source`` to ``target``, in the order of their names.

    Each has ``collection_id``; the numbers of its ``patients``, ``studies`` and ``series``, and of ``instances`` and
    ``bytes`` as far as the index knows; lists of its ``modalities``, ``licenses`` and ``source_DOIs``.
    """
    index = read_some(source, ["collection_id", *_COUNTS.values(), *_LISTS.values()])
    if len(rows) < index.num_rows:
        index = index.take(pa.array(rows))
    for name in _SUMS.values():
        column = index.column(name)
        known = pc.if_else(pc.equal(column, UNKNOWN), None, column)
        index = index.set_column(index.schema.get_field_index(name), name, known)
    wanted: list[tuple[str | list[str], str]] = [([], "count_all")]
    wanted += [(name, "count_distinct") for name in _COUNTS.values()]
    wanted += [(name, "sum") for name in _SUMS.values()] + [(name, "distinct") for name in _LISTS.values()]
    found = index.group_by("collection_id").aggregate(wanted).sort_by("collection_id").to_pylist()
    target.write_text(json.dumps([_collection(row) for row in found], indent=1, ensure_ascii=False) + "\n")


def _collection(row: dict[str, Any]) -> dict[str, Any]:
    counts = {ours: row[f"{theirs}_count_distinct"] for ours, theirs in _COUNTS.items()}
    sums = {ours: row[f"{theirs}_sum"] or 0 for ours, theirs in _SUMS.items()}
    lists = {ours: sorted(filter(None, row[f"{theirs}_distinct"])) for ours, theirs in _LISTS.items()}
    return {"collection_id": row["collection_id"], **counts, "series": row["count_all"], **sums, **lists}


_WRITERS: dict[str, Callable[[Path, Any, Path], None]] = {".parquet": write_series, ".json": write_collections}


def main(arguments: list[str]) -> int:
    """``export CATALOG TARGET [SOURCE]``: the series of SOURCE (the packaged index, if there is none) that are in
    CATALOG into TARGET, or their collections, if that ends in ``.json``. It appears whole or not at all.

    Exit codes: 2 the source or the catalog cannot be used, EX_CANTCREAT the target cannot be written.
    """
    parser = ArgumentParser(prog="export")
    parser.add_argument("catalog", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("source", nargs="?", type=Path)
    given = parser.parse_args(arguments)
    try:
        _export(given.source or packaged_parquet(), given.catalog, given.target)
    except (UsageError, pa.ArrowException, OSError) as error:
        print(str(error).partition("\n")[0], file=sys.stderr)
        return os.EX_CANTCREAT if isinstance(error, OSError) else 2
    return 0


def _export(source: Path, catalog: Path, target: Path) -> None:
    with pa.memory_map(str(catalog)) as file:
        rows = np.sort(pa.ipc.open_file(file).read_all().column("index_row").to_numpy())
    temporary = target.with_name(f"{target.name}.tmp")
    with building_in(target.parent):
        if target.exists():  # somebody else was faster
            return
        try:
            _WRITERS[target.suffix](source, rows, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    without_pandas()
    sys.exit(main(sys.argv[1:]))

"""Narrowing an index to a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..cohort import Cohort, Manifest
from ..errors import UsageError
from ..nearest import did_you_mean
from ..printable import quoted
from .condition import rows_that_fit
from .manifest import read_manifest

_SHOWN = 3
"""How many of the series that are missing are named."""


def narrowed(index: pa.Table, source: Path, cohort: Cohort) -> pa.Table:
    """The rows of ``index`` that fit all of ``cohort``.

    :param source: the parquet file that ``index`` is all rows of, as ``columns.py`` reads it.
    :raises UsageError: if a collection or a listed series is not in the index, the condition is none, or nothing fits.
    """
    if not cohort:
        return index
    fits = np.ones(index.num_rows, dtype=bool)
    if cohort.collections:
        fits &= _in_collections(index.column("collection_id"), cohort.collections)
    if cohort.manifest:
        fits &= _in_manifest(index, cohort.manifest)
    if cohort.where:
        fits &= _where(source, cohort.where, index.num_rows)
    if not fits.any():
        raise UsageError(f"the cohort is empty: the index has no such series ({cohort})")
    return index.filter(pa.array(fits))


def _in_collections(column: Any, wanted: tuple[str, ...]) -> Any:
    known = pc.unique(column).to_pylist()
    for name in wanted:
        if name not in known:
            hint = f"; {meant}" if (meant := did_you_mean(name, known)) else ""
            raise UsageError(f"--collection {name}: the index has no such collection{hint}")
    return _among(column, list(wanted))


def _in_manifest(index: pa.Table, manifest: Manifest) -> Any:
    name, values = read_manifest(manifest.file, manifest.name)
    column = index.column(name)
    missing = np.flatnonzero(~_among(pa.chunked_array([pa.array(values, column.type)]), pc.unique(column)))
    if len(missing):
        first = ", ".join(quoted(values[number]) for number in missing[:_SHOWN])
        more = ", …" if len(missing) > _SHOWN else ""
        count = f"{len(missing):,} of {len(values):,} series"
        raise UsageError(f"--manifest {manifest.name}: not in the index: {count} ({first}{more})")
    return _among(column, values)


def _where(source: Path, condition: str, rows: int) -> Any:
    fits = np.zeros(rows, dtype=bool)
    fits[rows_that_fit(source, condition)] = True
    return fits


def _among(column: Any, values: Any) -> Any:
    """For each value in ``column``, whether it is one of ``values``."""
    wanted = values if isinstance(values, pa.Array) else pa.array(values, column.type)
    return pc.is_in(column, value_set=wanted).combine_chunks().to_numpy(zero_copy_only=False)

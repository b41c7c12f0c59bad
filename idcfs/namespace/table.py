"""From what an index says to a catalog's table: names escaped, rows sorted, and marked where runs end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .catalog import SCHEMA, UNKNOWN, metadata
from .columns import PATH_COLUMNS
from .names import PLAIN, escape, is_shortened


def catalog_table(index: pa.Table, releases: dict[int, int]) -> pa.Table:
    """The table of ``SCHEMA`` over ``index`` (from ``read_index``)."""
    values: dict[str, str] = {}
    names = {
        "collection": _ranked(_escaped(index.column("collection_id"), partial(escape, hidden=False), values)),
        "patient": _ranked(_escaped(index.column("PatientID"), escape, values)),
        "study": _ranked(_escaped(index.column("StudyInstanceUID"), escape, values)),
        "series": _escaped(index.column("SeriesInstanceUID"), escape, values),
    }
    names, index, new = _sorted(names, index.drop_columns(list(PATH_COLUMNS)))
    columns: dict[str, Any] = dict(names)
    revised = index.column("series_revised_idc_version").to_numpy()
    for level in ("collection", "patient", "study"):
        columns[f"{level}_end"], columns[f"{level}_revised"] = _runs(new[level], revised)
    columns["series_revised"] = pa.array(revised)
    columns["instances"] = pc.cast(index.column("instanceCount"), pa.int32())
    columns["bytes"] = index.column("bytes")
    columns["content"] = pc.cast(index.column("crdc_series_uuid"), pa.binary())
    columns["transfer_syntaxes"] = pc.cast(index.column("TransferSyntaxUID"), pa.binary())
    columns["bucket"] = pc.cast(index.column("aws_bucket"), pa.binary())
    arrays = [_as(columns[field.name], field.type) for field in SCHEMA]
    totals = _total(columns["bytes"]), _total(columns["instances"])
    return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata(*totals, releases, values)))


def _escaped(column: Any, name_of: Callable[[str], bytes], values: dict[str, str]) -> pa.Array:
    """``column`` as path components; the values of shortened names go into ``values``."""
    array = column.combine_chunks()
    plain = pc.match_substring_regex(array, PLAIN)
    if pc.all(plain).as_py() is not False:
        return pc.cast(array, pa.binary())
    names = pc.cast(array, pa.binary()).to_pylist()
    for row in pc.indices_nonzero(pc.invert(plain)).to_pylist():
        value = names[row].decode("utf-8", "surrogatepass")
        names[row] = name = name_of(value)
        if is_shortened(name):
            values[name.decode("latin-1")] = value
    return pa.array(names, pa.binary())


def _ranked(names: pa.Array) -> pa.DictionaryArray:
    """``names`` with a sorted dictionary: its codes sort, and compare, like the names, only faster."""
    encoded = names.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(rank[encoded.indices.to_numpy()]), encoded.dictionary.take(order))


def _sorted(names: dict[str, pa.Array], index: pa.Table) -> tuple[dict[str, pa.Array], pa.Table, dict[str, Any]]:
    """Both in the order of the paths, without repeated paths, and which rows start a new run on each level."""
    keys = {name: column.indices if name != "series" else column for name, column in names.items()}
    order = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])
    names, index = {name: column.take(order) for name, column in names.items()}, index.take(order)
    new = _first_of_runs(names)
    if new["series"].all():
        return names, index, new
    keep = pa.array(new["series"])  # the same series twice in one directory: a name stands once
    names = {name: column.filter(keep) for name, column in names.items()}
    return names, index.filter(keep), _first_of_runs(names)


def _first_of_runs(names: dict[str, pa.Array]) -> dict[str, Any]:
    """For each level, which rows start a new run: where its name or one above it differs from the row before."""
    new: dict[str, Any] = {}
    above = np.zeros(len(names["series"]), dtype=bool)
    above[:1] = True
    for name, column in names.items():
        keys = column.indices if name != "series" else column
        above = above.copy()
        above[1:] |= pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        new[name] = above
    return new


def _runs(starts: Any, revised: Any) -> tuple[pa.Array, pa.Array]:
    """For each row, where its run ends and the newest release in it."""
    first = np.flatnonzero(starts)
    ends = np.append(first[1:], len(starts)).astype(np.int32)
    lengths = np.diff(np.append(first, len(starts)))
    newest = np.maximum.reduceat(revised, first) if len(first) else revised
    return pa.array(np.repeat(ends[: len(first)], lengths)), pa.array(np.repeat(newest, lengths))


def _as(column: Any, kind: pa.DataType) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_encode() if pa.types.is_dictionary(kind) else array  # itself, if it is one already


def _total(column: Any) -> int:
    return int(pc.sum(pc.if_else(pc.equal(column, UNKNOWN), 0, column)).as_py() or 0)

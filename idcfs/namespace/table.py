"""From what an index says to a catalog's table: names made and escaped, rows sorted, and marked where runs end."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..layout import DEFAULT, FREE_TEXT, PATH_COLUMNS, Layout, Piece
from .names import PLAIN, escape, is_shortened
from .schema import ORDERS, UNKNOWN, end_at, metadata, name_at, revised_at, schema

_WORD_CHARACTERS = 64
"""What is shown of a free text: as much as DICOM allows a description (LO, PS3.5 section 6.2)."""
_NO_WORD = re.compile(r"[^\w.+-]+")


_TEXTS = {
    "content": "crdc_series_uuid",
    "transfer_syntaxes": "TransferSyntaxUID",
    "bucket": "aws_bucket",
    "modality": "Modality",
    "license": "license_short_name",
    "source_doi": "source_DOI",
}
"""Columns of a catalog and what idc-index calls them."""
_NUMBERS = ("bytes", "instanceCount", "series_revised_idc_version", "index_row")


def catalog_table(index: pa.Table, releases: dict[int, int], layout: Layout = DEFAULT) -> pa.Table:
    """The table of ``schema.schema`` over ``index``, as ``columns.py`` gives that.

    :param releases: time of each IDC release, in seconds since the epoch.
    """
    values: dict[str, str] = {}
    names = _names(index, layout, values)
    directories = {column: layout.directory_of(column) for column in PATH_COLUMNS}
    own = [column for column, directory in directories.items() if directory is None]
    kept = (*own, *_NUMBERS, *_TEXTS.values())
    names, index, new = _sorted(names, index.select(kept))
    columns: dict[str, Any] = {"series": names[-1], "bytes": index.column("bytes")}
    columns["instances"] = pc.cast(index.column("instanceCount"), pa.int32())
    revised = index.column("series_revised_idc_version").to_numpy()
    columns["series_revised"] = pa.array(revised)
    columns["index_row"] = index.column("index_row")
    for level in range(1, len(names)):
        columns[name_at(level)] = names[level - 1]
        columns[end_at(level)], columns[revised_at(level)] = _runs(new[level - 1], revised)
    for ours, theirs in _TEXTS.items():
        columns[ours] = pc.cast(index.column(theirs), pa.binary())
    for column in own:
        columns[column] = pc.cast(index.column(column), pa.binary())
    for order, column in ORDERS.items():
        directory = directories[column]
        columns[order] = _order(columns[column] if directory is None else _key(names[directory]))
    arrays = [_as(columns[field.name], field.type) for field in schema(layout)]
    totals = _total(columns["bytes"]), _total(columns["instances"])
    return pa.Table.from_arrays(
        arrays, schema=schema(layout).with_metadata(metadata(*totals, releases, values, layout))
    )


def _names(index: pa.Table, layout: Layout, values: dict[str, str]) -> list[pa.Array]:
    """The directories that lead to each row, as path components; the values of shortened ones go into ``values``."""
    directories = [_values(index, directory) for directory in layout.directories]
    if not layout.is_distinct:
        directories = _distinct(directories, index.column("SeriesInstanceUID"))
    names = [
        _escaped(directory, partial(escape, hidden=number > 0), values) for number, directory in enumerate(directories)
    ]
    return [*(_ranked(column) for column in names[:-1]), names[-1]]


def _values(index: pa.Table, directory: tuple[Piece, ...]) -> Any:
    """What a directory is called, not yet escaped. What stands between two values is left out if the first is empty."""
    pieces: list[Any] = []
    for piece in directory:
        if piece.is_column:
            column = index.column(piece.text)
            pieces.append(_words(column) if piece.text in FREE_TEXT else column)
        elif pieces:
            pieces.append(pc.if_else(pc.equal(pieces[-1], _text("")), _text(""), _text(piece.text)))
        else:
            pieces.append(_text(piece.text))
    return pc.binary_join_element_wise(*pieces, _text("")) if len(pieces) > 1 else pieces[0]


def _words(column: Any) -> Any:
    """Free text as people write it in names: words and numbers, with ``_`` between them."""
    encoded = column.combine_chunks().dictionary_encode()
    texts = (value.decode("utf-8", "replace") for value in pc.cast(encoded.dictionary, pa.large_binary()).to_pylist())
    words = pa.array([_NO_WORD.sub("_", text)[:_WORD_CHARACTERS].strip("_") for text in texts], pa.large_string())
    return pa.chunked_array([words.take(encoded.indices)])


def _distinct(directories: list[Any], uids: Any) -> list[Any]:
    """``directories`` in which no two series share a path: to the last of those that would, their UID is added."""
    while (clashing := _clashing(directories, uids)).any():
        *above, last = directories
        longer = pc.binary_join_element_wise(last, uids, _text("_"))
        directories = [*above, pc.if_else(pa.array(clashing), longer, last)]
    return directories


def _clashing(directories: list[Any], uids: Any) -> Any:
    """For each row, whether a series with another UID has the same path."""
    path = np.zeros(len(uids), dtype=np.int64)
    for column in directories:
        path = _pairs(path, column)
    of_path = np.unique(path, return_index=False)
    series = np.unique(_pairs(path, uids), return_index=True)[1]  # a row of each series at each path
    return np.bincount(path[series], minlength=len(of_path))[path] > 1


def _pairs(numbers: Any, column: Any) -> Any:
    """For each row a number from 0 on, the same for those of the same number and the same value in ``column``."""
    encoded = column.combine_chunks().dictionary_encode()
    pairs = numbers * len(encoded.dictionary) + encoded.indices.to_numpy()  # at most rows times rows
    return np.unique(pairs, return_inverse=True)[1]


def _text(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _order(column: Any) -> Any:
    """The rows in the order of their values in ``column``; where those are the same, in their own."""
    return pc.cast(pc.array_sort_indices(_one(column)), pa.int32())


def _one(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _escaped(column: Any, name_of: Callable[[str], bytes], values: dict[str, str]) -> pa.Array:
    """``column`` as path components; the values of shortened names go into ``values``."""
    array = _one(column)
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


def _sorted(names: list[pa.Array], index: pa.Table) -> tuple[list[pa.Array], pa.Table, list[Any]]:
    """Both in the order of the paths, without repeated paths, and which rows start a new run on each level."""
    keys = {str(number): _key(column) for number, column in enumerate(names)}
    order = pc.sort_indices(pa.table(keys), sort_keys=[(number, "ascending") for number in keys])
    names, index = [column.take(order) for column in names], index.take(order)
    new = _first_of_runs(names)
    if new[-1].all():
        return names, index, new
    keep = pa.array(new[-1])  # the same series twice in one directory: a name stands once
    names = [column.filter(keep) for column in names]
    return names, index.filter(keep), _first_of_runs(names)


def _key(column: pa.Array) -> pa.Array:
    return column.indices if isinstance(column, pa.DictionaryArray) else column


def _first_of_runs(names: list[pa.Array]) -> list[Any]:
    """For each level, which rows start a new run: where its name or one above it differs from the row before."""
    new: list[Any] = []
    above = np.zeros(len(names[-1]), dtype=bool)
    above[:1] = True
    for column in map(_key, names):
        above = above.copy()
        above[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
        new.append(above)
    return new


def _runs(starts: Any, revised: Any) -> tuple[pa.Array, pa.Array]:
    """For each row, where its run ends and the newest release in it."""
    first = np.flatnonzero(starts)
    ends = np.append(first[1:], len(starts)).astype(np.int32)
    lengths = np.diff(np.append(first, len(starts)))
    newest = np.maximum.reduceat(revised, first) if len(first) else revised
    return pa.array(np.repeat(ends[: len(first)], lengths)), pa.array(np.repeat(newest, lengths))


def _as(column: Any, kind: pa.DataType) -> pa.Array:
    array = _one(column)
    return array.dictionary_encode() if pa.types.is_dictionary(kind) else array  # itself, if it is one already


def _total(column: Any) -> int:
    return int(pc.sum(pc.if_else(pc.equal(column, UNKNOWN), 0, column)).as_py() or 0)

"""How a catalog is made: from a table with idc-index's columns, by escaping, sorting and marking where runs end.

A million rows take 0.5 to 0.7 GB for some seconds, and numpy and pyarrow.compute 60 MB for as long as a process lives.
So it has one of its own (``python -m idcfs.namespace.build``), started by ``index.py``: the mount's memory never sees
it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.abc import MetaPathFinder
from itertools import islice, starmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UsageError
from .catalog import SCHEMA, UNKNOWN, Catalog, SearchedSeries, is_whole, locked, metadata
from .names import PLAIN, escape, is_shortened

PATH_COLUMNS = ("collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
_REQUIRED = (*PATH_COLUMNS, "instanceCount", "series_size_MB")
_OPTIONAL = ("crdc_series_uuid", "aws_bucket", "TransferSyntaxUID", "series_revised_idc_version")

_BYTES_PER_MB = 1_000_000
"""``series_size_MB`` has six decimals, so this times it, rounded, is the exact byte sum (v25: all rows)."""
_MOST_INSTANCES = 2**31 - 1  # SCHEMA gives them 32 bits
_MOST_BYTES = 10**15  # 1 PB in one series: ten times the whole of IDC v25
_RECORDS_AT_ONCE = 10_000
"""How many records are objects at the same time: all of a million are 0.3 GB more."""

log = logging.getLogger(__name__)


def build_from_parquet(source: Path, target: Path, releases: dict[int, int]) -> None:
    """Write the catalog of the parquet file ``source`` to ``target``, which appears whole or not at all.

    Several mounts may start at once: whoever holds the lock builds, the others find it done.

    :param releases: time of each IDC release, in seconds since the epoch.
    :raises UsageError: if ``source`` is not a parquet file with idc-index's columns.
    """
    with locked(target.parent):
        if not is_whole(target):
            _write(catalog_table(read_index(source), releases), target)


def build_from_records(lines: Iterable[bytes], target: Path) -> None:
    """Write the catalog of the list in ``lines`` to ``target``: whole or not at all, in place of what is there.

    :raises UsageError: if the list is not whole.
    """
    table = table_of_records(*read_records(lines))
    with locked(target.parent):  # not sooner: whoever sends the lines may be stopped for as long as it likes
        _write(table, target)


class _Record(NamedTuple):
    """A series as ``index.py`` sends it."""

    patient_id: str
    study_uid: str
    series_uid: str
    instance_count: int | None


def read_records(lines: Iterable[bytes]) -> tuple[str, Iterator[_Record]]:
    """The collection's name and its series, from lines of JSON: ``[name, how many]``, then lists of ``_Record``.

    :raises UsageError: at the end, if it comes early: who sent them was killed, and a part must not pass for the whole.
    """
    # As index.py writes them: in UTF-8 but for lone surrogates, which no escape keeps apart from a pair.
    values = (json.loads(line.decode("utf-8", "surrogatepass")) for line in lines)
    try:
        collection, count = next(values, ("", None))
    except (ValueError, TypeError) as error:
        raise UsageError(f"the list of series is damaged: {error}") from error
    return collection, _counted(values, count)


def _counted(values: Iterator[Any], count: int | None) -> Iterator[_Record]:
    found = 0
    try:
        for records in values:
            yield from starmap(_Record, records)
            found += len(records)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the list of series is damaged after {found}: {error}") from error
    if found != count:
        raise UsageError(f"the list of series ended early, after {found}")


def _write(table: pa.Table, target: Path) -> None:
    temporary = target.with_name(f"{target.name}.tmp")  # a killed builder's is overwritten: the lock is ours
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def catalog_of_records(collection: str, records: Iterable[SearchedSeries]) -> Catalog:
    """A catalog in memory over what a DICOMweb server lists, under one collection."""
    return Catalog(table_of_records(collection, records))


def table_of_records(collection: str, records: Iterable[SearchedSeries]) -> pa.Table:
    """The table of ``SCHEMA`` over what a DICOMweb server lists, under one collection."""
    left = iter(records)
    parts = [_index_of(collection, [])]  # so that there is one
    while some := list(islice(left, _RECORDS_AT_ONCE)):
        parts.append(_index_of(collection, some))
    return catalog_table(_complete(pa.concat_tables(parts)), {})


def _index_of(collection: str, records: list[SearchedSeries]) -> pa.Table:
    counts = [record.instance_count for record in records]
    return pa.table(
        {
            "collection_id": _texts([collection] * len(records)),
            "PatientID": _texts([record.patient_id for record in records]),
            "StudyInstanceUID": _texts([record.study_uid for record in records]),
            "SeriesInstanceUID": _texts([record.series_uid for record in records]),
            "instanceCount": pa.array(
                [count if count is not None and 0 <= count <= _MOST_INSTANCES else None for count in counts], pa.int64()
            ),
        }
    )


def _texts(values: list[str]) -> pa.Array:
    """``values`` as they are, though a server's JSON may hold lone surrogates, which Arrow would refuse."""
    encoded = [value.encode("utf-8", "surrogatepass") for value in values]
    return pa.array(encoded, pa.large_binary()).view(pa.large_string())


def read_index(source: Path) -> pa.Table:
    """The columns of ``source`` that a catalog needs, in known types.

    :raises UsageError: if it cannot be read, lacks a column or holds what cannot be true.
    """
    try:
        file = pq.ParquetFile(source)
        missing = [name for name in _REQUIRED if name not in file.schema_arrow.names]
        if missing:
            raise UsageError(f"{source} has no column {missing[0]}: an index needs {', '.join(_REQUIRED)}")
        present = [name for name in (*_REQUIRED, *_OPTIONAL) if name in file.schema_arrow.names]
        table = _complete(file.read(columns=present))
        table.validate(full=True)  # parquet does not: text may be no UTF-8
        if not table.num_rows:
            raise UsageError(f"{source} lists no series")
        return _without_shared_contents(table, source)
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:  # a column twice is a KeyError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{source} cannot be read as a parquet index: {reason}") from error


def _complete(table: pa.Table) -> pa.Table:
    """Every column there, in one type each, absent values as empty or UNKNOWN."""
    columns: dict[str, Any] = {}
    for name in (*PATH_COLUMNS, "crdc_series_uuid", "aws_bucket", "TransferSyntaxUID"):
        columns[name] = _column(table, name, pa.large_string(), "")
    counts = _within(_column(table, "instanceCount", pa.int64(), None), _MOST_INSTANCES, "instanceCount")
    columns["instanceCount"] = pc.fill_null(counts, UNKNOWN)
    columns["series_revised_idc_version"] = _column(table, "series_revised_idc_version", pa.int32(), 0)
    megabytes = _column(table, "series_size_MB", pa.float64(), None)
    size = _within(pc.round(pc.multiply(megabytes, float(_BYTES_PER_MB))), _MOST_BYTES, "series_size_MB")
    size = pc.fill_null(pc.cast(size, pa.int64()), UNKNOWN)
    columns["bytes"] = pc.if_else(pc.equal(size, 0), UNKNOWN, size)  # no instance is empty: rounded away, or not known
    return pa.table(columns)


def _without_shared_contents(table: pa.Table, source: Path) -> pa.Table:
    """``table``, without a content UUID where it stands for several series: the one's instances would be shown in all.

    In idc-index each stands once (v25: all of 1,044,191). The same series in several places may share its own.
    """
    column = table.schema.get_field_index("crdc_series_uuid")
    contents = table.column(column)
    named = contents.filter(pc.not_equal(contents, ""))
    if pc.count_distinct(named).as_py() == len(named):
        return table
    series = table.group_by("crdc_series_uuid").aggregate([("SeriesInstanceUID", "count_distinct")])
    several = series.filter(pc.greater(series.column("SeriesInstanceUID_count_distinct"), 1))
    is_shared = pc.and_(
        pc.is_in(contents, several.column("crdc_series_uuid").combine_chunks()), pc.not_equal(contents, "")
    )
    count = pc.sum(is_shared).as_py()
    if count:
        log.warning(
            "%s: %d series share their crdc_series_uuid with another one: taken for series without", source, count
        )
    return table.set_column(column, "crdc_series_uuid", pc.if_else(is_shared, "", contents).cast(contents.type))


def _within(column: Any, most: int, name: str) -> Any:
    """``column``, if every number in it is one between 0 and ``most``; NaN is not."""
    if pc.all(pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, most))).as_py() is False:
        raise ValueError(f"{name} holds a number that is not between 0 and {most:g}")
    return column


def _column(table: pa.Table, name: str, kind: pa.DataType, default: object) -> Any:
    if name not in table.schema.names:
        return pa.chunked_array([pa.array([default] * table.num_rows, kind)])
    column = pc.cast(table.column(name), kind)
    return column if default is None else pc.fill_null(column, pa.scalar(default, kind))


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


def packaged_index() -> tuple[Path, dict[int, int]]:
    """The parquet of the installed idc-index-data and the time of each IDC release.

    :raises UsageError: if the package has none.
    """
    import idc_index_data  # here, not above: it reads every schema at import, and only the packaged index needs it

    path = idc_index_data.IDC_INDEX_PARQUET_FILEPATH
    if path is None:
        raise UsageError("the installed idc-index-data holds no index: reinstall it")
    source = Path(path)
    rows = pq.read_table(source.with_name("version_metadata_index.parquet")).to_pylist()
    return source, {row["idc_version"]: _epoch(row["version_timestamp"]) for row in rows}


def _known_releases() -> dict[int, int]:
    """Releases that the installed package can date; a file's own date serves for the others."""
    try:
        return packaged_index()[1]
    except (UsageError, ImportError, OSError, pa.ArrowException):
        return {}


def _epoch(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


def main(arguments: list[str]) -> int:
    """``build TARGET [SOURCE]``: without SOURCE, the packaged index; ``-`` is a list on stdin, see ``read_records``.

    Exit codes: 2 the source cannot be used, EX_CANTCREAT the target cannot be written.
    """
    try:
        _build(*arguments)
    except (UsageError, OSError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else os.EX_CANTCREAT
    return 0


def _build(target: str, source: str = "") -> None:
    if source == "-":
        build_from_records(sys.stdin.buffer, Path(target))
        return
    if source:
        parquet, releases = Path(source), _known_releases() | {0: int(Path(source).stat().st_mtime)}
    else:
        parquet, releases = packaged_index()
    build_from_parquet(parquet, Path(target), releases)


class _WithoutPandas(MetaPathFinder):
    """pyarrow loads pandas, where it is installed, to see whether a list is one of its series: half a builder's time.

    None in ``sys.modules`` does not help: this time pyarrow takes it for the module.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Not ours, or not to be found at all."""
        if fullname == "pandas":
            raise ModuleNotFoundError("a catalog is built without pandas", name=fullname)


if __name__ == "__main__":
    sys.meta_path.insert(0, _WithoutPandas())
    sys.exit(main(sys.argv[1:]))

"""The form of a catalog's table: what ``table.py`` writes and ``catalog.py`` reads."""

from __future__ import annotations

import json

import pyarrow as pa

from ..layout import PATH_COLUMNS, Layout, parse_layout
from .names import escape, is_shortened

FORMAT = 6
"""Raised whenever ``schema`` or its meaning changes, so that an older file is built anew."""

UNKNOWN = -1
"""A number that the index does not give."""

_NAME = pa.dictionary(pa.int32(), pa.binary())
_SERIES_FIELDS = (
    ("series", pa.binary()),  # path component, escaped
    ("series_revised", pa.int32()),
    ("instances", pa.int32()),  # instances in the series, or UNKNOWN
    ("bytes", pa.int64()),  # exact sum of their sizes, or UNKNOWN
    ("content", pa.binary()),  # crdc_series_uuid: names the content version; empty if the index has none
    ("transfer_syntaxes", _NAME),  # UIDs, comma-separated; empty if the index has none
    ("bucket", _NAME),  # aws_bucket: where the files stand; empty if the index has none
    ("modality", _NAME),  # these three empty too if the index has none
    ("license", _NAME),
    ("source_doi", _NAME),
    ("by_study", pa.int32()),  # rows in the order of their StudyInstanceUIDs, as they are kept: escaped, or not
    ("by_series", pa.int32()),  # and SeriesInstanceUIDs
    ("index_row", pa.int32()),  # number of the row of the index that it comes from
)
ORDERS = {"by_study": "StudyInstanceUID", "by_series": "SeriesInstanceUID"}
_PATH_TYPES = dict(zip(PATH_COLUMNS, (_NAME, _NAME, _NAME, pa.binary()), strict=True))


def name_at(level: int) -> str:
    """The column of path components, escaped, of the directories at ``level``, above the series."""
    return f"name_{level}"


def end_at(level: int) -> str:
    """The column that says for each row where the run of its directory at ``level`` ends: the row after the last."""
    return f"end_{level}"


def revised_at(level: int) -> str:
    """The column of the IDC release in which anything in a row's directory at ``level`` was last revised."""
    return f"revised_{level}"


def schema(layout: Layout) -> pa.Schema:
    """What a table of ``layout`` holds; what identifies a series in a column of its own, unless a directory's name is
    it."""
    levels = range(1, len(layout.directories))
    fields = [
        *((name_at(level), _NAME) for level in levels),
        *((end_at(level), pa.int32()) for level in levels),
        *((revised_at(level), pa.int32()) for level in levels),
        *_SERIES_FIELDS,
        *((column, _PATH_TYPES[column]) for column in PATH_COLUMNS if layout.directory_of(column) is None),
    ]
    return pa.schema(fields)


def layout_of(table: pa.Table) -> Layout:
    """The layout that ``table`` was made for.

    :raises UsageError: if it is none.
    """
    return parse_layout((table.schema.metadata or {})[b"layout"].decode())


def unsearched_table(collection: str, layout: Layout) -> pa.Table:
    """The table of one collection of which nothing else is known; empty, if that says not even what is in the root.

    It is what ``build.py`` makes of one series without a name or an instance, at a fraction of the cost: every mount
    that searches its archive starts with it, and here neither numpy nor pyarrow.compute is loaded.
    """
    name = escape(collection, hidden=False)
    kind = schema(layout)
    known = layout.directory_of("collection_id") == 0 and len(layout.directories) > 1
    row: dict[str, bytes | int] = {field.name: 0 if pa.types.is_integer(field.type) else b"" for field in kind}
    row |= {name_at(level): escape("") for level in range(1, len(layout.directories))}
    row |= {end_at(level): 1 for level in range(1, len(layout.directories))}
    row |= {name_at(1): name, "series": escape(""), "bytes": UNKNOWN}
    values = {name.decode("latin-1"): collection} if is_shortened(name) else {}
    meta = metadata(0, 0, {}, values, layout)
    return pa.Table.from_pylist([row] if known else [], schema=kind.with_metadata(meta))


def metadata(
    total_bytes: int, total_instances: int, releases: dict[int, int], values: dict[str, str], layout: Layout
) -> dict[str, str]:
    """What a table of ``schema`` says beside its rows.

    :param releases: time of each IDC release, in seconds since the epoch.
    :param values: the value behind each shortened name, whose bytes stand as Latin-1.
    """
    return {
        "format": str(FORMAT),
        "layout": layout.text,
        "total_bytes": str(total_bytes),
        "total_instances": str(total_instances),
        "releases": json.dumps(releases),
        "values": json.dumps(values),
    }

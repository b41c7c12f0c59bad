"""What can have happened to a catalog file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from idcfs.layout import DEFAULT
from idcfs.namespace.schema import schema


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def another_format(path: Path) -> None:
    rewrite(path, {b"format": b"0"})


def no_format(path: Path) -> None:
    rewrite(path, None)


def other_columns(path: Path) -> None:
    rewrite(path, columns=schema(DEFAULT).names[:-1])


def other_types(path: Path) -> None:
    rewrite(path, types={"bytes": pa.int32(), "series": pa.large_binary()})


def rewrite(
    path: Path,
    metadata: dict[bytes, bytes] | None = None,
    columns: list[str] | None = None,
    types: dict[str, Any] | None = None,
) -> None:
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(pa.py_buffer(file.read())).read_all()
    before = table.schema.metadata
    table = table.select(columns or table.schema.names)
    for name, kind in (types or {}).items():
        table = table.set_column(table.schema.names.index(name), name, table.column(name).cast(kind))
    if columns is None and types is None:
        before = None if metadata is None else before | metadata
    table = table.replace_schema_metadata(before)
    path.unlink()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


DAMAGES = [cut, halve, empty, garbage, zeros, longer, another_format, no_format, other_columns, other_types]

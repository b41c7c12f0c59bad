"""Conditions in SQL over an index, evaluated by DuckDB, which may read the index and nothing else.

Two walls stand around it. DuckDB is told to leave files, networks, extensions and this process's objects alone, and
that this is final; and the condition is parsed first: it has to be one, with nothing after it, with no table in its
subqueries but the index, and no function that tells of anything else. ``condition.py`` gives it a process of its own
(``python -m idcfs.namespace.where``), of an empty environment, whose time and memory the kernel bounds.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.dataset as ds

from ..errors import UsageError
from ..nearest import did_you_mean
from .process import bound_memory, end_with, without_pandas

TABLE = "index"
"""What the index is called in SQL, as in idc-index's own queries."""
_MOST_BYTES = 2 * 1024**3
"""Memory of the process that evaluates a condition, of which DuckDB and Arrow take 0.2 GiB to begin with."""
_CONFIGURATION = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",  # nothing is spilled
    "memory_limit": "1GiB",
    "threads": str(min(4, os.cpu_count() or 1)),
}
_TABLE_FUNCTIONS = frozenset({"generate_series", "range", "unnest"})
"""Those that make rows of what they are given."""
_TELLTALES = frozenset(
    {
        "current_query",
        "current_setting",
        "currval",
        "format_type",
        "get_block_size",
        "getenv",
        "getvariable",
        "json_serialize_plan",
        "nextval",
        "pg_get_constraintdef",
        "pg_get_viewdef",
        "write_log",
    }
)
"""Functions that tell of DuckDB, its settings or its catalog, or write somewhere."""
_NO_COLUMN = re.compile(r'^Binder Error: Referenced column "([^"\']+)" not found')
_QUOTED = re.compile(r'"([^"]+)"')
_NOT_ONE = "--where: give one condition, like Modality = 'CT', and nothing after it"
_OTHER_TABLES = frozenset({"SHOW_REF", "COLUMN_DATA", "BOUND_TABLE_REF"})


def rows_where(source: Path, condition: str) -> Any:
    """The numbers of the rows of the parquet file ``source`` for which ``condition`` is true, as a numpy array in no
    order. All its columns may be named; subqueries may read it as ``index``.

    :raises UsageError: in one line, if it is no condition, reads anything else, or fails.
    """
    try:
        condition.encode()
        with _connected(source) as connection:
            _check(connection, condition)
            row = f"row {secrets.token_hex()}"  # which no condition can name
            numbered = f'(SELECT *, row_number() OVER () - 1 AS "{row}" FROM {TABLE})'
            return connection.execute(_over(numbered, _enclosed(condition), row)).fetchnumpy()[row]
    except duckdb.Error as error:
        raise UsageError(f"--where: {_in_one_line(str(error))}") from None
    except UnicodeEncodeError:
        raise UsageError("--where: it is no text in UTF-8") from None
    except RecursionError:
        raise UsageError("--where: it is nested too deeply") from None
    except MemoryError:
        raise UsageError(f"--where: it needs more than {_MOST_BYTES >> 30} GiB of memory") from None


def _over(table: str, condition: str, row: str = "row") -> str:
    return f'SELECT "{row}" FROM {table} AS {TABLE} WHERE\n{condition}\n'


def _enclosed(condition: str) -> str:
    return f"(\n{condition}\n)"


@contextmanager
def _connected(source: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config=dict(_CONFIGURATION)) as connection:
        connection.register(TABLE, ds.dataset(source, format="parquet"))  # which pyarrow reads, column by column
        connection.execute("SET lock_configuration = true")
        yield connection


def _check(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    """
    :raises UsageError: if ``condition`` is more than one condition, or reads anything but the index.
    """
    (one,) = _parsed(connection, "true")
    statements = _parsed(connection, condition)
    # In parentheses as well: else it might have a stop after it, or name a window.
    if not _is_one(statements, one) or not _is_one(_parsed(connection, _enclosed(condition), _NOT_ONE), one):
        raise UsageError(_NOT_ONE)
    nodes = list(_nodes(statements))
    named = {entry["key"].casefold() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())}
    # What is called like one of DuckDB's views is that view, outside of the query that gives it the name.
    own = {TABLE} | (named - _views(connection))
    for node in nodes:
        name = _foreign(node, own)
        if name is not None:
            raise UsageError(f"--where: a condition can read the table {TABLE} and no other, so not {name}")


def _is_one(statements: list[Any], one: Any) -> bool:
    return len(statements) == 1 and _but_condition(statements[0]) == _but_condition(one)


def _views(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """What DuckDB itself has that can be read, besides the index."""
    query = "SELECT view_name FROM duckdb_views() UNION ALL SELECT table_name FROM duckdb_tables()"
    return {name.casefold() for (name,) in connection.execute(query).fetchall()} - {TABLE}


def _parsed(connection: duckdb.DuckDBPyConnection, condition: str, otherwise: str = "") -> list[Any]:
    """The statements that a query with ``condition`` is, as syntax trees.

    :raises UsageError: that says ``otherwise``, if it is none; else what is wrong.
    """
    row = connection.execute("SELECT json_serialize_sql(?)", [_over(TABLE, condition)]).fetchone()
    tree = json.loads(row[0]) if row else {}
    if tree.get("error"):
        is_sql = tree["error_type"] != "parser"  # then it ends in a command that is no query
        raise UsageError(otherwise or (_NOT_ONE if is_sql else f"--where: {_in_one_line(tree['error_message'])}"))
    found: list[Any] = tree["statements"]
    return found


def _but_condition(statement: Any) -> Any:
    return statement["node"] | {"where_clause": None}


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of a syntax tree, without recursion: conditions may be nested deeply."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _foreign(node: dict[str, Any], own: set[str]) -> str | None:
    """What ``node`` reads that is no table of ``own``; None if it reads nothing else."""
    kind = node.get("type")
    if kind == "BASE_TABLE":
        *above, table = path = [node["catalog_name"], node["schema_name"], node["table_name"]]
        return None if not any(above) and table.casefold() in own else ".".join(filter(None, path))
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name"))
        return None if name.casefold() in _TABLE_FUNCTIONS else f"{name}(…)"
    if kind == "FUNCTION" and str(node.get("function_name")).casefold() in _TELLTALES:
        return f"{node['function_name']}(…)"
    return str(kind) if isinstance(kind, str) and kind in _OTHER_TABLES else None


def _in_one_line(message: str) -> str:
    """What DuckDB says is wrong, with the columns it proposes, and without the query.

    What is near no column is taken for text: SQL reads ``CT`` and ``"CT"`` as the name of one.
    """
    first, *rest = message.strip().splitlines() or ["it failed"]
    proposed = next((line for line in rest if line.startswith(("Candidate", "Did you mean"))), "")
    told = f"{first.removesuffix('!')}. {proposed}" if proposed else first
    unknown = _NO_COLUMN.search(first)
    if unknown is None or did_you_mean(unknown[1], _QUOTED.findall(proposed)):
        return told
    return f"{told}; if it is text, write '{unknown[1]}'"


def main(arguments: list[str]) -> int:
    """``where PARENT SECONDS SOURCE``: the rows of SOURCE for which the condition on stdin is true, as 64-bit numbers.

    Exit code 2: the condition cannot be used. SIGALRM ends what takes longer than SECONDS, SIGKILL what is left when
    PARENT, the process that started this one, has ended.
    """
    parent, seconds, source = arguments
    end_with(int(parent))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    bound_memory(_MOST_BYTES)
    try:
        rows = rows_where(Path(source), sys.stdin.buffer.read().decode())
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(rows.astype(np.int64).tobytes())
    return 0


if __name__ == "__main__":
    without_pandas()
    sys.exit(main(sys.argv[1:]))

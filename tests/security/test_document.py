"""What docs/SECURITY.md says is so: the tests that it names are there, and the bounds are the code's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from idcfs import logs, metrics, mounts, running, settings
from idcfs.archive import connections, dicomjson, inventory, pages, records, redirects
from idcfs.namespace import build, columns, condition, where

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = (CHECKOUT / "docs" / "SECURITY.md").read_text()
BOUNDS = DOCUMENT.split("## Bounds")[1].split("\n## ")[0]


def functions(path: Path) -> set[str]:
    """The names of the functions in a file of Python."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)
    assert len(named) > 40
    missing = [f"{path}::{name}" for path, name in named if name not in functions(CHECKOUT / path)]
    assert not missing
    table = DOCUMENT.split("## What stands against it")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert all("`tests/" in row for row in rows)


def test_the_bounds_are_the_codes() -> None:
    kib, mib, gib = settings.KIB, settings.MIB, settings.GIB
    transport, weight = settings.TransportSettings(), dicomjson.MAX_WEIGHT
    for said in (
        f"{settings.TIMEOUT_SECONDS:.0f} s; 64 KiB are progress",
        f"{connections._MAX_HEAD_BYTES // kib} KiB, as are chunk headers",
        f"{redirects.MOST_IN_A_ROW} in a row",
        f"{transport.max_json_bytes // mib} MiB, and {weight // mib} Mi of weight",
        f"metadata, pictures | {settings.MAX_RENDITION_BYTES // mib} MiB",
        f"{inventory._MAX_PAGE_BYTES // mib} MiB; no document type",
        f"{pages.most_items(0):,} more, at most {pages.MAX_ITEMS:,} items; {pages.MAX_STALE_PAGES} pages in a row",
        f"{records._MAX_CHARACTERS:,} characters",
        f"at most {settings.MAX_INSTANCE_BYTES // gib} GiB, and",
        f"{settings.MAX_UNTOLD_BYTES // gib} GiB where no length is told",
        f"{columns._MOST_ROWS:,} rows; its reader, a process of its own, {build._MOST_BYTES // gib} GiB",
        f"{where._MOST_BYTES // gib} GiB and {condition.LIMIT_SECONDS:.0f} s",
        f"{logs._MOST_CHARACTERS // kib} KiB; the same warning once a minute; 3 files of {logs.FILE_BYTES // mib} MiB",
        f"{running._MOST_BYTES // mib} MiB are read, {mounts.ANSWER_SECONDS:.0f} s are waited",
        f"{metrics.MAX_CLIENTS} at once, {metrics.CLIENT_SECONDS:.0f} s and {metrics._MAX_HEAD_BYTES // kib} KiB",
    ):
        assert said in BOUNDS, said

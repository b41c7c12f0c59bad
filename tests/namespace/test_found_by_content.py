"""From an instance's UID to the lists that have it, and from their content to the series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import trio

from idcfs.namespace.store import SeriesStore
from tests.namespace.making import ROW, catalog_of, with_path


def test_lists_are_found_by_any_instance_in_them(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path / "series.sqlite")
    store.remember_list("a", ["1.2", "1.23"])
    store.remember_list("b", ["1.2", "5.6"])
    store.remember_objects("c", ["1.2"])
    for _ in ("waiting to be written", "on disk"):
        for uid, contents in (("1.2", ["a", "b"]), ("1.23", ["a"]), ("1.", []), ("2", []), ("", []), ("1.2\n1.23", [])):
            assert sorted(trio.run(store.contents_listing, uid)) == contents
        trio.run(store.sync)
    store.close()


def test_rows_are_found_by_their_content() -> None:
    rows = [
        replace(with_path(ROW, "lung", "P1", "1.1", f"1.1.{number}"), crdc_series_uuid=content)
        for number, content in enumerate(["aab", "ab", "", None, "aabx", "b(.*"])
    ]
    with catalog_of(rows) as catalog:
        for row in range(catalog.rows):
            content = catalog.series(row).content
            assert catalog.rows_of_content(content or "nothing") == ([row] if content else [])
        for content in ("a", "abaa", "x", ".*", "aabxb"):
            assert catalog.rows_of_content(content) == []

"""An index that gives one content UUID to several series."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import open_catalog
from tests.namespace.making import ROW, Row, catalog_of, write_rows

SERIES = [f"1.2.3.{number}" for number in range(5)]


def rows(*contents: str | None) -> list[Row]:
    return [
        replace(ROW, SeriesInstanceUID=series, crdc_series_uuid=content)
        for series, content in zip(SERIES, contents, strict=False)
    ]


def contents(catalog: Catalog) -> list[str]:
    return [catalog.series(row).content for row in range(catalog.rows)]


def test_it_is_taken_for_none(caplog: pytest.LogCaptureFixture) -> None:
    with catalog_of(rows("a", "b", "a", "c", "a")) as catalog:
        assert contents(catalog) == ["", "b", "", "c", ""]
    assert "3 series share their crdc_series_uuid" in caplog.text


def test_none_at_all_is_nothing_that_is_shared(caplog: pytest.LogCaptureFixture) -> None:
    with catalog_of(rows("", None, "a", "", None)) as catalog:
        assert contents(catalog) == ["", "", "a", "", ""]
    assert not caplog.text


def test_the_same_series_in_two_places_has_the_same_content(caplog: pytest.LogCaptureFixture) -> None:
    one, other = rows("a", "b")
    with catalog_of([one, other, replace(one, collection_id="breast"), one]) as catalog:
        assert contents(catalog) == ["a", "a", "b"]
    assert not caplog.text


def test_the_log_says_it_when_the_catalog_is_built(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = write_rows(tmp_path / "index.parquet", rows("a", "a"))
    assert contents(open_catalog(str(index), tmp_path)) == ["", ""]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == (
        f"{index}: 2 series share their crdc_series_uuid with another one: taken for series without"
    )
    caplog.clear()
    open_catalog(str(index), tmp_path)
    assert not caplog.text

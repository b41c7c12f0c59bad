"""The links of the extended attributes, compared with idc-index's own for series of the real index."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from idc_index.index import IDCClient

from idcfs.namespace.build import packaged_index
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.nodes import Level
from idcfs.views.xattrs import facts_of

_COLUMNS = ["StudyInstanceUID", "SeriesInstanceUID", "Modality", "series_aws_url"]


@pytest.fixture(scope="module")
def client() -> Any:
    """idc-index over its packaged index, without what it would ask the network for."""
    made: Any = object.__new__(IDCClient)
    table = pq.read_table(packaged_index()[0], columns=_COLUMNS)
    made.index = table.to_pandas()
    connection = duckdb.connect()
    connection.register("index", table)
    made.sql_query = lambda query: connection.query(query).to_df()
    return made


async def test_links_are_those_of_idc_index(packaged: Catalog, client: Any) -> None:
    viewers = set()
    urls = dict(zip(client.index["SeriesInstanceUID"], client.index["series_aws_url"], strict=True))
    for row in range(0, packaged.rows, packaged.rows // 40):
        series = packaged.series(row)
        facts = await facts_of(packaged, Level.SERIES, row)
        assert facts["viewer_url"] == client.get_viewer_URL(seriesInstanceUID=series.series_uid)
        assert facts["aws_url"] == urls[series.series_uid]
        study = await facts_of(packaged, Level.STUDY, packaged.first(Level.STUDY, row))
        assert study["viewer_url"] == client.get_viewer_URL(study.get("series_uid"), series.study_uid)
        viewers.add("/slim/" in facts["viewer_url"])
    assert viewers == {True, False}


async def test_the_whole_index_is_summed_up(packaged: Catalog) -> None:
    facts = await facts_of(packaged, Level.ROOT, 0)
    assert facts["series_count"] == str(packaged.rows)
    assert facts["size_bytes"] == str(packaged.total_bytes)
    assert facts["instance_count"] == str(packaged.total_instances)
    assert "collection_id" not in facts
    assert "CC BY 4.0" in facts["license"].split(",")

"""``python -m tests.twin``: the twin as a process; one line ``READY http://127.0.0.1:PORT`` when it listens."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.twin.directory import CombinedHoldings, DirectoryHoldings
from tests.twin.index import IndexHoldings
from tests.twin.knobs import parse_knobs
from tests.twin.model import Holdings
from tests.twin.server import serve
from tests.twin.state import State


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.twin", description="A loopback twin of the IDC.")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--data", type=Path, action="append", default=[], help="directory of DICOM files")
    parser.add_argument("--index", help="idc-index parquet, or 'packaged'; its instances are synthetic")
    parser.add_argument("--knobs", default="{}", help="knobs to start with, as JSON")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    try:
        knobs = parse_knobs(json.loads(options.knobs))
    except (ValueError, TypeError) as error:
        parser.error(f"--knobs: {error}")
    scan = partial(_scan, options.data, options.index)
    serve(scan, State(knobs), options.port, options.with_parent)


def _scan(data: Sequence[Path], index: str | None) -> Holdings:
    parts: list[Holdings] = [DirectoryHoldings(directory) for directory in data]
    if index:
        parts.append(IndexHoldings(_index_path(index)))
    return parts[0] if len(parts) == 1 else CombinedHoldings(parts)


def _index_path(name: str) -> Path:
    if name != "packaged":
        return Path(name)
    import idc_index_data

    return Path(str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH))


if __name__ == "__main__":
    main()

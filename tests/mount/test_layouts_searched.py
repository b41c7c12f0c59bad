"""What a server lists, in layouts that name more than identifiers; and its modality as an attribute."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pydicom

from tests.mount.conftest import MountMaker
from tests.orthanc import Orthanc
from tests.twin.client import Twin


def test_modality_and_date_of_a_server_s_series_lead_to_them(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    template = "%Modality/%StudyDate/%SeriesDescription_%SeriesInstanceUID"
    listed = mount(twin.url, "--index", "qido", "--layout", template)
    indexed = mount(twin.url, "--index", sample_index, "--layout", template, at="indexed")

    def places(root: Path) -> set[Path]:
        return {path.relative_to(root) for path in root.glob("*/*/*")}

    assert places(listed.path) == places(indexed.path)
    rows = pq.read_table(sample_index).to_pylist()
    modality = {row["SeriesInstanceUID"]: row["Modality"].encode() for row in rows}
    for place in places(listed.path):
        series = listed.path / place
        uid = os.getxattr(series, "user.idc.series_uid").decode()
        assert os.getxattr(series, "user.idc.modality") == modality[uid]
        assert os.getxattr(series.parent.parent, "user.idc.modality") == modality[uid]


def test_orthanc_s_series_are_readable(mount: MountMaker, orthanc: Orthanc, ct_files: list[Path]) -> None:
    header = pydicom.dcmread(ct_files[0], stop_before_pixels=True)
    made = mount(orthanc.url, "--index", "qido", "--layout", "readable")
    (series,) = made.path.glob(f"*/*/*/*{header.SeriesInstanceUID}")
    assert series.name.startswith(f"{header.SeriesNumber}_CT_")
    date = str(header.StudyDate)
    assert series.parent.name.startswith(f"{date[:4]}-{date[4:6]}-{date[6:]}_")
    assert len(os.listdir(series)) == len(ct_files)

"""Sample data: DICOM series that look real, are the same on every machine, and need no network.

Every function that makes some writes into a temporary directory and renames it, and does nothing if the directory is
there already: what has its final name is complete. Whoever wants other parameters takes another directory.
"""

from __future__ import annotations

from tests.data.archive import pydicom_files, sample_archive, write_index
from tests.data.multiframe import multiframe
from tests.data.series import ct_series, mr_series, rgb_series, rt_struct, write_series
from tests.data.slide import whole_slide
from tests.data.spec import SeriesSpec

__all__ = [
    "SeriesSpec",
    "ct_series",
    "mr_series",
    "multiframe",
    "pydicom_files",
    "rgb_series",
    "rt_struct",
    "sample_archive",
    "whole_slide",
    "write_index",
    "write_series",
]

"""What idioms read: a small series for each, so that none meets a file that another has opened."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.sr.codedict import codes

from tests.data import SeriesSpec, ct_series, whole_slide, write_index
from tests.data.spec import complete
from tests.tools.idiom import Idiom

SLICES = 3
_EXTRA_BYTES = {1: 400_000}
"""By slice: what it holds before its pixels, so that the file is larger than its share of the series."""


@dataclass(frozen=True, slots=True)
class Material:
    """An archive with one series for each idiom."""

    files: Path
    index: Path

    def local(self, idiom: Idiom) -> Path:
        """The directory of its files."""
        return self.files / idiom.slug

    def below(self, mountpoint: Path, idiom: Idiom) -> Path:
        """The same directory where the archive is mounted."""
        header = pydicom.dcmread(next(self.local(idiom).iterdir()), stop_before_pixels=True)
        study = mountpoint / "tools" / str(header.PatientID) / str(header.StudyInstanceUID)
        return study / str(header.SeriesInstanceUID)


def material(directory: Path, idioms: tuple[Idiom, ...]) -> Material:
    """The archive for these idioms, made in an empty directory."""
    files = directory / "files"
    for idiom in idioms:
        MAKERS[idiom.material](files / idiom.slug, idiom.name)
    return Material(files, write_index(files, directory / "index.parquet", "tools"))


def _ct(directory: Path, description: str) -> None:
    """A CT whose slices differ in size: their shares of the series' bytes are none of their sizes."""
    spec = SeriesSpec(slices=SLICES, size=128, description=description)
    paths = ct_series(directory, SLICES, 128, description=description)
    assert [path.stem for path in paths] == [spec.instance_uid(index) for index in range(SLICES)]
    for index, size in _EXTRA_BYTES.items():
        dataset = pydicom.dcmread(paths[index])
        block = dataset.private_block(0x0009, "TWIN", create=True)
        block.add_new(0x10, "OB", np.random.Generator(np.random.PCG64(index)).bytes(size))
        dataset.save_as(paths[index])


def _slide(directory: Path, description: str) -> None:
    whole_slide(directory, across=4, description=description)


def _segmentations(directory: Path, description: str) -> None:
    """Two segmentations of a CT, of different sizes."""
    spec = SeriesSpec(slices=2, modality="SEG", description=description)
    source = [pydicom.dcmread(path) for path in ct_series(directory.parents[1] / "source", 5, 128)]
    kinds = ["BINARY", "FRACTIONAL"]
    uids = [spec.instance_uid(number) for number in range(len(kinds))]
    with complete(directory, {f"{uid}.dcm" for uid in uids}) as temporary, warnings.catch_warnings(action="ignore"):
        assert temporary is not None
        for kind, uid in zip(kinds, uids, strict=True):
            _segmentation(source, spec.series_uid, uid, kind).save_as(temporary / f"{uid}.dcm")


def _segmentation(
    source: list[pydicom.FileDataset], series_uid: str, instance_uid: str, kind: str
) -> highdicom.seg.Segmentation:
    bone = highdicom.seg.SegmentDescription(1, "bone", codes.SCT.Tissue, codes.SCT.Bone, "MANUAL")
    return highdicom.seg.Segmentation(
        source_images=source,
        pixel_array=np.stack([image.pixel_array > 1500 for image in source]),
        segmentation_type=kind,
        segment_descriptions=[bone],
        series_instance_uid=series_uid,
        series_number=2,
        sop_instance_uid=instance_uid,
        instance_number=1,
        manufacturer="Twin",
        manufacturer_model_name="Twin",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=False,
    )


MAKERS: dict[str, Callable[[Path, str], None]] = {"CT": _ct, "slide": _slide, "SEG": _segmentations}

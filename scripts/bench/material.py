"""What all subjects of the comparison are given: a tree of DICOM files, and servers that have the same files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom

from scripts.bench.holding import files_below, files_of_programs, held
from scripts.delay import Proxy, counted
from scripts.harness import Failure
from tests.data import ct_series, whole_slide, write_index
from tests.nginx import Nginx
from tests.orthanc import Orthanc

NGINX = "nginx"
ORTHANC = "orthanc"
LOCAL_DISK = ""
"""What stands for a server where there is none."""
_PROGRAMS = ("rclone", "mount.davfs", "curl", "find", "ls", "dcm2niix")
"""What is started while something is measured."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much there is to read."""

    slices: int
    """Of the CTs that are listed and read from start to end."""
    slices_for_tools: int
    """Of the CTs that programs read: some open each file a dozen times."""
    rows: int
    """Of a slice, and as many columns."""
    tiles_across: int
    small_series: int


FULL = Amount(slices=300, slices_for_tools=100, rows=512, tiles_across=50, small_series=150)
"""CTs of 157 and 52 MB, a slide of 257 MB, and 300 files that nobody but ``find`` looks at."""
SHORT = Amount(slices=6, slices_for_tools=6, rows=64, tiles_across=8, small_series=12)


@dataclass(frozen=True, slots=True)
class Material:
    """The files, as ``<collection>/<patient>/<study>/<series>/<SOPInstanceUID>.dcm``; paths are those in ``tree``."""

    tree: Path
    """What servers read."""
    copy: Path
    """What local readers read: their files can be thrown out of the page cache without harm to a server."""
    index: Path
    series: Mapping[str, Path]
    """CTs, by who reads them."""
    slide: Path
    """The largest level of the slide."""
    files: Sequence[Path]

    def slices(self, name: str) -> list[Path]:
        """The files of a CT, in the order of their names."""
        return [path for path in self.files if path.parent == self.series[name]]


def make(directory: Path, amount: Amount) -> Material:
    """Write everything below ``directory``."""
    tree = directory / "tree"
    series = {}
    for name, slices in _slices(amount).items():
        ct_series(directory / "new", slices, amount.rows, description=f"CT {name}")
        series[name] = _placed(directory / "new", tree, "chest_ct")
    slide = whole_slide(directory / "new", amount.tiles_across)[0].name
    slide_series = _placed(directory / "new", tree, "slides")
    for number in range(amount.small_series):
        about = {"patient_id": f"SMALL-{number // 4:03}", "study": f"{number // 2}", "description": f"{number}"}
        ct_series(directory / "new", 2, 16, **about)
        _placed(directory / "new", tree, "small")
    files = sorted(path.relative_to(tree) for path in tree.rglob("*.dcm"))
    copy = directory / "copy"
    shutil.copytree(tree, copy)
    index = write_index(tree, directory / "index.parquet")
    return Material(tree, copy, index, series, slide_series / slide, files)


def _slices(amount: Amount) -> dict[str, int]:
    """The CTs, by who reads them: one each, so that one mount can be made to do all of it."""
    read = dict.fromkeys(("list", "cat"), amount.slices)
    return read | dict.fromkeys(("SimpleITK", "dcm2niix", "headers"), amount.slices_for_tools)


def _placed(series: Path, tree: Path, collection: str) -> Path:
    """Move the directory of a series to where it belongs in the tree; returns its path there."""
    header = pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True)
    path = Path(collection, header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID)
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    series.rename(tree / path)
    return path


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers, each behind a proxy that delays and counts; by server and delay in milliseconds."""

    proxies: Mapping[tuple[str, int], Proxy]

    def at(self, server: str, delay_ms: int) -> Proxy | None:
        """Its URL has neither path nor trailing slash; None for the local disk."""
        return self.proxies.get((server, delay_ms))


@contextmanager
def served(material: Material, delays_ms: Sequence[int]) -> Iterator[Servers]:
    """nginx and Orthanc with the files of ``material``, which they have in memory, whatever the kernel is told.

    :raises Failure: if Orthanc does not take them.
    """
    with ExitStack() as stack:
        nginx = stack.enter_context(Nginx(material.tree, files=material.tree))
        orthanc = stack.enter_context(Orthanc())
        paths = [material.tree / path for path in material.files]
        if len(orthanc.upload_all(paths)) != len(paths):
            raise Failure("Orthanc did not take the files")
        theirs = files_below(material.tree, nginx.directory, orthanc.directory)
        stack.enter_context(held([*theirs, *files_of_programs(_PROGRAMS)]))
        urls = {NGINX: nginx.host_url, ORTHANC: orthanc.host_url}
        yield Servers(
            {
                (server, delay): stack.enter_context(counted(url, delay / 1e3))
                for server, url in urls.items()
                for delay in delays_ms
            }
        )


def forget_pages(directory: Path) -> None:
    """Have the kernel keep nothing of the files below ``directory``: what is not written yet is written first."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

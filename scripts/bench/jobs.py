"""What the subjects are made to do: each job returns how long it took and what came of it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import openslide
import pydicom
import SimpleITK as sitk
import xxhash

from scripts.bench.material import Material
from scripts.bench.measuring import READ_BYTES
from scripts.bench.subjects import Standing
from scripts.harness import Failure

Done = tuple[float, object]
"""Seconds, and what came of it: the same for all who have the same files."""
MIDDLE_BYTES = 1_000_000
FIRST_BYTES = 132
"""The preamble, and ``DICM``."""
_REGIONS = 12
_REGION_PIXELS = 512


@dataclass(frozen=True, slots=True)
class _Listed:
    names: list[str]
    sizes: list[int]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do with the files."""

    name: str
    work: Callable[[Standing, Material], Done] = field(repr=False)
    needs: Callable[[Material], Sequence[Path]] | None = field(default=None, repr=False)
    """The files of the tree that have to be on the disk for it; None: it is a listing."""

    def difference(self, outcome: object, right: object) -> str:
        """What is wrong with it, in a few words; empty if nothing is."""
        if outcome == right:
            return ""
        if isinstance(outcome, _Listed) and isinstance(right, _Listed) and outcome.names == right.names:
            return "the names are right, the sizes are not"
        return "the outcome is not that of the original files"


def _mount(standing: Standing, _: Material) -> Done:
    started = time.perf_counter()
    names = os.listdir(standing.root)
    return standing.seconds + time.perf_counter() - started, bool(names)


def _find(standing: Standing, _: Material) -> Done:
    seconds, output = _timed(["find", standing.root, "-name", "*.dcm", "-printf", "%f\n"])
    return seconds, sorted(output.split())


def _list(standing: Standing, material: Material) -> Done:
    seconds, output = _timed(["ls", "-l", standing.place(material.series["list"])])
    lines = [line.split() for line in output.splitlines()]
    lines = [words for words in lines if words[-1].endswith(".dcm")]
    return seconds, _Listed([words[-1] for words in lines], [int(words[4]) for words in lines])


def _first_byte(standing: Standing, material: Material) -> Done:
    return _read_at([standing.place(_one_slice(material))], 0, FIRST_BYTES)


def _middle(standing: Standing, material: Material) -> Done:
    return _read_at([standing.place(material.slide)], middle_of_slide(material), MIDDLE_BYTES)


def _cat(standing: Standing, material: Material) -> Done:
    return _read_at([standing.place(path) for path in material.slices("cat")], 0, None)


def _simpleitk(standing: Standing, material: Material) -> Done:
    directory = str(standing.place(material.series["SimpleITK"]))
    started = time.perf_counter()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(directory))
    image = reader.Execute()
    seconds = time.perf_counter() - started
    pixels = xxhash.xxh3_128_hexdigest(sitk.GetArrayViewFromImage(image).tobytes())
    return seconds, (image.GetSize(), image.GetSpacing(), image.GetOrigin(), pixels)


def _dcm2niix(standing: Standing, material: Material) -> Done:
    with tempfile.TemporaryDirectory(prefix="idcfs-bench-nifti-") as made:
        seconds, _ = _timed(
            ["dcm2niix", "-z", "n", "-f", "volume", "-o", made, standing.place(material.series["dcm2niix"])]
        )
        volumes = sorted(Path(made).glob("*.nii"))
        return seconds, [(volume.name, xxhash.xxh3_128_hexdigest(volume.read_bytes())) for volume in volumes]


def _headers(standing: Standing, material: Material) -> Done:
    paths = [standing.place(path) for path in material.slices("headers")]
    started = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    seconds = time.perf_counter() - started
    return seconds, [(str(header.SOPInstanceUID), int(header.InstanceNumber)) for header in headers]


def _openslide(standing: Standing, material: Material) -> Done:
    started = time.perf_counter()
    digest = xxhash.xxh3_128()
    with openslide.OpenSlide(str(standing.place(material.slide))) as slide:
        width, height = slide.dimensions
        for number in range(_REGIONS):  # all over it, and none beside the one before
            x, y = (width * (7 * number % _REGIONS) // _REGIONS, height * (5 * number % _REGIONS) // _REGIONS)
            region = slide.read_region((x, y), number % slide.level_count, (_REGION_PIXELS, _REGION_PIXELS))
            digest.update(region.tobytes())
    return time.perf_counter() - started, digest.hexdigest()


def middle_of_slide(material: Material) -> int:
    """The offset of the bytes that are read of the slide."""
    return (material.tree / material.slide).stat().st_size // 2


def _one_slice(material: Material) -> Path:
    slices = material.slices("list")
    return slices[len(slices) // 2]


def _read_at(paths: Sequence[Path], offset: int, size: int | None) -> Done:
    """``size`` bytes of each file, or all of it, from ``offset`` on, a mebibyte at a time."""
    digest = xxhash.xxh3_128()  # takes a hundredth of a second for 157 MB
    buffer = memoryview(bytearray(READ_BYTES if size is None else size))
    started = time.perf_counter()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            position = offset
            while count := os.preadv(descriptor, [buffer], position):
                digest.update(buffer[:count])
                position += count
                if size is not None:
                    break
        finally:
            os.close(descriptor)
    return time.perf_counter() - started, digest.hexdigest()


def _timed(command: Sequence[str | Path]) -> tuple[float, str]:
    """Seconds and what it printed; it ends with the process that runs it, whose group it is in."""
    started = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Failure(f"{command[0]} failed: {said}")
    return seconds, done.stdout


def _slide_series(material: Material) -> list[Path]:
    return [path for path in material.files if path.parent == material.slide.parent]


MOUNT = Job("mount to first listing", _mount)
FIND = Job("find", _find)
LIST = Job("ls -l", _list)
FIRST_BYTE = Job("first byte", _first_byte, lambda material: [_one_slice(material)])
CAT = Job("cat", _cat, lambda material: material.slices("cat"))
CAT_AGAIN = Job("cat, page cache dropped", _cat)
SIMPLEITK = Job("SimpleITK", _simpleitk, lambda material: material.slices("SimpleITK"))
DCM2NIIX = Job("dcm2niix", _dcm2niix, lambda material: material.slices("dcm2niix"))
HEADERS = Job("pydicom headers", _headers, lambda material: material.slices("headers"))
MIDDLE = Job("1 MB of a slide", _middle, lambda material: [material.slide])
OPENSLIDE = Job("OpenSlide", _openslide, _slide_series)

JOBS = (MOUNT, FIND, LIST, FIRST_BYTE, CAT, CAT_AGAIN, SIMPLEITK, DCM2NIIX, HEADERS, MIDDLE, OPENSLIDE)
"""In the order in which they are shown."""

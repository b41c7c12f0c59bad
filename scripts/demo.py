"""The demo: mount a sample archive, walk it, read it with DICOM tools, unmount. No network, no remains.

Ends with 0 only if every file came through byte for byte and every tool saw the same as in the files themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from scripts.harness import (
    IDCFS,
    Failure,
    Mount,
    in_bytes,
    mounted,
    program,
    run,
    scratch_directory,
)
from tests.data import sample_archive, write_index
from tests.twin.client import Twin

SHOWN_CHILDREN = 3
"""Children of a directory that the printed tree names; the others are counted."""


def main() -> int:
    return program("demo", run_through)


def run_through() -> None:
    """The demo, and what to try next.

    :raises Failure: if anything came through otherwise than it should.
    """
    with scratch_directory("idcfs-demo-") as scratch:
        demo(scratch)
    print(
        "\nEverything matched. Next, the real thing, all of the Imaging Data Commons:\n"
        "\n    make mount                  # or: .venv/bin/idcfs mount ~/idc"
        "\n    ls ~/idc"
        "\n    .venv/bin/idcfs umount ~/idc\n"
    )


def demo(scratch: Path) -> None:
    started = time.perf_counter()
    source, index, mountpoint = scratch / "source", scratch / "index.parquet", scratch / "idc"
    with step("Make a sample archive") as done:
        sample_archive(source)
        write_index(source, index)
        originals = instances_of(source)
        size = sum(path.stat().st_size for path in originals.values())
        done(f"{len(originals)} DICOM files, {in_bytes(size)}")
    with contextlib.ExitStack() as stack:
        with step("Serve it over DICOMweb") as done:
            twin = stack.enter_context(Twin(data=source))
            done(f"{twin.url}, on this machine")
        with step("Mount it") as done:
            options = ("--archive", twin.url, "--index", index, "--cache-dir", scratch / "cache")
            mount = stack.enter_context(mounted(mountpoint, *options, state_dir=scratch / "state"))
            done(f"idcfs mount MOUNTPOINT --archive {twin.url} --index {index.name}")
        look_around(mount, originals)
        with step("Unmount it") as done:
            run([*IDCFS, "umount", mountpoint])
            if os.path.ismount(mountpoint):
                raise Failure(f"{mountpoint} is still mounted")
            done("idcfs umount MOUNTPOINT")
    print(f"\n{time.perf_counter() - started:.0f} s in all, and nothing is left behind.")


def look_around(mount: Mount, originals: dict[str, Path]) -> None:
    with step("Walk it") as done:
        files = {path.stem: path for path in mount.path.rglob("*.dcm")}
        if files.keys() != originals.keys():
            raise Failure(f"{len(files.keys() ^ originals.keys())} files are listed on one side only")
        done("/<collection>/<patient>/<study>/<series>/<SOPInstanceUID>.dcm")
    for line in tree(mount.path):
        print(f"       {line}")
    scan = largest_series(files)
    copy = mount.path.parent / "copy" / scan.name
    copy.mkdir(parents=True)
    for path in scan.iterdir():
        (copy / path.name).symlink_to(originals[path.stem])
    print(f"\n  Read a series of {len(list(scan.iterdir()))} slices with tools that know nothing of idcfs:")
    for name, tool in TOOLS.items():
        with step(name) as done:
            # Each tool makes its own of the mount first: that is how it would meet it.
            through_mount, from_files = tool(scan), tool(copy)
            if through_mount != from_files:
                raise Failure(f"{name} sees something else through the mount than in the files themselves")
            done(through_mount[0])
    print()
    with step("Compare every file") as done:
        different = [uid for uid, path in files.items() if sha256(path) != sha256(originals[uid])]
        if different:
            raise Failure(f"{len(different)} of {len(files)} files differ from their source, {different[0]} for one")
        done(f"SHA-256 of {len(files)} files: all as in the source")
    print("\n  idcfs status MOUNTPOINT says:")
    for line in run([*IDCFS, "status", mount.path]).splitlines()[1:]:
        print(f"     {line}")
    print()


def with_dcmdump(series: Path) -> tuple[str, ...]:
    return ("as in the files", *(run(["dcmdump", name], cwd=series) for name in some_slices(series)))


def with_gdcminfo(series: Path) -> tuple[str, ...]:
    said = [run(["gdcminfo", name], cwd=series) for name in some_slices(series)]
    syntax = next((line.strip() for line in said[0].splitlines() if line.startswith("TransferSyntax")), "")
    return (syntax, *said)


def with_dcm2niix(series: Path) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(dir=series_home(series)) as out:
        run(["dcm2niix", "-z", "n", "-f", "scan", "-o", out, series])
        volumes = sorted(Path(out).glob("*.nii"))
        if not volumes:
            raise Failure("dcm2niix made no volume")
        size = sum(path.stat().st_size for path in volumes)
        return (f"NIfTI of {in_bytes(size)}", *map(sha256, volumes))


def with_pydicom(series: Path) -> tuple[str, ...]:
    datasets = [pydicom.dcmread(series / name) for name in some_slices(series)]
    first = datasets[0]
    pixels = [hashlib.sha256(dataset.pixel_array.tobytes()).hexdigest() for dataset in datasets]
    return (f"{first.Modality} of patient {first.PatientID}, {first.Rows} × {first.Columns} pixels", *pixels)


def with_simpleitk(series: Path) -> tuple[str, ...]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
    size = " × ".join(str(count) for count in image.GetSize())
    return f"volume of {size} voxels, mean {voxels.mean():.1f}", hashlib.sha256(voxels.tobytes()).hexdigest()


TOOLS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "dcmdump": with_dcmdump,
    "gdcminfo": with_gdcminfo,
    "dcm2niix": with_dcm2niix,
    "pydicom": with_pydicom,
    "SimpleITK": with_simpleitk,
}
"""What each tool makes of a series: a line for people, and everything else that must not differ."""


def some_slices(series: Path) -> list[str]:
    """The names of a few files: the first, one in the middle, the last."""
    names = sorted(path.name for path in series.iterdir())
    return [names[0], names[len(names) // 2], names[-1]]


def series_home(series: Path) -> Path:
    """A directory that can be written to; the demo's scratch directory is above the mount and above the copy."""
    return next(parent for parent in series.parents if parent.name.startswith("idcfs-demo-"))


def instances_of(directory: Path) -> dict[str, Path]:
    """SOPInstanceUID → file, for every DICOM file under ``directory``."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            uid = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
            found[str(uid)] = path
    return found


def largest_series(files: dict[str, Path]) -> Path:
    counts: defaultdict[Path, int] = defaultdict(int)
    for path in files.values():
        counts[path.parent] += 1
    return max(counts, key=lambda series: counts[series])


def tree(directory: Path, indent: str = "") -> Iterator[str]:
    """The tree under ``directory`` as ``tree`` draws it, long directories shortened."""
    children = sorted(directory.iterdir())
    shown = children[:SHOWN_CHILDREN] if len(children) > SHOWN_CHILDREN + 1 else children
    more = len(children) - len(shown)
    for position, child in enumerate(shown):
        last = position == len(shown) - 1 and not more
        yield f"{indent}{'└── ' if last else '├── '}{child.name}"
        if child.is_dir():
            yield from tree(child, indent + ("    " if last else "│   "))
    if more:
        yield f"{indent}└── … and {more} more"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Print a line for what happens inside: the title at once, then what came of it and how long it took."""
    print(f"  {title:<24}", end="", flush=True)
    started = time.perf_counter()
    result: list[str] = []
    try:
        yield result.append
    except BaseException:
        print(flush=True)  # what is said of it has a line of its own
        raise
    print(f"{result[0]}  [{time.perf_counter() - started:.1f} s]", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""A slide of 250 MB is looked at through a mount, and most of it never moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import wsidicom

from idcfs.settings import MIB
from scripts.harness import Mount, run, status
from tests.data import multiframe, whole_slide, write_index
from tests.mount.conftest import NOWHERE, MountMaker
from tests.nginx import Nginx

PLACES = [(10_000, 12_000), (24_800, 300), (200, 24_900)]
"""Corners of regions at the largest level, far from each other."""
REGION = (700, 600)


@pytest.fixture(scope="module")
def nginx(slide_files: list[Path]) -> Iterator[Nginx]:
    with Nginx(slide_files[0].parent) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def slide_index(slide_files: list[Path], data_dir: Path) -> Path:
    return write_index(slide_files[0].parent, data_dir / "slide.parquet", "slides")


@pytest.fixture(params=["bucket", "static server", "bucket behind the proxy"])
def slide_mount(request: pytest.FixtureRequest, mount: MountMaker, nginx: Nginx, slide_index: Path) -> Mount:
    """The slide from places that know ranges."""
    bucket = ("--bucket", f"{nginx.bucket_url}/{{bucket}}")
    options = {
        "bucket": (NOWHERE, "--content", "bucket", *bucket),
        "static server": (nginx.url,),
        "bucket behind the proxy": (nginx.url, *bucket),
    }
    archive, *others = options[request.param]
    return mount(archive, "--index", slide_index, *others)


def of_level(mount: Mount, slide_files: list[Path], level: int) -> Path:
    (found,) = mount.path.glob(f"*/*/*/*/{slide_files[level].name}")
    return found


def moved(mount: Mount) -> int:
    """Bytes received, wherever they came from."""
    counters = status(mount.path)["counters"]
    count: int = counters["bytes_from_archive"] + counters["bytes_from_buckets"]
    return count


def pixels(image: Any) -> Any:
    return np.asarray(image.convert("RGB"))


def test_openslide_reads_regions(slide_mount: Mount, slide_files: list[Path]) -> None:
    remote = of_level(slide_mount, slide_files, 0)
    with openslide.OpenSlide(slide_files[0]) as local, openslide.OpenSlide(remote) as mounted:
        assert mounted.level_dimensions == local.level_dimensions
        for place in PLACES:
            expected = pixels(local.read_region(place, 0, REGION))
            assert np.array_equal(pixels(mounted.read_region(place, 0, REGION)), expected)
        expected = pixels(local.read_region((0, 0), 2, (300, 300)))
        assert np.array_equal(pixels(mounted.read_region((0, 0), 2, (300, 300))), expected)
    assert moved(slide_mount) < 60 * MIB
    assert status(slide_mount.path)["counters"]["errors"] == 0


def test_wsidicom_reads_regions(slide_mount: Mount, slide_files: list[Path]) -> None:
    remote = of_level(slide_mount, slide_files, 0).parent
    with wsidicom.WsiDicom.open(slide_files[0].parent) as local, wsidicom.WsiDicom.open(remote) as mounted:
        for place in PLACES:
            expected = pixels(local.read_region(place, 0, REGION))
            assert np.array_equal(pixels(mounted.read_region(place, 0, REGION)), expected)
    assert moved(slide_mount) < 80 * MIB
    assert status(slide_mount.path)["counters"]["errors"] == 0


def test_a_dump_of_the_header_moves_a_few_megabytes(slide_mount: Mount, slide_files: list[Path]) -> None:
    """dcmdump reads the end of a file first. Without +sb it goes from tile to tile, and so through all of the file."""
    dump = ["dcmdump", "-M", "+sb", "PixelData"]
    assert run([*dump, of_level(slide_mount, slide_files, 0)]) == run([*dump, slide_files[0]])
    assert moved(slide_mount) < 20 * MIB


def test_a_dump_of_an_instance_in_one_piece_moves_a_few_megabytes(mount: MountMaker, tmp_path: Path) -> None:
    """Here dcmdump skips the pixels, and looks at what stands behind them."""
    path = multiframe(tmp_path / "large" / "series", 160, 512)
    index = write_index(path.parent, tmp_path / "large.parquet", "large")
    with Nginx(path.parent) as nginx:
        made = mount(NOWHERE, "--index", index, "--content", "bucket", "--bucket", f"{nginx.bucket_url}/{{bucket}}")
        dump = ["dcmdump", "-M"]
        assert run([*dump, of_level(made, [path], 0)]) == run([*dump, path])
        assert path.stat().st_size > 80 * MIB
        assert moved(made) < 20 * MIB


def test_a_megabyte_from_the_middle_moves_a_few(slide_mount: Mount, slide_files: list[Path]) -> None:
    with slide_files[0].open("rb") as local, of_level(slide_mount, slide_files, 0).open("rb", buffering=0) as mounted:
        for file in (local, mounted):
            file.seek(120 * MIB)
        assert mounted.read(MIB) == local.read(MIB)
    assert moved(slide_mount) < 16 * MIB


def test_a_slide_alone_in_its_series(mount: MountMaker, tmp_path: Path) -> None:
    """Its size and its place in the bucket are known without asking."""
    (path,) = whole_slide(tmp_path / "alone" / "series", levels=1)
    index = write_index(path.parent, tmp_path / "alone.parquet", "slides")
    with Nginx(path.parent) as nginx:
        made = mount(NOWHERE, "--index", index, "--content", "bucket", "--bucket", f"{nginx.bucket_url}/{{bucket}}")
        remote = of_level(made, [path], 0)
        with openslide.OpenSlide(path) as local, openslide.OpenSlide(remote) as mounted:
            expected = pixels(local.read_region(PLACES[0], 0, REGION))
            assert np.array_equal(pixels(mounted.read_region(PLACES[0], 0, REGION)), expected)
        assert moved(made) < 40 * MIB
        # What nginx has sent by its own account, which counts what was on its way too.
        assert sum(answer.body_bytes for answer in nginx.moved()) < 60 * MIB

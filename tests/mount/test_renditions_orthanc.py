"""Pictures and metadata of a real server, through a mount."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from scripts.harness import Mount
from tests.data import ct_series, multiframe, rt_struct
from tests.mount.conftest import MountMaker
from tests.mount.stage import errno_of
from tests.orthanc import Orthanc

FRAMES = 5


@pytest.fixture(scope="module")
def stored(data_dir: Path) -> dict[str, list[Path]]:
    root = data_dir / "rendered"
    return {
        "ct": ct_series(root / "ct", 4, 64),
        "frames": [multiframe(root / "frames", FRAMES, 64)],
        "contours": [rt_struct(root / "contours")],
    }


@pytest.fixture(scope="module")
def server(stored: dict[str, list[Path]]) -> Iterator[Orthanc]:
    with Orthanc() as orthanc:
        orthanc.upload_all([path for paths in stored.values() for path in paths])
        yield orthanc


@pytest.fixture
def shown(mount: MountMaker, server: Orthanc) -> Mount:
    return mount(server.url, "--index", "qido")


def asked(server: Orthanc, place: Path, what: str, accept: str) -> httpx.Response:
    """The server's own answer about ``place``, the path of a series or instance from the mount."""
    study, series, *instance = place.parts[2:]
    path = f"/studies/{study}/series/{series}" + "".join(f"/instances/{Path(one).stem}" for one in instance)
    return httpx.get(server.url + path + what, headers={"Accept": accept}, trust_env=False)


def test_everything_is_what_the_server_says(shown: Mount, server: Orthanc, stored: dict[str, list[Path]]) -> None:
    instances = list(shown.path.rglob("*.dcm"))
    assert len(instances) == 6
    for path in instances:
        place = path.relative_to(shown.path)
        said = asked(server, place, "/metadata", "application/dicom+json").json()
        assert json.loads((shown.path / ".metadata" / f"{place}.json").read_bytes()) == said
        if path.name == stored["contours"][0].name:
            continue
        for suffix, media_type in ((".png", "image/png"), (".jpg", "image/jpeg")):
            file = shown.path / ".rendered" / place.with_suffix(suffix)
            assert file.read_bytes() == asked(server, place, "/rendered", media_type).content
            with Image.open(file) as image:
                assert image.size == (64, 64)
    for place in {path.parent.relative_to(shown.path) for path in instances}:
        said = asked(server, place, "/metadata", "application/dicom+json").json()
        found = json.loads((shown.path / ".metadata" / f"{place}.json").read_bytes())
        assert sorted(found, key=str) == sorted(said, key=str)


def test_frames(shown: Mount, server: Orthanc, stored: dict[str, list[Path]]) -> None:
    (path,) = shown.path.rglob(stored["frames"][0].name)
    place = path.relative_to(shown.path)
    frames = shown.path / ".rendered" / place.with_suffix("")
    for frame in range(1, FRAMES + 1):
        said = asked(server, place, f"/frames/{frame}/rendered", "image/png").content
        assert (frames / f"{frame}.png").read_bytes() == said
    assert len({file.read_bytes() for file in map(frames.joinpath, ("1.png", "3.png"))}) == 2
    # Orthanc says 400 of frames that are not there, as of all that it does not do.
    assert errno_of((frames / f"{FRAMES + 1}.png").read_bytes) == errno.EOPNOTSUPP


def test_what_has_no_pixels_has_no_picture(
    shown: Mount, stored: dict[str, list[Path]], log_of: Callable[[], str]
) -> None:
    (path,) = shown.path.rglob(stored["contours"][0].name)
    place = path.relative_to(shown.path)
    assert errno_of((shown.path / ".rendered" / place.with_suffix(".png")).read_bytes) == errno.EOPNOTSUPP
    assert "does not make image/png of this" in log_of()


def test_tools_see_pictures(shown: Mount, stored: dict[str, list[Path]], tmp_path: Path) -> None:
    """As a file manager does: it lists, looks at the beginning, and reads."""
    (path,) = shown.path.rglob(stored["ct"][0].name)
    series = shown.path / ".rendered" / path.parent.relative_to(shown.path)
    assert len(os.listdir(series)) == len(stored["ct"])
    for file in series.iterdir():
        with Image.open(file) as image:
            assert image.format == "PNG"
    subprocess.run(["cp", "-r", series, tmp_path / "copy"], check=True)
    assert {file.name: file.read_bytes() for file in (tmp_path / "copy").iterdir()} == {
        file.name: file.read_bytes() for file in series.iterdir()
    }
    subprocess.run(["tar", "-C", series, "-cf", tmp_path / "all.tar", "."], check=True)

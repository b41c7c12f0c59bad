"""Tools see the same of a CT of 300 slices from Orthanc, whatever the caches hold; and each file is fetched once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from idcfs.settings import MIB
from scripts.harness import Mount, mounted, status
from tests.mount.conftest import EVICTING, STRICT, without_bugs
from tests.orthanc import Orthanc
from tests.tools.idiom import Outcome
from tests.tools.idioms import NAMED
from tests.tools.judging import Judge


@dataclass(frozen=True, slots=True)
class Sides:
    """The CT as it is mounted, and its originals."""

    mount: Mount
    remote: Path
    local: Path


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return Judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module", params=[(), EVICTING], ids=["keeping", "evicting"])
def sides(
    request: pytest.FixtureRequest, orthanc: Orthanc, ct_files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sides]:
    """Mounted once for all tools: once with the usual caches, once with such as hold nothing for long."""
    place = tmp_path_factory.mktemp("tools").resolve()
    options = ("--archive", orthanc.url, "--index", "qido", "--cache-dir", place / "cache", *request.param)
    header = pydicom.dcmread(ct_files[0], stop_before_pixels=True)
    study = Path(str(header.PatientID), str(header.StudyInstanceUID))
    with (
        without_bugs(place / "state"),
        mounted(place / "mnt", *options, state_dir=place / "state", env={**os.environ, **STRICT}) as mount,
    ):
        (collection,) = mount.path.iterdir()
        yield Sides(mount, collection / study / str(header.SeriesInstanceUID), ct_files[0].parent)


def test_the_directory_lists_the_files(sides: Sides) -> None:
    assert sorted(os.listdir(sides.remote)) == sorted(path.name for path in sides.local.iterdir())


@pytest.mark.parametrize("name", ["dcm2niix -o", "SimpleITK, a series"])
def test_the_volume_is_the_same(name: str, sides: Sides, judge: Judge) -> None:
    outcome, said = judge.outcome(NAMED[name], sides.remote, sides.local)
    assert outcome == Outcome.SAME, said


@pytest.mark.parametrize("name", ["dcmdump", "gdcminfo", "pydicom.dcmread", "shutil.copy2", "zipfile"])
def test_some_files_are_the_same_through_links(name: str, sides: Sides, judge: Judge, tmp_path: Path) -> None:
    remote, local = (links(tmp_path / side, getattr(sides, side)) for side in ("remote", "local"))
    outcome, said = judge.outcome(NAMED[name], remote, local)
    assert outcome == Outcome.SAME, said


def links(made: Path, directory: Path) -> Path:
    """A directory of links to every 50th file."""
    made.mkdir()
    for file in sorted(os.listdir(directory))[::50]:
        (made / file).symlink_to(directory / file)
    return made


@pytest.mark.parametrize("sides", [()], ids=["keeping"], indirect=True)
def test_each_file_was_downloaded_once_whatever_the_tools_did(sides: Sides) -> None:
    for name in os.listdir(sides.remote):
        (sides.remote / name).read_bytes()
    counters = status(sides.mount.path)["counters"]
    assert counters["downloads"] == 300
    assert counters["errors"] == 0


@pytest.mark.parametrize("sides", [EVICTING], ids=["evicting"], indirect=True)
def test_nothing_of_it_fails_where_nothing_is_kept_for_long(sides: Sides) -> None:
    for name in os.listdir(sides.remote):
        assert (sides.remote / name).read_bytes() == (sides.local / name).read_bytes()
    counters = status(sides.mount.path)["counters"]
    assert counters["downloads"] > 300
    assert counters["errors"] == 0
    assert counters["disk_cache_bytes"] <= 8 * MIB

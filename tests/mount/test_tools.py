"""DICOM tools see the same through a mount as in local files: a CT of 300 slices, from Orthanc."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from idcfs.settings import MIB
from scripts.harness import Mount, mounted, run, status
from tests.mount.conftest import EVICTING, STRICT, MountMaker, without_bugs
from tests.mount.stage import a_series
from tests.orthanc import Orthanc
from tests.twin.client import Twin


@pytest.fixture(scope="module", params=[(), EVICTING], ids=["keeping", "evicting"])
def ct_mount(
    request: pytest.FixtureRequest, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """Orthanc, mounted once for all tools: once with the usual caches, once with such as hold nothing for long."""
    place = tmp_path_factory.mktemp("tools").resolve()
    options = ("--archive", orthanc.url, "--index", "qido", "--cache-dir", place / "cache", *request.param)
    with (
        without_bugs(place / "state"),
        mounted(place / "mnt", *options, state_dir=place / "state", env={**os.environ, **STRICT}) as mount,
    ):
        yield mount


@pytest.fixture(scope="module")
def remote(ct_mount: Mount, ct_files: list[Path]) -> Path:
    """The mounted directory of the CT."""
    header = pydicom.dcmread(ct_files[0], stop_before_pixels=True)
    (collection,) = ct_mount.path.iterdir()
    return collection / str(header.PatientID) / str(header.StudyInstanceUID) / str(header.SeriesInstanceUID)


@pytest.fixture(scope="module")
def local(ct_files: list[Path]) -> Path:
    """The directory of the originals."""
    return ct_files[0].parent


def test_the_directory_lists_the_files(remote: Path, local: Path) -> None:
    assert sorted(os.listdir(remote)) == sorted(path.name for path in local.iterdir())


@pytest.mark.parametrize("tool", ["dcmdump", "gdcminfo"])
def test_a_dump_is_the_same(tool: str, remote: Path, local: Path) -> None:
    for name in sorted(os.listdir(local))[::50]:
        assert run([tool, remote / name]) == run([tool, local / name])


def test_dcm2niix_makes_the_same_volume(remote: Path, local: Path, tmp_path: Path) -> None:
    made = []
    for name, source in (("remote", remote), ("local", local)):
        (tmp_path / name).mkdir()
        run(["dcm2niix", "-f", "volume", "-o", tmp_path / name, source])
        made.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    assert "volume.nii" in made[0]


def test_pydicom_reads_the_same(remote: Path, local: Path) -> None:
    for name in sorted(os.listdir(local))[::25]:
        assert pydicom.dcmread(remote / name) == pydicom.dcmread(local / name)


def test_simpleitk_reads_the_same_series(remote: Path, local: Path) -> None:
    volumes = []
    for directory in (remote, local):
        reader = sitk.ImageSeriesReader()
        names = reader.GetGDCMSeriesFileNames(str(directory))
        assert len(names) == 300
        reader.SetFileNames(names)
        volumes.append(reader.Execute())
    assert volumes[0].GetSpacing() == volumes[1].GetSpacing()
    assert volumes[0].GetOrigin() == volumes[1].GetOrigin()
    assert np.array_equal(sitk.GetArrayViewFromImage(volumes[0]), sitk.GetArrayViewFromImage(volumes[1]))


@pytest.mark.parametrize(
    "archive",
    [
        ["tar", "-cf", "{to}/files.tar", "-C", "{source}", "."],
        ["sh", "-c", "cd {source} && for f in *; do head -c 100000000 $f >{to}/$f; done"],
        ["sh", "-c", "cd {source} && for f in *; do dd if=$f of={to}/$f bs=64k status=none; done"],
        ["cp", "-r", "--sparse=always", "{source}/.", "{to}"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_files_never_opened_before_are_copied_whole(
    archive: list[str], mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path
) -> None:
    """Their sizes are provisional when the tool first asks."""
    made = mount(twin.url, "--index", sample_index)
    source = a_series(made)
    target = tmp_path / "copy"
    target.mkdir()
    run([word.format(source=source, to=target) for word in archive])
    if (target / "files.tar").exists():
        run(["tar", "-xf", target / "files.tar", "-C", target])
    originals = {path.name: path for path in sample.rglob("*.dcm")}
    for name in os.listdir(source):
        assert (target / name).read_bytes() == originals[name].read_bytes()


def test_copying_with_python_keeps_its_promises(remote: Path, local: Path, tmp_path: Path) -> None:
    for name in sorted(os.listdir(local))[:5]:
        shutil.copy2(remote / name, tmp_path / name)  # copies extended attributes too, which other mounts fail at
        assert (tmp_path / name).read_bytes() == (local / name).read_bytes()
        assert os.stat(tmp_path / name).st_mtime == os.stat(remote / name).st_mtime


@pytest.mark.parametrize("ct_mount", [()], ids=["keeping"], indirect=True)
def test_each_file_was_downloaded_once_whatever_the_tools_did(remote: Path, ct_mount: Mount) -> None:
    for name in os.listdir(remote):
        (remote / name).read_bytes()
    counters = status(ct_mount.path)["counters"]
    assert counters["downloads"] == 300
    assert counters["errors"] == 0


@pytest.mark.parametrize("ct_mount", [EVICTING], ids=["evicting"], indirect=True)
def test_nothing_of_it_fails_where_nothing_is_kept_for_long(remote: Path, local: Path, ct_mount: Mount) -> None:
    for name in os.listdir(remote):
        assert (remote / name).read_bytes() == (local / name).read_bytes()
    counters = status(ct_mount.path)["counters"]
    assert counters["downloads"] > 300
    assert counters["errors"] == 0
    assert counters["disk_cache_bytes"] <= 8 * MIB

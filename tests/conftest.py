"""Archives that many tests share, each started once and only if a test asks for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from scripts.harness import without_settings
from tests.data import ct_series, pydicom_files, sample_archive, whole_slide, write_index
from tests.orthanc import Orthanc
from tests.tokens import TokenEndpoint
from tests.twin.client import Twin

_LONG = ("test_real_index.py", "test_bench_comparison.py", "test_matrix.py", "test_soak.py", "test_orthanc.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, file by file: in parallel, the last ones run alone."""
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


@pytest.fixture(scope="session", autouse=True)
def no_settings() -> None:
    """Every mount is made with what its test says."""
    without_settings()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sample data is made."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def ct_files(data_dir: Path) -> list[Path]:
    """A CT of 300 slices of 512 × 512, in the order of its slices."""
    return ct_series(data_dir / "ct" / "series")


@pytest.fixture(scope="session")
def slide_files(data_dir: Path) -> list[Path]:
    """A slide of three levels, the largest one of 250 MB first."""
    return whole_slide(data_dir / "slide" / "series")


@pytest.fixture(scope="session")
def dicom_files() -> dict[str, Path]:
    """pydicom's test files by SOPInstanceUID, one each: some share theirs."""
    found: dict[str, Path] = {}
    with warnings.catch_warnings(action="ignore"):  # many are odd on purpose
        for path in pydicom_files():
            uid = pydicom.dcmread(path, stop_before_pixels=True, force=True).get("SOPInstanceUID")
            if uid:
                found.setdefault(str(uid), path)
    return found


@pytest.fixture(scope="session")
def orthanc(dicom_files: dict[str, Path], ct_files: list[Path]) -> Iterator[Orthanc]:
    """Orthanc with pydicom's test files and the CT. Read only: it is everybody's."""
    with Orthanc() as server:
        server.upload_all([*dicom_files.values(), *ct_files])
        yield server


@pytest.fixture(scope="session")
def sample(data_dir: Path) -> Path:
    """The small mixed archive."""
    return sample_archive(data_dir / "sample")


@pytest.fixture(scope="session")
def sample_index(sample: Path, data_dir: Path) -> Path:
    """An index over ``sample``."""
    return write_index(sample, data_dir / "sample.parquet")


@pytest.fixture(scope="session")
def sample_twin(sample: Path) -> Iterator[Twin]:
    """A twin that serves ``sample``; take ``twin`` instead, which is as new for each test."""
    with Twin(data=sample) as server:
        yield server


@pytest.fixture
def twin(sample_twin: Twin) -> Iterator[Twin]:
    """A twin that serves ``sample``, with its knobs and counters as at the start."""
    sample_twin.reset()
    yield sample_twin
    sample_twin.reset()


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    """Where Google gives tokens; one for each test."""
    with TokenEndpoint() as server:
        yield server

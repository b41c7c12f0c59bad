"""What archives are like, and how they come and go, does not show more than it must; single faults: test_faults."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.harness import Mount
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, contents, counters, errno_of, read_over_a_break
from tests.twin.client import Twin
from tests.waiting import eventually

TIMEOUT_SECONDS = 2.0


@pytest.fixture
def mounted_twin(mount: MountMaker, twin: Twin, sample_index: Path) -> Mount:
    """The sample archive, with a short timeout."""
    return mount(twin.url, "--index", sample_index, "--timeout", str(TIMEOUT_SECONDS))


def test_transcoded_bytes_are_an_error(mount: MountMaker, sample: Path, sample_index: Path) -> None:
    with Twin(data=sample) as twin:
        made = mount(twin.url, "--index", sample_index)
        implicit = list(made.path.rglob("*.dcm"))
        twin.set(strip_star=True)
        answers = {errno_of(path.read_bytes) for path in implicit}
        sent = {path.read_bytes() for path in implicit if errno_of(path.read_bytes) == 0}
    assert sent <= {path.read_bytes() for path in sample.rglob("*.dcm")}
    assert errno.EIO in answers  # the RLE slide


def test_an_archive_that_nobody_serves(mount: MountMaker, sample_index: Path, log_of: Callable[[], str]) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--timeout", "10")
    assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]
    series = next(made.path.glob("rider_twin/*/*/*"))
    assert errno_of(lambda: os.listdir(series)) == errno.EHOSTUNREACH
    complaints = [line for line in log_of().splitlines() if " WARNING " in line or " ERROR " in line]
    assert len(complaints) == 1, complaints
    assert "127.0.0.1:9" in complaints[0]


def test_an_archive_that_comes_back(mount: MountMaker, sample: Path, sample_index: Path) -> None:
    with Twin(data=sample) as twin:
        made = mount(twin.url, "--index", sample_index, "--timeout", "10")
        series = next(made.path.glob("rider_twin/*/*/*"))
        path = series / os.listdir(series)[0]
        twin.kill()
        assert errno_of(path.read_bytes) == errno.EHOSTUNREACH
        twin.start()
        assert eventually(lambda: errno_of(path.read_bytes) == 0)  # after the circuit's pause


@pytest.mark.parametrize(
    "knobs",
    [
        {"profile": "orthanc"},
        {"profile": "proxy"},
        {"profile": "dcm4chee"},
        {"profile": "static"},
        {"framing": "chunked"},
        {"multipart": False, "framing": "chunked"},
        {"boundary": "unquoted", "chunk_bytes": 7001},
        {"boundary": "missing", "multipart_preamble": True},
        {"gzip": "always"},
        {"fail_next": [503, 0, 500, 429]},
        {"refuse_next": 1},
        {"redirect": 307},
        {"keepalive_seconds": 0.05, "latency_seconds": 0.06},
        {"qido_max_limit": 7},
        {"qido_max_limit": 200, "qido_over_limit": "400"},
        {"qido_order": "shuffled", "qido_duplicates": 3},
        {"qido_ignore_offset": True, "qido_ignore_limit": True},
        {"qido_dict": True, "qido_empty": "empty"},
    ],
    ids=str,
)
def test_what_archives_are_like_does_not_show(
    knobs: dict[str, Any], mount: MountMaker, sample: Path, sample_index: Path
) -> None:
    with Twin(data=sample, **knobs) as twin:
        made = mount(twin.url, "--index", sample_index)
        assert contents(made.path) == contents(sample)
        assert counters(made)["errors"] == 0


def test_a_broken_connection_is_resumed_without_the_reader_noticing(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, "--timeout", "30")
    path = min(a_series(made).iterdir())
    assert read_over_a_break(made, twin, path) == contents(sample)[path.stem]
    counted = counters(made)
    assert counted["errors"] == 0
    assert (counted["wado_requests"], counted["downloads"]) == (2, 1)


def test_one_bad_instance_does_not_spoil_its_neighbours(mounted_twin: Mount, twin: Twin, sample: Path) -> None:
    series = a_series(mounted_twin)
    bad, *good = sorted(os.listdir(series))
    twin.set(match=bad.removesuffix(".dcm"), fail_always=500)
    originals = {path.name: path for path in sample.rglob("*.dcm")}
    assert errno_of((series / bad).read_bytes) == errno.EHOSTUNREACH
    for name in good[:10]:
        assert (series / name).read_bytes() == originals[name].read_bytes()

"""What goes wrong at the archive arrives as the errno that is promised, and never as other bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scripts.harness import Mount, status
from tests.mount.conftest import NOWHERE, MountMaker, eventually
from tests.twin.client import Twin

TIMEOUT_SECONDS = 2.0


@pytest.fixture
def mounted_twin(mount: MountMaker, twin: Twin, sample_index: Path) -> Mount:
    """The sample archive, with a short timeout."""
    return mount(twin.url, "--index", sample_index, "--timeout", str(TIMEOUT_SECONDS))


def a_series(mount: Mount) -> Path:
    """A directory of 60 instances of 0.5 MB."""
    (series,) = [path for path in mount.path.glob("chest_twin/*/*/*") if len(os.listdir(path)) == 60]
    return series


def errno_of(call: Callable[[], Any]) -> int:
    """The errno a call fails with; 0 if it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"fail_always": 404}, errno.ESTALE),
        ({"fail_always": 410}, errno.ESTALE),
        ({"fail_always": 204}, errno.ESTALE),
        ({"fail_always": 401}, errno.EACCES),
        ({"fail_always": 403, "fail_body": "empty"}, errno.EACCES),
        ({"quota_bytes": 0}, errno.EDQUOT),
        ({"fail_always": 429, "fail_body": "html"}, errno.EDQUOT),
        ({"fail_always": 429, "fail_body": "json", "retry_after": "3600"}, errno.EDQUOT),
        ({"fail_always": 500, "fail_body": "empty"}, errno.EHOSTUNREACH),
        ({"fail_always": 503, "fail_body": "array"}, errno.EHOSTUNREACH),
        ({"stall_after_bytes": 0}, errno.ETIMEDOUT),
        ({"drip_after_bytes": 10}, errno.ETIMEDOUT),
        ({"truncate_after_bytes": 1000}, errno.EIO),
        ({"truncate_after_bytes": 1000, "truncate_ending": "clean"}, errno.EIO),
        ({"truncate_after_bytes": 1000, "truncate_ending": "boundary"}, errno.EIO),
        ({"corrupt": "other_instance"}, errno.EIO),
        ({"corrupt": "html"}, errno.EIO),
        ({"corrupt": "empty"}, errno.EIO),
        ({"max_response_bytes": 1000, "max_response_action": "cut"}, errno.EIO),
    ],
    ids=str,
)
def test_an_instance_that_cannot_be_had(knobs: dict[str, Any], expected: int, mounted_twin: Mount, twin: Twin) -> None:
    path = min(a_series(mounted_twin).iterdir())
    twin.set(match="/instances/", **knobs)
    assert errno_of(path.read_bytes) == expected
    twin.reset()
    assert eventually(lambda: errno_of(path.read_bytes) == 0)  # at once, or soon if the archive counted as away


def test_transcoded_bytes_are_an_error(mount: MountMaker, sample: Path, sample_index: Path) -> None:
    with Twin(data=sample) as twin:
        made = mount(twin.url, "--index", sample_index)
        implicit = list(made.path.rglob("*.dcm"))
        twin.set(strip_star=True)
        answers = {errno_of(path.read_bytes) for path in implicit}
        sent = {path.read_bytes() for path in implicit if errno_of(path.read_bytes) == 0}
    assert sent <= {path.read_bytes() for path in sample.rglob("*.dcm")}
    assert errno.EIO in answers  # the RLE slide


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"fail_always": 404}, errno.ESTALE),
        ({"qido_empty": "204", "qido_hidden": ["*"]}, errno.ESTALE),
        ({"fail_always": 403}, errno.EACCES),
        ({"quota_bytes": 0}, errno.EDQUOT),
        ({"fail_always": 502, "fail_body": "empty"}, errno.EHOSTUNREACH),
        ({"stall_after_bytes": 0}, errno.ETIMEDOUT),
    ],
    ids=str,
)
def test_a_series_that_cannot_be_listed(knobs: dict[str, Any], expected: int, mounted_twin: Mount, twin: Twin) -> None:
    series = next(mounted_twin.path.glob("rider_twin/*/*/*"))
    if knobs.get("qido_hidden") == ["*"]:
        knobs = {**knobs, "qido_hidden": [series.name]}
    twin.set(**knobs)
    assert errno_of(lambda: os.listdir(series)) == expected
    assert errno_of(lambda: os.stat(series / "1.2.3.dcm")) == expected
    twin.reset()
    assert eventually(lambda: errno_of(lambda: os.listdir(series)) == 0)
    assert len(os.listdir(series)) > 0


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
        assert {path.stem: path.read_bytes() for path in made.path.rglob("*.dcm")} == {
            path.stem: path.read_bytes() for path in sample.rglob("*.dcm")
        }
        assert status(made.path)["counters"]["errors"] == 0


def test_a_broken_connection_is_resumed_without_the_reader_noticing(
    mount: MountMaker, sample: Path, sample_index: Path
) -> None:
    with Twin(data=sample, match="/instances/", bytes_per_second=600_000.0) as twin:
        made = mount(twin.url, "--index", sample_index, "--timeout", "30")
        path = max(made.path.rglob("*.dcm"), key=lambda one: one.stat().st_size)
        (original,) = [one.read_bytes() for one in sample.rglob(path.name)]
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(path.read_bytes)
            while status(made.path)["counters"]["bytes_from_archive"] < 300_000:
                assert not reading.done()
            twin.restart()
            assert reading.result() == original
        counters = status(made.path)["counters"]
        assert counters["errors"] == 0
        assert counters["wado_requests"] > counters["downloads"] == 1


def test_one_bad_instance_does_not_spoil_its_neighbours(mounted_twin: Mount, twin: Twin, sample: Path) -> None:
    series = a_series(mounted_twin)
    bad, *good = sorted(os.listdir(series))
    twin.set(match=bad.removesuffix(".dcm"), fail_always=500)
    originals = {path.name: path for path in sample.rglob("*.dcm")}
    assert errno_of((series / bad).read_bytes) == errno.EHOSTUNREACH
    for name in good[:10]:
        assert (series / name).read_bytes() == originals[name].read_bytes()

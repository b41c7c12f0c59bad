"""What goes wrong at the archive arrives as the errno that is promised, in time, and never as other bytes."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from scripts.harness import Mount
from tests.data import multiframe, write_index
from tests.mount.conftest import MountMaker
from tests.mount.faults import FAULTS, LIMIT_SECONDS, LISTING_FAULTS, MULTIPART, SINGLE, TIMEOUT_SECONDS, Fault
from tests.mount.stage import Stage, a_series, counters, errno_of, make_files, stages
from tests.nginx import Nginx
from tests.twin.client import Twin
from tests.waiting import eventually

StageOf = Callable[[str], Stage]
SHORT = ("--timeout", str(TIMEOUT_SECONDS), "--content", "wado")


@pytest.fixture(scope="module")
def stage_of(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageOf]:
    """The mount over an archive that answers in that form; made when it is first asked for."""
    with stages(make_files(data_dir / "faults"), tmp_path_factory.mktemp("stages"), lambda _: SHORT) as made:
        yield made


@pytest.mark.parametrize(
    ("form", "fault"),
    [pytest.param(form, fault, id=f"{form}-{fault.name}") for fault in FAULTS for form in fault.forms],
)
def test_a_retrieval_that_goes_wrong(form: str, fault: Fault, stage_of: StageOf) -> None:
    stage = stage_of(form)
    path = (stage.alone if fault.is_size_known else stage.unread).pop()
    stage.twin.set(match="/instances/", **fault.knobs)
    assert stage.read(path) == fault.expected
    stage.twin.reset()
    if fault.expected == errno.EIO:  # of this answer alone, and nothing of it is left
        assert stage.read(path) == 0
    assert eventually(lambda: stage.read(path) == 0)


@pytest.mark.parametrize("offset", [0, 100_000])
def test_one_call_waits_for_the_timeout_once(offset: int, stage_of: StageOf) -> None:
    """The kernel asks for what it has read ahead in vain once more, page by page; what is there comes nevertheless."""
    stage = stage_of(SINGLE)
    path = stage.unread.pop()
    stage.twin.set(match="/instances/", stall_after_bytes=70_000)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        began = time.monotonic()
        assert errno_of(lambda: file.read(100_000)) == (errno.ETIMEDOUT if offset else 0)
        assert time.monotonic() - began < 2 * TIMEOUT_SECONDS
        stage.twin.reset()
        assert eventually(lambda: errno_of(lambda: os.pread(file.fileno(), 1, 100_000)) == 0)
    assert stage.read(path) == 0


def test_many_who_read_one_file_wait_for_the_timeout_once_each(stage_of: StageOf) -> None:
    """Who waits for a page that another one has asked for in vain asks for it anew when that has failed."""
    stage = stage_of(SINGLE)
    path = stage.alone.pop()  # its size is known: opening it asks for nothing

    def seconds_of(size: int) -> float:
        with path.open("rb", buffering=0) as file:
            began = time.monotonic()
            assert errno_of(lambda: file.read(size)) == errno.ETIMEDOUT
            return time.monotonic() - began

    stage.twin.set(match="/instances/", latency_seconds=600)
    with ThreadPoolExecutor(8) as readers:
        assert max(readers.map(seconds_of, (4_096, 131_072) * 4)) < 2.5 * TIMEOUT_SECONDS
    stage.twin.hang_up()
    stage.twin.reset()
    assert eventually(lambda: stage.read(path) == 0)


def test_many_who_look_into_one_series_wait_for_the_timeout_once_each(stage_of: StageOf) -> None:
    """The kernel has one lookup at a time in a directory: the next one begins when that has failed."""
    stage = stage_of(SINGLE)
    series = stage.unlisted.pop()

    def seconds_of(number: int) -> float:
        began = time.monotonic()
        assert errno_of(lambda: os.stat(series / f"{number}.dcm")) == errno.ETIMEDOUT
        return time.monotonic() - began

    stage.twin.set(match=series.name, latency_seconds=600)
    with ThreadPoolExecutor(8) as readers:
        assert max(readers.map(seconds_of, range(8))) < 2.5 * TIMEOUT_SECONDS
    stage.twin.hang_up()
    stage.twin.reset()
    assert eventually(lambda: errno_of(lambda: os.listdir(series)) == 0)


def test_a_file_that_is_redirected_to_a_dead_server_takes_no_other_file_away(stage_of: StageOf) -> None:
    stage = stage_of(SINGLE)
    path, other = stage.unread.pop(), stage.unread.pop()
    stage.twin.set(match=path.stem, redirect=307, redirect_to="http://127.0.0.1:9", redirect_again=True)
    assert stage.read(path) == errno.EHOSTUNREACH
    assert stage.read(other) == 0
    stage.twin.reset()
    assert stage.read(path) == 0


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("error", [-10, 10])
def test_a_wrong_length_is_not_remembered(error: int, framing: str, stage_of: StageOf) -> None:
    stage = stage_of(MULTIPART)
    path = stage.unread.pop()
    stage.twin.set(match="/instances/", part_length_error=error, framing=framing, chunk_bytes=10_000)
    assert stage.read(path) == errno.EIO
    assert os.getxattr(path, "user.idc.size_exact") == b"false"
    if framing == "chunked":  # it was open: the kernel shows it until the file is opened again
        assert path.stat().st_size == len(stage.originals[path.name]) + error
    stage.twin.reset()
    assert stage.read(path) == 0
    assert path.stat().st_size == len(stage.originals[path.name])
    assert os.getxattr(path, "user.idc.size_exact") == b"true"


@pytest.mark.parametrize(
    ("form", "ending"),
    [(MULTIPART, "close"), (MULTIPART, "clean"), (MULTIPART, "boundary"), (SINGLE, "close"), (SINGLE, "reset")],
)
def test_bodies_that_end_at_every_tenth(form: str, ending: str, stage_of: StageOf) -> None:
    stage = stage_of(form)
    paths = stage.unread_of_every_tenth()
    stage.twin.set(match="/instances/", truncate_tenths=True, truncate_ending=ending)
    with ThreadPoolExecutor(len(paths)) as readers:
        assert set(readers.map(stage.read, paths)) == {errno.EIO}
    stage.twin.reset()
    assert eventually(lambda: [stage.read(path) for path in paths] == [0] * 9)


def test_bodies_that_end_properly_before_their_time(stage_of: StageOf) -> None:
    """Nothing in such an answer tells; that the file is alone in its series, and so its size is known, does."""
    stage = stage_of(SINGLE)
    path = stage.alone.pop()
    for tenth in range(1, 10):
        stop = len(stage.originals[path.name]) * tenth // 10
        stage.twin.set(match="/instances/", truncate_after_bytes=stop, truncate_ending="clean")
        assert stage.read(path) == errno.EIO
    stage.twin.reset()
    assert eventually(lambda: stage.read(path) == 0)


@pytest.mark.parametrize("fault", LISTING_FAULTS, ids=lambda fault: fault.name)
def test_a_list_that_goes_wrong(fault: Fault, stage_of: StageOf) -> None:
    stage = stage_of(MULTIPART)
    series = stage.unlisted.pop()
    stage.twin.set(**fault.knobs)
    began = time.monotonic()
    assert errno_of(lambda: os.listdir(series)) == fault.expected
    assert errno_of(lambda: os.stat(series / "1.2.3.dcm")) == (fault.expected or errno.ENOENT)
    assert time.monotonic() - began < 2 * LIMIT_SECONDS
    stage.twin.reset()
    assert eventually(lambda: errno_of(lambda: os.listdir(series)) == 0)
    assert len(os.listdir(series)) == 1


def test_a_list_without_anything(stage_of: StageOf) -> None:
    """What belongs to another release of the archive is no empty directory."""
    stage = stage_of(MULTIPART)
    series = stage.unlisted.pop()
    for empty in ("204", "[]", "empty"):
        stage.twin.set(qido_hidden=[series.name], qido_empty=empty)
        assert errno_of(lambda: os.listdir(series)) == errno.ESTALE
        assert errno_of(lambda: os.stat(series / "1.2.3.dcm")) == errno.ESTALE
    stage.twin.reset()
    assert len(os.listdir(series)) == 1


# -- ranges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "is_taken"),
    [("right", True), ("shifted", False), ("short", False), ("bare", False), ("resized", False), ("ignored", False)],
)
def test_a_range_that_is_answered_with_something_else(
    style: str, is_taken: bool, mount: MountMaker, tmp_path: Path
) -> None:
    """Whatever an archive makes of a range, the bytes are right and no call fails: it is read whole if it has to be."""
    path = multiframe(tmp_path / "data" / "large", 24, 512)
    content = path.read_bytes()
    index = write_index(tmp_path / "data", tmp_path / "index.parquet")
    with Twin(data=path.parent, profile="static", range_style=style) as twin:
        made = mount(twin.url, "--index", index, *SHORT)
        (file,) = made.path.rglob("*.dcm")
        with file.open("rb", buffering=0) as handle:
            assert os.pread(handle.fileno(), 4096, 0) == content[:4096]
            assert os.pread(handle.fileno(), 4096, len(content) - 4096) == content[-4096:]
            assert (counters(made)["bytes_from_archive"] < len(content)) == is_taken
        assert [seen for seen in twin.counters()["last"] if seen["range"]]
        assert file.read_bytes() == content
        assert counters(made)["errors"] == 0


# -- hosts --------------------------------------------------------------------------------------------------------


def first_file(mount: Mount) -> Path:
    return min(mount.path.glob("rider_twin/*/*/*/*"))


def original_of(path: Path, sample: Path) -> bytes:
    (found,) = sample.rglob(path.name)
    return found.read_bytes()


def test_a_redirect_to_another_host_is_followed_without_what_is_meant_for_the_first(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path
) -> None:
    with Twin(data=sample) as other:
        made = mount(twin.url, "--index", sample_index, *SHORT)
        path = first_file(made)
        twin.set(match="/instances/", redirect=307, redirect_to=other.host_url)
        assert path.read_bytes() == original_of(path, sample)
        asked = other.counters()["last"]
        assert [request["kind"] for request in asked] == ["wado_instance"]
        assert asked[0]["authorization"] == ""
        twin.set(redirect_to=other.host_url, redirect_again=True)
        other.set(redirect=302, redirect_to=twin.host_url, redirect_again=True)
        assert errno_of(max(path.parent.iterdir()).read_bytes) == errno.EIO


def test_a_certificate_that_nobody_trusts(
    mount: MountMaker, sample: Path, sample_index: Path, tmp_path: Path, log_of: Callable[[], str]
) -> None:
    certificate = tmp_path / "certificate.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with Nginx(sample, certificate) as nginx:
        made = mount(nginx.url, "--index", sample_index, *SHORT)
        series = next(made.path.glob("rider_twin/*/*/*"))
        assert errno_of(lambda: os.listdir(series)) == errno.EHOSTUNREACH
        assert "certificate" in log_of()
        assert nginx.moved() == []


@pytest.mark.parametrize("scheme", ["https to http", "http to https"])
def test_the_wrong_protocol(
    scheme: str, mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        expected = errno.EHOSTUNREACH
        url = twin.url.replace("http:", "https:")
        if scheme == "http to https":
            certificate = tmp_path / "certificate.pem"
            trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
            url = stack.enter_context(Nginx(sample, certificate)).url.replace("https:", "http:")
            expected = errno.EIO  # nginx says so, in plain HTTP: 400
        made = mount(url, "--index", sample_index, *SHORT)
        series = next(made.path.glob("rider_twin/*/*/*"))
        assert errno_of(lambda: os.listdir(series)) == expected


def test_a_quota_that_is_spent_in_mid_walk(
    mount: MountMaker,
    as_proxy: Callable[[Twin], str],
    twin: Twin,
    sample: Path,
    sample_index: Path,
    log_of: Callable[[], str],
) -> None:
    """What came before it is right and stays; the rest is EDQUOT, in one line of the log, until there is more."""
    made = mount(as_proxy(twin), "--index", sample_index, *SHORT, "--prefetch", "0")
    paths = sorted(a_series(made).iterdir())
    twin.set(match="/instances/", quota_bytes=3_000_000, quota_cuts=True)
    answers: list[Any] = [errno_of(path.read_bytes) for path in paths]
    served = answers.index(errno.EDQUOT)
    assert answers == [0] * served + [errno.EDQUOT] * (60 - served)
    assert served == 5
    assert [path.read_bytes() for path in paths[:served]] == [original_of(path, sample) for path in paths[:served]]
    assert len([line for line in log_of().splitlines() if " WARNING " in line]) == 1
    twin.set(quota_bytes=None)
    assert eventually(lambda: errno_of(paths[-1].read_bytes) == 0)
    assert paths[-1].read_bytes() == original_of(paths[-1], sample)

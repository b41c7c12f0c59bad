"""With a sound bucket behind it, whatever an archive does wrong does not show; and what a bucket does wrong is told."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from scripts.harness import status
from tests.mount.faults import BUCKET_FAULTS, BUCKET_LISTING_FAULTS, FAULTS, MULTIPART, SINGLE, TIMEOUT_SECONDS, Fault
from tests.mount.stage import Stage, errno_of, make_files, stages
from tests.twin.client import Twin
from tests.waiting import eventually

StageOf = Callable[[str], Stage]


@pytest.fixture(scope="module")
def files(data_dir: Path) -> Path:
    return make_files(data_dir / "faults")


@pytest.fixture(scope="module")
def stage_of(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageOf]:
    """The mount over an archive that answers in that form, with a bucket behind it."""
    with stages(files, tmp_path_factory.mktemp("stages"), lambda twin: options(twin, "auto")) as made:
        yield made


@pytest.fixture(scope="module")
def bucket_stage(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The mount over a bucket alone."""
    with stages(files, tmp_path_factory.mktemp("bucket"), lambda twin: options(twin, "bucket")) as made:
        yield made(MULTIPART)


def options(twin: Twin, content: str) -> tuple[str, ...]:
    bucket = twin.bucket_url("{bucket}")
    return ("--timeout", str(TIMEOUT_SECONDS), "--content", content, "--bucket", bucket)


@pytest.mark.parametrize(
    ("form", "fault"),
    [pytest.param(form, fault, id=f"{form}-{fault.name}") for fault in FAULTS for form in fault.forms],
)
def test_a_retrieval_that_goes_wrong_is_made_good_by_the_bucket(form: str, fault: Fault, stage_of: StageOf) -> None:
    stage = stage_of(form)
    path = (stage.alone if fault.is_size_known else stage.unread).pop()
    stage.twin.set(match="/instances/", **fault.knobs)
    assert stage.read(path) == 0
    assert stage.twin.counters()["requests"].get("wado_instance", 0) > 0
    come_back(stage)


def come_back(stage: Stage) -> None:
    """The archive is asked again: after a fault that looks as if it were away, that takes a second."""
    stage.twin.reset()

    def is_asked() -> bool:
        if status(stage.mount.path)["counters"]["circuits_open"]:
            time.sleep(0.2)
            assert stage.read(stage.unread.pop()) == 0
        return not status(stage.mount.path)["counters"]["circuits_open"]

    assert eventually(is_asked)
    stage.twin.reset()


@pytest.mark.parametrize(("form", "ending"), [(MULTIPART, "clean"), (SINGLE, "close")])
def test_bodies_that_end_at_every_tenth_go_on_from_the_bucket(form: str, ending: str, stage_of: StageOf) -> None:
    stage = stage_of(form)
    paths = stage.unread_of_every_tenth()
    stage.twin.set(match="/instances/", truncate_tenths=True, truncate_ending=ending)
    with ThreadPoolExecutor(len(paths)) as readers:
        assert set(readers.map(stage.read, paths)) == {0}
    stage.twin.reset()


def test_an_archive_whose_quota_is_spent_is_left_alone(stage_of: StageOf) -> None:
    """A whole walk from the bucket, with a try now and then to see whether the archive gives again."""
    stage = stage_of(MULTIPART)
    stage.twin.reset()
    stage.twin.set(match="/dicomWeb/", quota_bytes=0)
    paths = [stage.unread.pop() for _ in range(10)]
    assert [stage.read(path) for path in paths] == [0] * 10
    assert stage.twin.counters()["statuses"].get("429", 0) <= 3
    assert stage.twin.counters()["requests"]["bucket_object"] >= 10
    stage.twin.reset()


@pytest.mark.parametrize("fault", BUCKET_FAULTS, ids=lambda fault: fault.name)
def test_an_object_that_goes_wrong(fault: Fault, bucket_stage: Stage) -> None:
    path = bucket_stage.unread.pop()
    bucket_stage.twin.set(match=".dcm", **fault.knobs)
    assert bucket_stage.read(path) == fault.expected
    bucket_stage.twin.reset()
    assert eventually(lambda: bucket_stage.read(path) == 0)


def test_a_size_that_is_announced_wrongly_is_found_out(stage_of: StageOf) -> None:
    """Where nobody else knows the size it is believed when the file is opened, and the end comes too early then."""
    stage = stage_of(SINGLE)
    path = stage.unread.pop()
    stage.twin.set(match="/instances/", length_error=10)
    assert stage.read(path) in (0, errno.EIO)
    assert eventually(lambda: stage.read(path) == 0)
    stage.twin.reset()


def test_objects_that_end_at_every_tenth(bucket_stage: Stage) -> None:
    for ending in ("close", "clean"):
        paths = bucket_stage.unread_of_every_tenth()
        bucket_stage.twin.set(match=".dcm", truncate_tenths=True, truncate_ending=ending)
        with ThreadPoolExecutor(len(paths)) as readers:
            assert set(readers.map(bucket_stage.read, paths)) == {errno.EIO}
        bucket_stage.twin.reset()
        assert eventually(partial(all_read, bucket_stage, paths))


def all_read(stage: Stage, paths: list[Path]) -> bool:
    return [stage.read(path) for path in paths] == [0] * len(paths)


@pytest.mark.parametrize("fault", BUCKET_LISTING_FAULTS, ids=lambda fault: fault.name)
def test_a_bucket_that_lists_wrongly(fault: Fault, bucket_stage: Stage) -> None:
    """A file is never shown under a name, a size or with contents that are not its own."""
    series = bucket_stage.unlisted.pop()
    bucket_stage.twin.set(match="list-type", **fault.knobs)
    assert errno_of(lambda: [bucket_stage.read(series / name) for name in os.listdir(series)]) == fault.expected
    bucket_stage.twin.reset()
    assert eventually(lambda: errno_of(lambda: os.listdir(series)) == 0)
    (name,) = os.listdir(series)
    assert eventually(lambda: bucket_stage.read(series / name) == 0)


def test_what_the_bucket_served_is_counted(bucket_stage: Stage) -> None:
    path = bucket_stage.unread.pop()
    assert bucket_stage.read(path) == 0
    counters = status(bucket_stage.mount.path)["counters"]
    assert counters["wado_requests"] == 0
    assert counters["bucket_downloads"] > 0

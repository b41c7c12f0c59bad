"""Orthanc's own ways, through a mount: connections that end after 1.0 s, late bodies, studies listed twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from scripts.harness import status
from tests.data import ct_series, multiframe
from tests.mount.conftest import MountMaker
from tests.orthanc import Orthanc

PAUSES_SECONDS = (0.75, 0.85, 0.95, 0.99, 1.0, 1.01, 1.05)
"""Between requests: Orthanc drops a connection that has been idle for 1.0 s, and races whoever uses it just then."""


def test_requests_that_meet_the_end_of_idle_connections(
    mount: MountMaker, orthanc: Orthanc, ct_files: list[Path]
) -> None:
    made = mount(orthanc.url, "--index", "qido", "--prefetch", "0")
    remote = {path.name: path for path in made.path.rglob("*.dcm")}
    unread = list(ct_files)
    with ThreadPoolExecutor(4) as readers:
        for pause in PAUSES_SECONDS:
            time.sleep(pause)
            originals = [unread.pop() for _ in range(4)]
            read = list(readers.map(lambda path: remote[path.name].read_bytes(), originals))
            assert read == [path.read_bytes() for path in originals]
    assert status(made.path)["counters"]["errors"] == 0


def test_a_large_body_that_is_buffered_before_its_first_byte(mount: MountMaker, tmp_path: Path) -> None:
    """Every reader gets the one answer; nobody is told that the time is up while Orthanc reads 63 MB from its disk."""
    path = multiframe(tmp_path / "large", 120, 512)
    content = path.read_bytes()
    with Orthanc() as orthanc:
        assert orthanc.upload(path)
        made = mount(orthanc.url, "--index", "qido", "--timeout", "10")
        (remote,) = made.path.rglob("*.dcm")

        def piece(start: int) -> bool:
            with remote.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), 4096, start) == content[start : start + 4096]

        with ThreadPoolExecutor(4) as readers:
            assert all(readers.map(piece, range(len(content) - 4096, 0, -len(content) // 4)))
        assert remote.read_bytes() == content
        counters = status(made.path)["counters"]
        assert (counters["errors"], counters["downloads"]) == (0, 1)


def test_a_study_that_is_listed_once_for_each_of_its_patients(
    mount: MountMaker, tmp_path: Path, log_of: Callable[[], str]
) -> None:
    """What a path shows is what is stored for its patient; nothing is missing, nothing comes twice."""
    originals = ct_series(tmp_path / "first", 2, 32, study="shared")
    others = ct_series(tmp_path / "second", 3, 32, study="shared", description="of another patient")
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for path in others:
        (renamed / path.name).write_bytes(path.read_bytes().replace(b"TWIN-CT-0001", b"TWIN-CT-0002"))
    stored = [*originals, *renamed.iterdir()]
    with Orthanc() as orthanc:
        assert orthanc.upload_all(stored) == stored
        listed = httpx.get(f"{orthanc.url}/studies", trust_env=False).json()
        assert len(listed) == 2
        assert len({study["0020000D"]["Value"][0] for study in listed}) == 1
        made = mount(orthanc.url, "--index", "qido")
        found = {path.name: path for path in made.path.rglob("*.dcm")}
        assert found.keys() == {path.name for path in stored}
        for path in stored:
            assert found[path.name].read_bytes() == path.read_bytes()
        assert sorted(path.name for path in made.path.glob("*/*")) == ["TWIN-CT-0001", "TWIN-CT-0002"]
        assert len(list(made.path.glob("*/*/*"))) == 2
    assert " ERROR " not in log_of()

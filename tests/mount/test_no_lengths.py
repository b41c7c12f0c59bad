"""A server that does not say how long its files are: only the whole file shows its size, which ``open()`` promises."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.data import ct_series, write_index
from tests.mount.conftest import MountMaker
from tests.mount.stage import contents, counters
from tests.twin.client import Twin


def test_each_file_is_fetched_once_and_the_log_says_why_open_waits(
    mount: MountMaker, twin: Twin, sample: Path, log_of: Callable[[], str]
) -> None:
    twin.set(profile="dcm4chee")
    made = mount(twin.url, "--index", "qido", "--cache-size", "0", "--prefetch", "0")
    assert contents(made.path) == contents(sample)
    assert counters(made)["wado_requests"] == len(contents(sample))
    line = "sends files without telling their length: where no bucket tells it, open() waits"
    assert log_of().count(line) == 1


def test_the_log_says_nothing_of_it_where_lengths_are_told(
    mount: MountMaker, twin: Twin, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", "qido")
    contents(made.path / twin.host_url.removeprefix("http://"))
    assert "without telling their length" not in log_of()


def test_the_bucket_tells_the_length_before_the_file_has_come(
    mount: MountMaker, tmp_path: Path, log_of: Callable[[], str]
) -> None:
    ct_series(tmp_path / "data", 5, 512)
    originals = contents(tmp_path / "data")
    index = write_index(tmp_path / "data", tmp_path / "index.parquet", "ct")
    with Twin(data=tmp_path / "data") as archive, Twin(data=tmp_path / "data") as bucket:
        archive.set(profile="dcm4chee", stall_after_bytes=200_000)
        made = mount(archive.url, "--index", index, "--bucket", bucket.bucket_url("{bucket}"), "--prefetch", "0")
        first, *others = sorted(made.path.rglob("*.dcm"))
        with first.open("rb") as file:  # which would wait for what never comes
            assert os.fstat(file.fileno()).st_size == len(originals[first.stem])
        archive.set(profile="dcm4chee", stall_after_bytes=None)
        assert {path.stem: path.read_bytes() for path in others} == {
            uid: data for uid, data in originals.items() if uid != first.stem
        }
        assert counters(made)["bucket_requests"] == 1 + len(originals)  # the list, and the head of each file
    assert log_of().count("sends files without telling their length") == 1

"""A server that does not say how long its files are: only the whole file shows its size, which ``open()`` promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
    line = "sends files without telling their length: open() waits until a file has come"
    assert log_of().count(line) == 1


def test_the_log_says_nothing_of_it_where_lengths_are_told(
    mount: MountMaker, twin: Twin, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", "qido")
    contents(made.path / twin.host_url.removeprefix("http://"))
    assert "without telling their length" not in log_of()

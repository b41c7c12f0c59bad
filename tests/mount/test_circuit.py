"""An archive that is away is left alone and noticed when it is back, seen from a mount and counted at the archive."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from scripts.harness import Mount, status
from tests.mount.conftest import MountMaker
from tests.mount.stage import a_series, contents, errno_of
from tests.twin.client import Twin
from tests.waiting import eventually

MANY = 200
"""Reads, each of which would be a request, or four, to an archive that is asked every time."""


def open_and_fast(mount: Mount) -> tuple[int, int]:
    """The gauge and the counter of the circuit."""
    counters = status(mount.path)["counters"]
    return counters["circuits_open"], counters["fast_failures"]


def read_many(series: Path, expected: int) -> None:
    """Read its files one after the other, several times; each fails as expected."""
    files = sorted(series.iterdir())
    for number in range(MANY):
        assert errno_of(files[number % len(files)].read_bytes) == expected


def statuses(twin: Twin, code: int) -> int:
    return int(twin.counters()["statuses"].get(str(code), 0))


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if " WARNING " in line or " ERROR " in line]


def test_an_archive_that_fails_everybody_is_left_alone_until_it_is_back(
    mount: MountMaker, twin: Twin, sample_index: Path, sample: Path, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", sample_index, "--timeout", "10", "--prefetch", "0")
    series = a_series(made)
    assert open_and_fast(made) == (0, 0)
    twin.set(fail_always=503)
    read_many(series, errno.EHOSTUNREACH)
    # Four tries for the first, one for each of four more; then one now and then, in pauses that double from 1 s.
    assert 8 <= statuses(twin, 503) <= 8 + 5
    assert open_and_fast(made)[0] == 1
    assert open_and_fast(made)[1] >= MANY - 10
    assert len(complaints(log_of())) <= 5, log_of()
    assert log_of().count("until it answers, calls fail at once") == 1
    twin.reset()
    first = min(series.iterdir())
    assert eventually(lambda: errno_of(first.read_bytes) == 0)
    assert contents(series).items() <= contents(sample).items()
    assert open_and_fast(made)[0] == 0
    assert log_of().count("answers again") == 1


def test_an_archive_that_dies_and_comes_back(
    mount: MountMaker, sample: Path, sample_index: Path, log_of: Callable[[], str]
) -> None:
    with Twin(data=sample) as twin:
        made = mount(twin.url, "--index", sample_index, "--timeout", "10", "--prefetch", "0")
        series = a_series(made)
        before = status(made.path)["counters"]["requests"]
        twin.kill()
        read_many(series, errno.EHOSTUNREACH)
        assert status(made.path)["counters"]["requests"] - before <= 4 + 5
        assert len(complaints(log_of())) == 1, log_of()
        other = next(path for path in made.path.glob("rider_twin/*/*/*"))
        assert errno_of(lambda: os.listdir(other)) == errno.EHOSTUNREACH  # nor are listings asked for
        assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]
        twin.start()
        assert eventually(lambda: errno_of(min(series.iterdir()).read_bytes) == 0)
        assert os.listdir(other)
        assert sum(twin.counters()["requests"].values()) > 0
        assert log_of().count("answers again") == 1


def test_a_quota_is_spent_and_renewed(
    mount: MountMaker,
    as_proxy: Callable[[Twin], str],
    twin: Twin,
    sample_index: Path,
    log_of: Callable[[], str],
) -> None:
    options = ("--index", sample_index, "--timeout", "10", "--prefetch", "0", "--content", "wado")
    made = mount(as_proxy(twin), *options)
    series = a_series(made)
    twin.set(match="/instances/", quota_bytes=2_000_000)
    files = sorted(series.iterdir())
    read = [errno_of(path.read_bytes) for path in files]
    assert read == sorted(read)  # first some that could be had, then none
    assert set(read) == {0, errno.EDQUOT}
    assert 1 <= statuses(twin, 429) <= 1 + 5
    assert open_and_fast(made)[0] == 1
    [complaint] = complaints(log_of())
    assert "the public proxy's daily quota is spent until 00:00 UTC" in complaint
    twin.set(quota_bytes=None)
    assert eventually(lambda: errno_of(files[-1].read_bytes) == 0)
    assert [errno_of(path.read_bytes) for path in files] == [0] * len(files)
    assert open_and_fast(made)[0] == 0


def test_the_same_warning_a_hundred_times_is_one_line(
    mount: MountMaker, twin: Twin, sample_index: Path, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", sample_index)
    path = min(a_series(made).iterdir())
    twin.set(match=path.stem, fail_always=403)
    for _ in range(100):
        assert errno_of(path.read_bytes) == errno.EACCES
    assert len(complaints(log_of())) == 1, log_of()
    assert status(made.path)["counters"]["errors"] == 100

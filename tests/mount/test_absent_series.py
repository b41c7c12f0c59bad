"""A series that the archive does not have, through a real mount: what that costs it in requests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.harness import IDCFS
from tests.mount.conftest import MountMaker
from tests.mount.stage import a_series, contents, counters
from tests.twin.client import Twin


def test_a_series_whose_list_is_kept_and_that_the_archive_does_not_have_costs_it_two_requests(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path
) -> None:
    options = ("--index", sample_index, "--prefetch", "0", "--bucket", twin.bucket_url("{bucket}"))
    before = mount(twin.url, *options, at="before")
    place = a_series(before, 40, "rider_twin").relative_to(before.path)
    subprocess.run([*IDCFS, "umount", before.path], check=True)
    twin.set(missing=[place.name])
    made = mount(twin.url, *options)
    stored = contents(sample)
    series = made.path / place
    assert contents(series) == {path.stem: stored[path.stem] for path in series.iterdir()}
    numbers = counters(made)
    assert (numbers["bucket_downloads"], numbers["wado_requests"], numbers["errors"]) == (40, 2, 0)


def test_what_the_archive_does_not_list_is_not_asked_of_it(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path
) -> None:
    name = a_series(
        mount(twin.url, "--index", sample_index, at="look", cache=tmp_path / "other"), 40, "rider_twin"
    ).name
    twin.set(qido_hidden=[name], missing=[name])
    made = mount(twin.url, "--index", sample_index, "--bucket", twin.bucket_url("{bucket}"))
    (series,) = made.path.glob(f"rider_twin/*/*/{name}")
    stored = contents(sample)
    assert contents(series) == {path.stem: stored[path.stem] for path in series.iterdir()}
    assert (counters(made)["bucket_downloads"], counters(made)["wado_requests"]) == (40, 0)

"""Contents, lists and sizes from the buckets, through a real mount: what WADO-RS cannot serve."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idcfs.settings import MIB
from scripts.harness import IDCFS, Mount
from tests.data import multiframe, write_index
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import WADO, a_series, buckets, contents, counters, sync, unmount
from tests.twin.client import Twin
from tests.waiting import eventually


def sizes(made: Mount) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in made.path.rglob("*.dcm")}


def asked(twin: Twin) -> set[str]:
    """What kinds of request the twin has had."""
    return set(twin.counters()["requests"])


def test_the_buckets_alone_serve_everything(mount: MountMaker, twin: Twin, sample: Path, sample_index: Path) -> None:
    stored = contents(sample)
    made = mount(NOWHERE, "--index", sample_index, "--content", "bucket", *buckets(twin))
    assert sizes(made) == {uid: len(data) for uid, data in stored.items()}  # exact before any is opened
    assert contents(made.path) == stored
    assert asked(twin) == {"bucket_list", "bucket_object"}
    assert counters(made)["errors"] == 0


def test_the_buckets_alone_tell_sizes_of_what_was_listed_without_them(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path
) -> None:
    stored = {uid: len(data) for uid, data in contents(sample).items()}
    before = mount(twin.url, "--index", sample_index, at="before")
    assert sizes(before) != stored
    unmount(before)
    assert sizes(mount(NOWHERE, "--index", sample_index, "--content", "bucket", *buckets(twin))) == stored


def test_what_the_files_are_is_asked_once(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    options = ("--index", sample_index, "--content", "bucket", "--cache-size", "0", *buckets(twin))
    first = mount(NOWHERE, *options)
    known = sizes(first)
    series = a_series(first)
    unmount(first)
    twin.reset()
    again = mount(NOWHERE, *options)
    assert sizes(again) == known
    assert not twin.counters()["requests"]
    min((again.path / series.relative_to(first.path)).iterdir()).read_bytes()
    assert twin.counters()["requests"] == {"bucket_object": 1}


def test_a_quota_that_is_spent_shows_in_the_log_only(
    mount: MountMaker,
    as_proxy: Callable[[Twin], str],
    twin: Twin,
    sample: Path,
    sample_index: Path,
    log_of: Callable[[], str],
) -> None:
    twin.set(match=WADO, quota_bytes=0)
    made = mount(as_proxy(twin), "--index", sample_index, *buckets(twin))
    assert contents(made.path) == contents(sample)
    assert counters(made)["errors"] == 0
    assert "the public proxy's daily quota is spent until 00:00 UTC" in log_of()
    assert "the buckets are read" in log_of()
    assert twin.counters()["statuses"]["429"] < 20  # of 134 lists and files


def test_a_quota_that_is_spent_half_way(
    mount: MountMaker, as_proxy: Callable[[Twin], str], twin: Twin, sample: Path, sample_index: Path
) -> None:
    twin.set(match=WADO, quota_bytes=8_000_000)
    made = mount(as_proxy(twin), "--index", sample_index, *buckets(twin))
    assert contents(made.path) == contents(sample)
    numbers = counters(made)
    assert numbers["errors"] == 0
    assert 0 < numbers["bucket_downloads"] < numbers["downloads"]


@pytest.mark.parametrize("status_code", [404, 403, 500, 400, 204])
def test_an_archive_without_a_series_is_no_archive_without_its_files(
    status_code: int, mount: MountMaker, twin: Twin, sample: Path, sample_index: Path
) -> None:
    made = mount(twin.url, "--index", sample_index, *buckets(twin))
    series = a_series(made, 40, "rider_twin")
    stored = contents(sample)
    twin.set(match=f"{WADO}/studies/{series.parent.name}/series/{series.name}", fail_always=status_code)
    assert contents(series) == {path.stem: stored[path.stem] for path in series.iterdir()}
    assert counters(made)["bucket_downloads"] == 40


def test_a_series_that_the_archive_does_not_list_is_no_empty_directory(
    mount: MountMaker, twin: Twin, sample_index: Path, log_of: Callable[[], str]
) -> None:
    series = a_series(mount(twin.url, "--index", sample_index, at="look"))
    twin.set(qido_hidden=[series.name])
    alone = mount(twin.url, "--index", sample_index, at="alone", cache=series.parents[4] / "empty-1")
    place = Path(*series.parts[-4:])
    with pytest.raises(OSError, match="Stale file handle") as failed:
        os.listdir(alone.path / place)
    assert failed.value.errno == errno.ESTALE
    both = mount(twin.url, "--index", sample_index, *buckets(twin), at="both", cache=series.parents[4] / "empty-2")
    assert sorted(os.listdir(both.path / place)) == sorted(os.listdir(series))
    assert "lists none of its instances" in log_of()


def test_what_the_archive_lists_is_what_is_shown_and_the_difference_is_counted(
    mount: MountMaker, twin: Twin, sample_index: Path, log_of: Callable[[], str]
) -> None:
    made = mount(twin.url, "--index", sample_index)
    series = next(path for path in made.path.glob("rider_twin/*/*/*"))
    study = series.parent
    names = {path: os.listdir(path) for path in study.iterdir()}
    assert counters(made)["series_drifted"] == 0
    many = max(names, key=lambda path: len(names[path]))
    hidden = names[many][0].removesuffix(".dcm")
    twin.set(qido_hidden=[hidden])
    fresh = mount(twin.url, "--index", sample_index, at="fresh", cache=made.path.parent / "fresh-cache")
    shown = os.listdir(fresh.path / many.relative_to(made.path))
    assert sorted(shown) == sorted(set(names[many]) - {f"{hidden}.dcm"})
    assert counters(fresh)["series_drifted"] == 1
    assert f"the index lists {len(names[many])} instances, the archive {len(names[many]) - 1}" in log_of()


def test_what_the_index_does_not_know_of_is_shown_and_counted(
    mount: MountMaker, twin: Twin, sample_index: Path, tmp_path: Path
) -> None:
    """The archive is of a later release: there are more instances in a series than the index says."""
    table = pq.read_table(sample_index)
    fewer = [count - (count == 60) for count in table.column("instanceCount").to_pylist()]
    place = table.schema.get_field_index("instanceCount")
    older = tmp_path / "older.parquet"
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(fewer)), older)
    made = mount(twin.url, "--index", older)
    assert all(path.read_bytes() for path in a_series(made).iterdir())
    assert len(os.listdir(a_series(made))) == 60
    assert counters(made)["series_drifted"] == 1
    assert counters(made)["errors"] == 0


def test_sizes_are_exact_where_that_is_asked_for(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path
) -> None:
    stored = {uid: len(data) for uid, data in contents(sample).items()}
    plain = mount(twin.url, "--index", sample_index, at="plain")
    assert sizes(plain) != stored
    options = ("--index", sample_index, "--exact-sizes", *buckets(twin))
    exact = mount(twin.url, *options, at="exact")
    assert sizes(exact) == stored
    assert counters(exact)["bucket_downloads"] == counters(exact)["wado_requests"] == 0
    twin.reset()
    sync(next(exact.path.rglob("*.dcm")))
    assert sizes(mount(twin.url, *options, at="again")) == stored
    assert not twin.counters()["requests"]


def test_warm_takes_what_it_fetches_from_the_buckets(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, *buckets(twin))
    series = a_series(made)
    twin.reset()
    subprocess.run([*IDCFS, "warm", series], check=True, capture_output=True)
    assert asked(twin) == {"bucket_list", "bucket_object"}
    twin.reset()
    other = a_series(made, 40, "rider_twin")
    min(other.iterdir()).read_bytes()  # and who reads after it does not
    assert "bucket_object" not in asked(twin)


def test_warm_without_buckets_reads_as_ever(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--content", "wado")
    subprocess.run([*IDCFS, "warm", a_series(made)], check=True, capture_output=True)
    assert asked(twin) == {"qido_instances", "wado_instance"}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one instance of 34 MB: more than the proxy can send."""
    directory = tmp_path_factory.mktemp("large") / "archive"
    multiframe(directory, 65, 512)
    return directory


@pytest.fixture
def proxy(large: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """The proxy, as far as its habits are known, and the buckets."""
    with Twin(data=large, profile="proxy", match=WADO) as twin:
        monkeypatch.setenv("IDCFS_PROXY_URL", twin.url)
        yield twin


@pytest.mark.parametrize("series", [1, 2], ids=["size known", "size not known"])
@pytest.mark.parametrize("content", ["auto", "wado"])
def test_what_the_proxy_streams_is_asked_of_it_once(
    content: str, series: int, mount: MountMaker, as_proxy: Callable[[Twin], str], tmp_path: Path
) -> None:
    """Whether it knows ranges is not known before; it must not cost its quota to find out."""
    stored = [multiframe(tmp_path / "data" / str(number), 20, 512, description=str(number)) for number in range(series)]
    with Twin(data=tmp_path / "data", profile="proxy", match=WADO) as twin:
        index = write_index(tmp_path / "data", tmp_path / "index.parquet", "middling")
        where = buckets(twin) if content == "auto" else ()
        made = mount(as_proxy(twin), "--index", index, "--content", content, "--prefetch", "0", *where)
        for original in stored:
            (path,) = made.path.rglob(original.name)
            assert path.read_bytes() == original.read_bytes()
        numbers = counters(made)
        assert numbers["bytes_from_archive"] <= sum(one.stat().st_size for one in stored) + 10_000
        assert (numbers["wado_requests"], numbers["bucket_requests"]) == (series, 0)


def test_what_the_proxy_cannot_send_is_not_asked_of_it(
    mount: MountMaker, proxy: Twin, large: Path, tmp_path: Path
) -> None:
    index = write_index(large, tmp_path / "large.parquet", "large")
    made = mount("proxy", "--index", index, *buckets(proxy))
    (path,) = made.path.rglob("*.dcm")
    (original,) = large.rglob("*.dcm")
    assert path.stat().st_size == original.stat().st_size > 32 * MIB
    assert path.read_bytes() == original.read_bytes()
    assert asked(proxy) == {"qido_instances", "bucket_list", "bucket_object"}


def test_without_the_buckets_it_is_an_error_and_says_why(
    mount: MountMaker, proxy: Twin, large: Path, tmp_path: Path, log_of: Callable[[], str]
) -> None:
    index = write_index(large, tmp_path / "large.parquet", "large")
    made = mount("proxy", "--index", index, "--content", "wado", "--timeout", "10")
    (path,) = made.path.rglob("*.dcm")
    with pytest.raises(OSError, match="No route to host"):
        path.read_bytes()
    assert "32 MiB" in log_of()


def test_two_at_once_share_what_the_files_are(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--content", "bucket", *buckets(twin))
    series = list(made.path.glob("*/*/*/*"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(os.listdir, [path for path in series for _ in range(4)]))
    assert twin.counters()["requests"]["bucket_list"] == len(series)


def test_a_hidden_file_tells_the_mount_of_bulk_and_is_not_listed(
    mount: MountMaker, twin: Twin, sample_index: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    assert ".bulk" not in os.listdir(made.path)
    assert (made.path / ".bulk").read_bytes() == b""
    with pytest.raises(OSError, match="Read-only"):
        (made.path / ".bulk").write_bytes(b"x")


def test_two_places_that_contradict_each_other_are_an_error_and_no_mixture(
    mount: MountMaker, large: Path, tmp_path: Path
) -> None:
    """WADO-RS breaks off in mid-file, and the bucket has other bytes there: of one length, and of one instance."""
    other = tmp_path / "other"
    shutil.copytree(large, other)
    (changed,) = other.rglob("*.dcm")
    (original,) = large.rglob("*.dcm")
    with changed.open("r+b") as file:
        file.seek(4 * MIB)
        file.write(os.urandom(changed.stat().st_size - 4 * MIB))
    index = write_index(large, tmp_path / "large.parquet", "large")
    with Twin(data=large, match=WADO) as archive, Twin(data=other) as bucket:
        made = mount(archive.url, "--index", index, *buckets(bucket))
        (path,) = made.path.rglob("*.dcm")
        archive.set(match=WADO, truncate_after_bytes=8 * MIB)
        whole = (original.read_bytes(), changed.read_bytes())
        assert reads(path) is None
        assert all(reads(path) in (None, *whole) for _ in range(4))
        archive.reset()
        assert eventually(lambda: reads(path) in whole)


def reads(path: Path) -> bytes | None:
    """What is in it, if that can be had."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None

"""``/.metadata`` and ``/.rendered``: what the archive makes of what it stores, as files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from scripts.harness import IDCFS, Mount, run
from tests.mount.conftest import EVICTING, NOWHERE, MountMaker
from tests.mount.stage import a_series, buckets, counters, errno_of, forget_pages, peak_mib, unmount
from tests.twin.client import Twin
from tests.twin.rendered import JPEG, PNG, picture

VIEWS = (".metadata", ".rendered")
TYPES = {".png": PNG, ".jpg": JPEG}


def shown(mount: Mount, view: str, path: Path) -> Path:
    """Where ``path``, of the tree, is in a view."""
    return mount.path / view / path.relative_to(mount.path)


def pictures_of(mount: Mount, series: Path) -> list[Path]:
    return sorted(shown(mount, ".rendered", series).iterdir())


def told(twin: Twin, path: Path) -> bytes:
    """What the archive says of ``path``, a series or a file of one."""
    parts = path.parts[path.parts.index("mnt") + 3 :]
    names = zip(("studies", "series", "instances"), (part.removesuffix(".dcm") for part in parts), strict=False)
    return httpx.get(f"{twin.url}/{'/'.join(word for name in names for word in name)}/metadata").content


def test_they_are_there_but_not_listed(made: Mount) -> None:
    assert not {*VIEWS} & {*os.listdir(made.path)}
    assert not {*VIEWS} & {*subprocess.check_output(["ls", "-a", made.path], text=True).split()}
    found = subprocess.check_output(["find", made.path, "-maxdepth", "4"], text=True)
    assert not any(view in found for view in VIEWS)
    for view in VIEWS:
        assert sorted(os.listdir(made.path / view)) == sorted(os.listdir(made.path))


def test_directories_are_the_trees_and_cost_what_the_trees_cost(made: Mount, twin: Twin) -> None:
    directories = {path.relative_to(made.path) for path in made.path.glob("*/*/*/*")}
    for view in VIEWS:
        mirrored = made.path / view
        assert {path.relative_to(mirrored) for path in mirrored.glob("*/*/*/*") if path.is_dir()} == directories
        assert all((mirrored / path).stat().st_mtime == (made.path / path).stat().st_mtime for path in directories)
    assert counters(made)["requests"] == 0
    for series in sorted(directories):
        names = sorted(os.listdir(made.path / series))
        assert sorted(os.listdir(made.path / ".metadata" / series)) == [f"{name}.json" for name in names]
        assert sorted(os.listdir(made.path / ".rendered" / series)) == [f"{Path(name).stem}.png" for name in names]
        assert (made.path / ".metadata" / f"{series}.json").is_file()
    assert sum(kind != "qido_instances" for kind in twin.counters()["requests"]) == 0
    inodes = [path.lstat().st_ino for path in made.path.rglob("*")]
    inodes += [path.lstat().st_ino for view in VIEWS for path in (made.path / view).rglob("*")]
    assert len(set(inodes)) == len(inodes)


def test_metadata_are_what_the_archive_says(made: Mount, twin: Twin) -> None:
    for series in made.path.glob("*/*/*/*"):
        file = shown(made, ".metadata", series).with_name(f"{series.name}.json")
        content = file.read_bytes()
        assert content == told(twin, series)
        assert file.stat().st_size == len(content)
        instance = next(series.iterdir())
        for name in (f"{instance.name}.json", f"{instance.stem}.json"):
            assert (shown(made, ".metadata", series) / name).read_bytes() == told(twin, instance)
        assert len(json.loads(content)) == len(os.listdir(series))


def test_pictures_are_what_the_archive_renders(made: Mount) -> None:
    series = a_series(made)
    for suffix, media_type in TYPES.items():
        for name in sorted(os.listdir(series))[:5]:
            stem = Path(name).stem
            for called in (stem, name):
                file = shown(made, ".rendered", series) / f"{called}{suffix}"
                assert file.read_bytes() == picture(stem, 1, media_type)
            with Image.open(file) as image:
                image.load()


def test_frames_are_numbered_from_one(made: Mount, twin: Twin) -> None:
    many = next(path for path in made.path.rglob("*.dcm") if b'"00280008"' in told(twin, path))
    count = int(json.loads(told(twin, many))[0]["00280008"]["Value"][0])
    frames = shown(made, ".rendered", many.with_suffix(""))
    assert frames.is_dir()
    assert os.listdir(frames) == []  # as long as nobody knows how many there are
    for frame in (1, 2, count):
        for suffix, media_type in TYPES.items():
            assert (frames / f"{frame}{suffix}").read_bytes() == picture(many.stem, frame, media_type)
    assert errno_of((frames / f"{count + 1}.png").read_bytes) == errno.ENOENT
    for name in ("0.png", "01.png", "-1.png", "1", "1.gif", "1.png.png", f"{2**40}.png"):
        assert not (frames / name).exists()
    shown(made, ".metadata", many).with_name(f"{many.name}.json").read_bytes()
    assert sorted(os.listdir(frames)) == sorted(f"{frame}.png" for frame in range(1, count + 1))
    assert not (frames / f"{count + 2}.png").exists()


def test_sizes_are_provisional_until_it_has_come_and_exact_then(mount: MountMaker, twin: Twin) -> None:
    made = mount(twin.url, "--index", "qido")
    file = pictures_of(made, a_series(made, collection="127*"))[0]
    before = twin.counters()["requests"]
    assert file.stat().st_size == 2**20
    assert twin.counters()["requests"] == before
    copy = made.path.parent / "copy.png"
    subprocess.run(["cp", file, copy], check=True)
    assert file.stat().st_size == copy.stat().st_size == len(picture(file.stem, 1, PNG))
    assert copy.read_bytes() == picture(file.stem, 1, PNG)


def test_however_many_read_it_comes_once_and_is_kept(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--content", "wado")
    series = a_series(made)
    metadata = shown(made, ".metadata", series).with_name(f"{series.name}.json")
    files = [metadata, pictures_of(made, series)[0]]
    twin.set(latency_seconds=0.3)
    with ThreadPoolExecutor(16) as readers:
        read = list(readers.map(Path.read_bytes, files * 8))
    assert len(set(read)) == 2
    twin.set(latency_seconds=0.0)
    forget_pages(*files)
    assert [file.read_bytes() for file in files] == read[:2]
    asked = twin.counters()["requests"]
    assert (asked["metadata"], asked["rendered"]) == (1, 1)

    unmount(made)
    again = mount(NOWHERE, "--index", sample_index, "--offline", at="mnt2")  # another archive may make others
    assert errno_of((again.path / files[1].relative_to(made.path)).read_bytes) == errno.EHOSTUNREACH
    unmount(again)
    again = mount(twin.url, "--index", sample_index, "--offline")
    assert [file.stat().st_size for file in files] == [len(body) for body in read[:2]]
    assert [file.read_bytes() for file in files] == read[:2]
    for missing in (pictures_of(again, series)[1], shown(again, ".metadata", series) / f"{os.listdir(series)[0]}.json"):
        assert errno_of(missing.read_bytes) == errno.EHOSTUNREACH
    assert twin.counters()["requests"] == asked


def test_a_large_one_is_whole_whatever_the_caches_hold(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    padding = 20 * 2**20
    twin.set(rendition="padded", rendition_padding_bytes=padding)
    made = mount(twin.url, "--index", sample_index, *EVICTING)
    series = a_series(made)
    small, large = pictures_of(made, series)[0], shown(made, ".metadata", series).with_name(f"{series.name}.json")
    expected = picture(small.stem, 1, PNG) + bytes(padding)
    assert small.read_bytes() == expected
    assert json.loads(large.read_bytes())
    forget_pages(small, large)
    with small.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, padding) == expected[padding : padding + 4096]
        twin.set(rendition="right")
        for start in range(0, padding, 2**20):
            with contextlib.suppress(OSError):  # what is open is one version, or none
                assert os.pread(file.fileno(), 4096, start) == expected[start : start + 4096]
    assert small.read_bytes() in (expected, picture(small.stem, 1, PNG))


def test_many_large_ones_at_once_do_not_fill_the_memory(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    padding = 40 * 2**20
    twin.set(rendition="padded", rendition_padding_bytes=padding)
    made = mount(twin.url, "--index", sample_index, "--memory-cache", "2MiB", "--cache-size", "0")
    files = pictures_of(made, a_series(made))[:8]
    before = peak_mib(made.pid)
    with ThreadPoolExecutor(len(files)) as readers:
        assert all(len(body) > padding for body in readers.map(Path.read_bytes, files))
    assert peak_mib(made.pid) - before < 250  # all of them are 320 MiB


def test_warmed_ones_are_there_offline(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    series = a_series(made)
    directories = [shown(made, view, series) for view in VIEWS]
    run([*IDCFS, "warm", *directories])
    unmount(made)
    again = mount(twin.url, "--index", sample_index, "--offline")
    run([*IDCFS, "warm", *directories])
    assert counters(again)["errors"] == 0


@pytest.mark.parametrize("rendition", ["html", "empty", "other", "lacking"])
def test_what_is_not_what_was_asked_for_is_an_error(rendition: str, made: Mount, twin: Twin) -> None:
    series = a_series(made)
    metadata = shown(made, ".metadata", series)
    files = [metadata.with_name(f"{series.name}.json"), *pictures_of(made, series)[:1]]
    files += [metadata / f"{min(os.listdir(series))}.json"] if rendition != "lacking" else []
    files += [files[1].with_suffix(".jpg")]
    twin.set(rendition=rendition)
    expected = errno.ESTALE if rendition == "empty" else errno.EIO
    assert [errno_of(file.read_bytes) for file in files] == [expected] * len(files)
    twin.set(rendition="right")
    assert [errno_of(file.read_bytes) for file in files] == [0] * len(files)


def test_metadata_that_are_no_list_are_an_error(made: Mount, twin: Twin) -> None:
    series = a_series(made)
    twin.set(rendition="object")
    file = shown(made, ".metadata", series) / f"{os.listdir(series)[0]}.json"
    assert errno_of(file.read_bytes) == errno.EIO


def test_what_comes_in_one_part_is_unwrapped(made: Mount, twin: Twin) -> None:
    series = a_series(made)
    twin.set(rendition="multipart")
    for file in pictures_of(made, series)[:2]:
        assert file.read_bytes() == picture(file.stem, 1, PNG)
    twin.set(rendition="right")
    expected = told(twin, series)
    twin.set(rendition="multipart")
    assert shown(made, ".metadata", series).with_name(f"{series.name}.json").read_bytes() == expected


@pytest.mark.parametrize("status", [400, 405, 406, 415, 501])
def test_an_archive_that_renders_nothing_is_told_of_once(
    status: int, made: Mount, twin: Twin, log_of: Callable[[], str]
) -> None:
    twin.set(rendered_status=status)
    files = pictures_of(made, a_series(made))[:5]
    assert {errno_of(file.read_bytes) for file in files} == {errno.EOPNOTSUPP}
    lines = [line for line in log_of().splitlines() if "/rendered" in line and "httpx" not in line]
    assert len(lines) == 1, lines
    assert "does not make image/png" in lines[0]
    twin.set(rendered_status=0)
    assert files[0].read_bytes() == picture(files[0].stem, 1, PNG)


def test_buckets_have_files_only(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--content", "bucket", *buckets(twin))
    series = a_series(made)
    assert errno_of(pictures_of(made, series)[0].read_bytes) == errno.EOPNOTSUPP
    file = shown(made, ".metadata", series).with_name(f"{series.name}.json")
    assert errno_of(file.read_bytes) == errno.EOPNOTSUPP
    assert not any("rendered" in kind or "metadata" in kind for kind in twin.counters()["requests"])


def test_they_cannot_be_written_nor_taken_for_something_else(made: Mount) -> None:
    file = pictures_of(made, a_series(made))[0]
    for call, number in (
        (lambda: file.write_bytes(b""), errno.EROFS),
        (lambda: file.unlink(), errno.EROFS),
        (lambda: os.listdir(file), errno.ENOTDIR),
        (lambda: os.stat(file / "x"), errno.ENOTDIR),
        (lambda: os.readlink(file), errno.EINVAL),
        (lambda: file.parent.read_bytes(), errno.EISDIR),
        (lambda: file.with_suffix("").read_bytes(), errno.EISDIR),
        (lambda: file.with_suffix(".gif").read_bytes(), errno.ENOENT),
        (lambda: (file.parent / "1.2.3.png").read_bytes(), errno.ENOENT),
        (lambda: (file.parent / f"{file.stem}.dcm").read_bytes(), errno.ENOENT),
        (lambda: (made.path / ".metadata" / "nobody.json").read_bytes(), errno.ENOENT),
    ):
        assert errno_of(call) == number

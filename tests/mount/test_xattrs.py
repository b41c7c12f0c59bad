"""Extended attributes through a real mount, by the kernel's calls and by the tools that copy them."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.harness import Mount, mounted, run
from tests.mount.conftest import NOWHERE, STRICT, MountMaker, without_bugs
from tests.mount.stage import a_series, counters, errno_of, unmount
from tests.twin.client import Twin

_LIBC = ctypes.CDLL(None, use_errno=True)
FOREIGN = ["security.selinux", "security.capability", "system.posix_acl_access", "system.posix_acl_default"]
PREFIX = "user.idc."


@pytest.fixture(scope="module")
def sampled(sample_twin: Twin, sample_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """The sample archive, for all tests that only look."""
    place = tmp_path_factory.mktemp("xattrs").resolve()
    options = ("--archive", sample_twin.url, "--index", sample_index, "--cache-dir", place / "cache")
    with (
        without_bugs(place / "state"),
        mounted(place / "mnt", *options, state_dir=place / "state", env={**os.environ, **STRICT}) as mount,
    ):
        yield mount


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory on a filesystem that keeps the attributes of users."""
    (tmp_path / "probe").touch()
    os.setxattr(tmp_path / "probe", "user.probe", b"1")
    return tmp_path


def told(path: Path) -> dict[str, str]:
    """The attributes of ``path``, by the end of their names."""
    names = os.listxattr(path, follow_symlinks=False)
    assert all(name.startswith(PREFIX) for name in names)
    return {name.removeprefix(PREFIX): os.getxattr(path, name).decode() for name in names}


def lasting(path: Path) -> dict[str, str]:
    """Those that reading a file does not change."""
    return {name: value for name, value in told(path).items() if not name.startswith(("cached_", "size_"))}


def levels(mount: Mount) -> list[Path]:
    """A file, and all that it is in."""
    file = next(a_series(mount).iterdir())
    return [file, *list(file.parents)[:5]]


def test_each_level_says_what_it_is(sampled: Mount) -> None:
    file, series, study, patient, collection, root = levels(sampled)
    for one in (series, study, patient, collection):
        assert told(one)["collection_id"] == collection.name
    for one in (file, series, study, patient):
        assert told(one)["patient_id"] == patient.name
    for one in (file, series, study):
        assert told(one)["study_uid"] == study.name
        assert study.name in told(one)["viewer_url"]
    for one in (file, series):
        assert told(one)["series_uid"] == series.name
    assert told(file)["instance_uid"] == file.stem
    assert int(told(root)["instance_count"]) == sum(1 for path in sampled.path.rglob("*.dcm"))
    assert int(told(series)["instance_count"]) == 60


def test_getfattr_shows_them(sampled: Mount) -> None:
    for path in levels(sampled):
        shown = run(["getfattr", "-d", "-m", "-", "--absolute-names", path]).splitlines()
        assert sorted(shown[1:-1]) == sorted(f'{PREFIX}{name}="{value}"' for name, value in told(path).items())


def test_sizes_and_what_is_cached_follow_the_reading(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    series = a_series(made)
    file = next(series.iterdir())
    assert (told(file)["size_exact"], told(file)["cached_bytes"]) == ("false", "0")
    size = len(file.read_bytes())
    assert (told(file)["size_exact"], told(file)["size_bytes"], told(file)["cached_bytes"]) == (
        "true",
        str(size),
        str(size),
    )
    assert told(series)["cached_bytes"] == str(size)


def test_what_an_earlier_mount_has_read_counts_as_cached(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    first = mount(twin.url, "--index", sample_index, "--prefetch", "0")
    file = next(a_series(first).iterdir())
    size = len(file.read_bytes())
    unmount(first)
    second = mount(twin.url, "--index", sample_index, "--offline", at="second")
    again = second.path / file.relative_to(first.path)
    assert (told(again)["cached_bytes"], told(again)["size_exact"]) == (str(size), "true")
    assert counters(second)["requests"] == 0


def test_no_request_is_sent_for_them(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    series = [path for path in made.path.glob("*/*/*/*") if told(path)["series_uid"] == path.name]
    assert series
    assert all(told(parent) for path in series for parent in list(path.parents)[:4])
    assert counters(made)["requests"] == 0


def test_other_names_are_not_there(sampled: Mount) -> None:
    for path in levels(sampled):
        for name in ("user.nothing", f"{PREFIX}nothing", "user.idc"):
            assert errno_of(lambda path=path, name=name: os.getxattr(path, name)) == errno.ENODATA  # type: ignore[misc]
        for name in FOREIGN:  # ENOTSUP, of which ls takes note; ENODATA would have it ask for each file
            assert errno_of(lambda path=path, name=name: os.getxattr(path, name)) == errno.ENOTSUP  # type: ignore[misc]


def test_a_buffer_may_be_too_small(sampled: Mount) -> None:
    path = os.fsencode(a_series(sampled))
    wanted = b"user.idc.modality"
    buffer = ctypes.create_string_buffer(1)
    assert _LIBC.getxattr(path, wanted, None, 0) == len(os.getxattr(path, wanted))
    assert _LIBC.getxattr(path, wanted, buffer, 1) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert _LIBC.listxattr(path, None, 0) == sum(len(name) + 1 for name in os.listxattr(path))
    assert _LIBC.listxattr(path, buffer, 1) == -1
    assert ctypes.get_errno() == errno.ERANGE


def test_they_cannot_be_changed(sampled: Mount) -> None:
    for path in levels(sampled):
        for name in (f"{PREFIX}modality", "user.mine"):
            assert errno_of(lambda path=path, name=name: os.setxattr(path, name, b"1")) == errno.EROFS  # type: ignore[misc]
            assert errno_of(lambda path=path, name=name: os.removexattr(path, name)) == errno.EROFS  # type: ignore[misc]


def test_what_is_hidden_has_none(sampled: Mount) -> None:
    uid = a_series(sampled).name
    for name in (".status.json", ".bulk", ".uid", f".uid/{uid}"):
        path = sampled.path / name
        assert os.listxattr(path, follow_symlinks=False) == []
        assert run(["getfattr", "-h", "-d", "-m", "-", "--absolute-names", path]) == ""
    assert told(sampled.path / ".uid" / uid) == {}
    assert os.getxattr(sampled.path / ".uid" / uid, f"{PREFIX}series_uid") == uid.encode()


COPIES: dict[str, Callable[[Path, Path], object]] = {
    "cp": lambda source, target: run(["cp", "-a", source, target]),
    "cp-xattr": lambda source, target: run(["cp", "-r", "--preserve=xattr", source, target]),
    "rsync": lambda source, target: run(["rsync", "-aX", f"{source}/", target]),
    "copytree": shutil.copytree,
    "tar": lambda source, target: tarred(source, target),
}


def tarred(source: Path, target: Path) -> None:
    """A copy by the way of an archive."""
    archive = target.with_suffix(".tar")
    run(["tar", "--xattrs", "-C", source.parent, "-cf", archive, source.name])
    run(["tar", "--xattrs", "--xattrs-include=user.*", "-C", target.parent, "-xf", archive])
    (target.parent / source.name).rename(target)


@pytest.mark.parametrize("way", COPIES)
def test_copies_keep_them(way: str, sampled: Mount, place: Path) -> None:
    source = a_series(sampled)
    target = place / "copy"
    COPIES[way](source, target)
    assert lasting(target) == lasting(source)
    for file in source.iterdir():
        assert lasting(target / file.name) == lasting(file)
        assert (target / file.name).read_bytes() == file.read_bytes()


def test_a_single_file_is_copied_with_them(sampled: Mount, place: Path) -> None:
    file = next(a_series(sampled).iterdir())
    shutil.copy2(file, place / "copy.dcm")
    assert lasting(place / "copy.dcm") == lasting(file)


def test_what_a_server_lists_has_them(mount: MountMaker, twin: Twin) -> None:
    made = mount(twin.url, "--index", "qido")
    (collection,) = made.path.iterdir()
    assert told(collection) == {"collection_id": collection.name}
    series = a_series(made, collection=collection.name)
    assert told(series)["series_uid"] == series.name
    assert told(series)["instance_count"] == "60"
    assert "viewer_url" not in told(series)

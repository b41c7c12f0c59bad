"""Who is compared: each a way to read the same files, most of them a mount that comes off again."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from scripts.bench import curl
from scripts.bench.curl import Spent
from scripts.bench.material import LOCAL_DISK, NGINX, ORTHANC, Material, forget_pages
from scripts.bench.measuring import Skipped
from scripts.harness import Failure, detach, is_mounted, mounted, run

_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.005
_DAVFS_PIDS = Path("/var/run/mount.davfs")
_DAVFS = "davfs2"
"""Its user and its group."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a subject is set up."""

    material: Material
    url: str
    """Of its server, without path and trailing slash."""
    mountpoint: Path
    cache: Path
    """A directory: empty, or with what the same subject has left there. Beside it is room for a log."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A subject that can be read from."""

    root: Path
    """What stands for the tree."""
    seconds: float = 0.0
    """How long it took to stand there."""
    pid: int | None = None
    """The daemon's."""
    by_uid: bool = False
    """Whether studies are on top, without collections and patients."""
    fetch: Callable[[Sequence[Path]], Spent] | None = None
    """Brings files of the tree here, for who reads only what is on the disk."""

    def place(self, path: Path) -> Path:
        """Where a file or directory of the tree is."""
        return self.root.joinpath(*path.parts[2:] if self.by_uid else path.parts)


Stand = Callable[[Ground], AbstractContextManager[Standing]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One of those compared."""

    name: str
    server: str
    stand: Stand = field(repr=False)
    """:raises Skipped: if this machine does not have it, or does not let it."""
    lists: bool = True
    """Whether it shows what it has not fetched."""
    mounts: bool = True
    keeps: bool = True
    """Whether it has a cache of its own."""


@contextmanager
def _idcfs(ground: Ground, *, dicomweb: str, options: Sequence[str] = ()) -> Iterator[Standing]:
    places = ("--archive", f"{ground.url}{dicomweb}", "--index", ground.material.index)
    filled_in = [option.replace("URL", ground.url) for option in options]
    with mounted(
        ground.mountpoint,
        *places,
        *filled_in,
        "--cache-dir",
        ground.cache,
        state_dir=ground.cache.parent / "state",
    ) as mount:
        yield Standing(mount.path, mount.seconds, mount.pid)


@contextmanager
def _rclone(ground: Ground, *, mode: str, remote: Sequence[str], by_uid: str = "") -> Iterator[Standing]:
    """``by_uid``: the directory in which studies are on top, if there is one."""
    _need("rclone")
    filled_in = [word.replace("URL", ground.url) for word in remote]
    kept = ("--vfs-cache-mode", mode, "--cache-dir", str(ground.cache), "--config", "")  # "": there is none
    command = ["rclone", "mount", "--read-only", *kept, *filled_in, str(ground.mountpoint)]
    ground.mountpoint.mkdir(exist_ok=True)
    started = time.perf_counter()
    with (
        (ground.cache.parent / "rclone.log").open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            _wait_for(lambda: is_mounted(ground.mountpoint), "rclone")
            seconds = time.perf_counter() - started
            yield Standing(ground.mountpoint / by_uid, seconds, process.pid, bool(by_uid))
        finally:
            detach(ground.mountpoint)
            _end(process)


@contextmanager
def _davfs(ground: Ground) -> Iterator[Standing]:
    _need("mount.davfs")
    if os.geteuid() != 0:
        raise Skipped("only root mounts with davfs2")
    shutil.chown(ground.cache, "root", _DAVFS)
    ground.cache.chmod(0o775)
    configuration = ground.cache.parent / "davfs.conf"
    # What Linux asks of a directory since 6.16 or so does not fit the 16 KiB that davfs2 has room for: EINVAL. And
    # 50 MiB of cache would be no match for the others', who have no such bound.
    configuration.write_text(f"ask_auth 0\nuse_locks 0\nbuf_size 2048\ncache_size 100000\ncache_dir {ground.cache}\n")
    ground.mountpoint.mkdir(exist_ok=True)
    command = ["mount.davfs", "-o", f"ro,conf={configuration}", f"{ground.url}/webdav", str(ground.mountpoint)]
    started = time.perf_counter()
    run(command)
    seconds = time.perf_counter() - started
    pid = None
    try:
        file = _DAVFS_PIDS / f"{str(ground.mountpoint).strip('/').replace('/', '-')}.pid"
        _wait_for(lambda: file.exists() and file.read_text().endswith("\n"), "mount.davfs")  # it is written in steps
        pid = int(file.read_text())
        yield Standing(ground.mountpoint / "by-uids", seconds, pid, by_uid=True)
    finally:
        detach(ground.mountpoint)
        if pid is not None:
            running = Path(f"/proc/{pid}")
            _wait_for(lambda: not running.exists(), "the end of mount.davfs")


@contextmanager
def _downloaded(ground: Ground) -> Iterator[Standing]:
    tree = ground.cache / "tree"

    def fetch(paths: Sequence[Path]) -> Spent:
        urls = [f"{ground.url}/files/{path}" for path in paths]
        return curl.fetch(urls, ground.cache / "curl", into=[tree / path for path in paths])

    yield Standing(tree, fetch=fetch)


@contextmanager
def _local(ground: Ground) -> Iterator[Standing]:
    forget_pages(ground.material.copy)
    yield Standing(ground.material.copy)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _need(program: str) -> None:
    if shutil.which(program) is None and shutil.which(program, path="/usr/sbin:/sbin") is None:
        raise Skipped(f"{program} is not installed")


def _wait_for(there: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not there():
        if time.monotonic() > deadline:
            raise Failure(f"waited for {what} in vain")
        time.sleep(_LOOK_SECONDS)


_BUCKET = ("--bucket", "URL/bucket/{bucket}")
_OVER_HTTP = (":http:", "--http-url", "URL/files")
_OVER_WEBDAV = (":webdav:", "--webdav-url", "URL/webdav")

SUBJECTS = (
    Subject("idcfs", NGINX, partial(_idcfs, dicomweb="/dicomWeb", options=_BUCKET)),
    Subject("idcfs, bucket", NGINX, partial(_idcfs, dicomweb="/dicomWeb", options=(*_BUCKET, "--content", "bucket"))),
    Subject("rclone, no cache", NGINX, partial(_rclone, mode="off", remote=_OVER_HTTP), keeps=False),
    Subject("rclone, full cache", NGINX, partial(_rclone, mode="full", remote=_OVER_HTTP)),
    Subject("download, then read", NGINX, _downloaded, lists=False, mounts=False),
    Subject("local disk", LOCAL_DISK, _local, mounts=False),
    Subject("idcfs, Orthanc", ORTHANC, partial(_idcfs, dicomweb="/dicom-web")),
    Subject("rclone, Orthanc WebDAV", ORTHANC, partial(_rclone, mode="full", remote=_OVER_WEBDAV, by_uid="by-uids")),
    Subject("davfs2, Orthanc WebDAV", ORTHANC, _davfs),
)
"""In the order in which they are shown.

rclone's cache modes ``minimal`` and ``writes`` are ``off`` for whoever only reads. davfs2 has nginx for no server: it
asks with PROPFIND, for which nginx needs a module that Debian packages apart.
"""

"""A filesystem that calls itself idcfs and means harm: ``python -m tests.security.imposter MOUNTPOINT KIND``.

It has ``/.status.json``, a directory, a file, links by UID that lead elsewhere, and attributes that claim everything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from scripts.harness import detach
from tests.waiting import eventually

ESCAPES = "\x1b]0;pwned\x07\x1b[2J\n\u202eidcfs: all is well"
"""What no terminal may get to see."""
UID, EVIL_UID, GOOD_UID = "1.2.3", "1.2.4", "1.2.5"
_COUNTERS = ("hits", "misses", "bytes_from_archive", "bytes_from_buckets", "open_files", "running_downloads", "errors")
_CIRCUIT = {"archive": ESCAPES, "open": True, "quota": True, "why": ESCAPES, "until": 2**34}
REPORT: dict[str, Any] = {
    **dict.fromkeys(("idcfs", "mountpoint", "archive", "url", "content", "index", "layout", "buckets"), ESCAPES),
    **dict.fromkeys(("bucket_url", "log_file"), ESCAPES),
    "pid": 1,
    "offline": False,
    "cache_dir": ESCAPES,
    "started": 2**34,
    "metrics_port": 10**4000,
    "cohort": {"collections": [ESCAPES], "where": ESCAPES, "manifest": ESCAPES},
    "circuits": [_CIRCUIT],
    "downloads": [{"uid": ESCAPES, "got": 2**62, "size": -1}],
    "counters": dict.fromkeys((*_COUNTERS, "disk_cache_capacity", "disk_unkept", ESCAPES), 2**62),
}
_ATTRIBUTES = ("path", "what", "mountpoint", "content", "license", "size_bytes", "series_count", "size_exact")
_NAMES = {".status.json": 2, "file": 3, ".uid": 4, ".uid-at-hand": 4, "directory": 7}
_LINKS = {UID: 5, EVIL_UID: 6, GOOD_UID: 8}
_TARGETS = {5: b"../../../../etc/passwd", 6: f"../{ESCAPES}".encode(), 8: b"../file"}


class _Imposter(pyfuse3.Operations):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._status = json.dumps(REPORT).encode()

    async def lookup(self, parent: Any, name: Any, ctx: Any = None) -> Any:
        number = (_NAMES if parent == pyfuse3.ROOT_INODE else _LINKS).get(os.fsdecode(name))
        if number is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(number)

    async def getattr(self, inode: Any, ctx: Any = None) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        kind = stat.S_IFDIR if inode in (1, 4, 7) else stat.S_IFLNK if inode in _TARGETS else stat.S_IFREG
        entry.st_mode = pyfuse3.ModeT(kind | 0o755)
        entry.st_size = 10**13 if self._kind == "endless" else len(self._status)
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        return entry

    async def readlink(self, inode: Any, ctx: Any = None) -> Any:
        return _TARGETS[inode]

    async def open(self, inode: Any, flags: Any, ctx: Any = None) -> Any:
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, fh: Any, off: int, size: int) -> bytes:
        return b"[" * size if self._kind == "endless" else self._status[off : off + size]

    async def listxattr(self, inode: Any, ctx: Any = None) -> Any:
        return [f"user.idc.{name}".encode() for name in _ATTRIBUTES]

    async def getxattr(self, inode: Any, name: Any, ctx: Any = None) -> bytes:
        return b"9" * 5_000 if name.endswith(b"size_bytes") else ESCAPES.encode()


@contextlib.contextmanager
def imposter(place: Path, kind: str) -> Iterator[Path]:
    """One at ``place``: ``talking`` says what no idcfs would and ``endless`` never ends."""
    place.mkdir()
    with subprocess.Popen([sys.executable, "-m", __spec__.name, place, kind]) as process:
        try:
            assert eventually(lambda: os.path.ismount(place))
            yield place
        finally:
            detach(place)
            process.kill()


async def _main(mountpoint: str, kind: str) -> None:
    pyfuse3.init(_Imposter(kind), mountpoint, {"fsname=idcfs", "subtype=idcfs"})
    await pyfuse3.main()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1], sys.argv[2])

"""What stays in memory though the kernel is told to forget all: servers and programs are no slower after that."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from scripts.harness import Failure

_FORK = multiprocessing.get_context("fork")
_SYSTEM = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@contextmanager
def held(files: Sequence[Path]) -> Iterator[None]:
    """Have a process of its own map the files: of what is mapped the kernel forgets nothing.

    :raises Failure: if they cannot be.
    """
    ours, theirs = _FORK.Pipe()
    process = _FORK.Process(target=_hold, args=(files, theirs, ours), daemon=True)
    process.start()
    theirs.close()
    try:
        try:
            ours.recv()
        except EOFError:
            raise Failure("what servers read cannot be held in memory") from None
        yield
    finally:
        process.kill()  # who was forked meanwhile has the pipe too
        process.join()
        ours.close()


def files_below(*directories: Path) -> list[Path]:
    """All that have bytes, but no links to them."""
    paths = (path for directory in directories for path in directory.rglob("*"))
    return [path for path in paths if path.is_file() and not path.is_symlink() and path.stat().st_size]


def files_of_programs(names: Iterable[str]) -> list[Path]:
    """Those of the programs that are here, and the libraries that they load."""
    found = [path for name in names if (path := shutil.which(name, path=_SYSTEM))]
    files = set(found)
    for path in found:
        done = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
        files.update(re.findall(r"/\S+", done.stdout))
    return [Path(file) for file in sorted(files) if os.path.isfile(file)]


def _hold(files: Sequence[Path], pipe: Connection, parents: Connection) -> None:
    """In the new process: until it is killed, or nobody has the other end of ``pipe`` any more."""
    parents.close()
    os.setsid()  # Ctrl-C is for who started it
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # Python keeps each file open
    mapped = [_mapped(file) for file in files]
    pipe.send(len(mapped))
    with pipe:
        pipe.poll(None)


def _mapped(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)

"""A real mount over a real server, each a process: the face of the second machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import struct
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from idcfs.settings import BLOCKS_NAME, MIB, STORE_NAME
from scripts.harness import Mount, mounted, status
from tests.model.face import DirectoryPath, Options, Piece, Size
from tests.model.reference import ROUND_BYTES, Reference
from tests.model.stored import write_files
from tests.mount.conftest import SIGNS_OF_A_BUG, STRICT, logs
from tests.twin.client import Twin
from tests.waiting import eventually

TIMEOUT_SECONDS = 20.0
"""Long enough for a machine that others use as well: nothing here waits for it."""
ENTRY_BYTES = 40
"""Room for one of the names here; the kernel asks the mount again from the cookie of the last one that fitted."""
_HEAD = struct.Struct("=QqHB")

_libc = ctypes.CDLL(None, use_errno=True)


class KernelFace:
    """``face.Face``."""

    def __init__(self, index: Path, catalog: Path) -> None:
        """
        :param catalog: that of ``index``, made before.
        """
        self._index = index
        self._catalog = catalog
        self._stack = ExitStack()
        self._once_exact: defaultdict[DirectoryPath, set[int]] = defaultdict(set)

    def start(self, options: Options, reference: Reference) -> None:
        self._options = options
        self._top = Path(tempfile.mkdtemp(prefix="idcfs-model-")).resolve()
        self._stack.callback(shutil.rmtree, self._top)
        self._files, self._state, self._place = (self._top / name for name in ("files", "state", "mnt"))
        write_files(self._files, {uid: (plan, data) for plan, uid, data in reference.contents()})
        self._twin = self._stack.enter_context(Twin(data=self._files, **options.habits))
        self._is_listening = True
        self._live = self._stack.enter_context(ExitStack())
        self._cache = self._top / "cache"
        self._mount(is_empty=True)

    def stop(self) -> None:
        self._stack.close()

    def remount(self, *, is_empty: bool) -> None:
        self._live.close()
        self._mount(is_empty=is_empty)

    def kill(self) -> None:
        """End the mount's process at once, and mount again with the same cache directory."""
        os.kill(self._mounted.pid, signal.SIGKILL)
        self._live.close()
        self._mount(is_empty=False)

    def _mount(self, *, is_empty: bool) -> None:
        self._once_exact.clear()  # another mount: the kernel knows nothing of sizes
        if is_empty:
            shutil.rmtree(self._cache, ignore_errors=True)
            self._cache.mkdir(mode=0o700)
            shutil.copy(self._catalog, self._cache)
        self.blocks, self.store = self._cache / BLOCKS_NAME, self._cache / STORE_NAME
        options = self._options
        words: list[str | Path] = ["--archive", self._twin.url, "--index", self._index, "--cache-dir", self._cache]
        words += ["--content", options.policy, "--timeout", str(TIMEOUT_SECONDS), "--prefetch", str(options.prefetch)]
        words += ["--memory-cache", f"{options.memory_bytes // MIB}MiB"]
        words += ["--cache-size", f"{options.disk_bytes // MIB}MiB" if options.disk_bytes else "0"]
        if options.policy != "wado":
            words += ["--bucket", self._twin.bucket_url("{bucket}")]
        mount = mounted(self._place, *words, state_dir=self._state, env={**os.environ, **STRICT})
        self._mounted: Mount = self._live.enter_context(mount)

    # --- the archive -------------------------------------------------------------------------------------------------

    def change(self, reference: Reference) -> None:
        write_files(self._files, {uid: (plan, data) for plan, uid, data in reference.contents()})
        if self._is_listening:
            self._twin.scan()

    def break_down(self, match: str, knobs: Mapping[str, Any]) -> None:
        self._listen()
        self._twin.reset()
        self._twin.set(match=match, **knobs)

    def refuse(self, match: str) -> None:
        if match == "/":
            self._twin.kill()
            self._is_listening = False
        else:
            self.break_down(match, {"refuse_always": "close"})

    def repair(self) -> None:
        self._listen()
        self._twin.reset()
        os.kill(self._mounted.pid, signal.SIGHUP)
        assert eventually(lambda: not any(one["open"] for one in status(self._place)["circuits"]))

    def _listen(self) -> None:
        if not self._is_listening:
            self._twin.start()
            self._is_listening = True

    # --- the filesystem ----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def forget(self) -> None:
        """What the kernel keeps of files that are open; what the mount has in memory goes by itself."""
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith(str(self._place)):
                    os.posix_fadvise(int(name), 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        directory = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def opendir(self, path: DirectoryPath) -> int:
        return os.open(self._at(path), os.O_RDONLY | os.O_DIRECTORY)

    def entries(self, handle: int, start: int, count: int) -> list[tuple[str, int]]:
        os.lseek(handle, start, os.SEEK_SET)
        buffer = ctypes.create_string_buffer(count * ENTRY_BYTES)
        size = _libc.getdents64(handle, buffer, len(buffer))
        if size < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        found, at = list[tuple[str, int]](), 0
        while at < size:
            _, following, length, _ = _HEAD.unpack_from(buffer, at)
            name = buffer.raw[at + _HEAD.size : at + length].split(b"\0")[0]
            found.append((name.decode(), following))
            at += length
        return found

    def closedir(self, handle: int) -> None:
        os.close(handle)

    def exists(self, path: DirectoryPath) -> bool:
        try:
            os.stat(self._at(path))
        except FileNotFoundError:
            return False
        return True

    def size(self, path: DirectoryPath) -> Size:
        """As the attributes have it: the kernel may keep a provisional size for some seconds more, and one that was
        exact, and is in doubt, until the file is opened again."""
        place = self._at(path)
        is_exact = os.getxattr(place, "user.idc.size_exact") == b"true"
        told = int(os.getxattr(place, "user.idc.size_bytes"))
        shown = os.stat(place).st_size
        before = set[int]() if is_exact else self._once_exact[path]
        assert shown in {told, *before} or shown % ROUND_BYTES == 0, f"{path}: {shown} bytes, or {told}"
        return Size(told, is_exact)

    def open(self, path: DirectoryPath) -> tuple[int, int]:
        handle = os.open(self._at(path), os.O_RDONLY)
        size = os.fstat(handle).st_size
        self._once_exact[path].add(size)
        return handle, size

    def read(self, piece: Piece) -> bytes:
        """What the kernel had before an error it gives first; the error comes with what is asked for next."""
        got = b""
        while len(got) < piece.length:
            data = os.pread(piece.handle, piece.length - len(got), piece.offset + len(got))
            if not data:
                break
            got += data
        return got

    def read_together(self, pieces: Sequence[Piece]) -> list[bytes | OSError]:
        def read(piece: Piece) -> bytes | OSError:
            try:
                return self.read(piece)
            except OSError as error:
                return error

        with ThreadPoolExecutor(len(pieces)) as readers:
            return list(readers.map(read, pieces))

    def close(self, handle: int) -> None:
        os.close(handle)

    def bugs(self) -> str:
        lines = logs(self._state).splitlines()
        return "\n".join(line for line in lines if any(sign in line for sign in SIGNS_OF_A_BUG))

    def _at(self, path: DirectoryPath) -> Path:
        return self._place.joinpath(*path)

"""The kernel's face of the filesystem: the only module that knows pyfuse3. It translates, guards and decides nothing.

Rules that come from measuring: pyfuse3 dies of any exception but ``FUSEError``, so every handler is guarded; a name
that is not there is answered with inode 0 and a timeout, so that the kernel remembers its absence; attributes that
``open`` made exact are invalidated before it answers; what was read ahead in vain the kernel asks for once more, page
by page, within the same call of a program, which must not wait for the timeout again.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FileNameT, FUSEError, InodeT, StatvfsData

from .errors import Damaged, DeadlinePassed, IdcfsError, NotFound, UsageError, errno_of
from .filesystem import Filesystem
from .settings import BLOCK_BYTES, Owner
from .stats import Stats
from .views.view import Attributes, Kind

P = ParamSpec("P")
R = TypeVar("R")

LASTING_SECONDS = 86_400.0
"""Timeout of what does not change while the mount lives: names, directories, exact sizes."""
PROVISIONAL_SECONDS = 10.0
"""Timeout of a provisional size; opening the file ends it sooner."""

MAX_TASKS = 500
"""Requests worked on at once: with fewer, blocked reads would delay ``stat`` (docs/measured.md)."""

_RETRY_SECONDS = 3.0
"""So soon after a read that was in vain the kernel asks for the same anew, page by page, within the same read(2): for
each program that reads it, one after the other. So it does for all who have waited to look up a name in a directory."""
_RETRY_PATIENCE_SECONDS = 1.0
"""The timeout has been waited for by then; what is kept comes within it, or what a new connection brings from afar."""
_LAST_PATIENCE_SECONDS = 0.1
"""For who comes after one whose patience was in vain."""

_MODES = {Kind.DIRECTORY: stat.S_IFDIR | 0o755, Kind.FILE: stat.S_IFREG | 0o644}
"""Writing is EROFS whatever they say. Copies take them over, and of a directory of 0555 nobody but root can delete his
copy, nor fill it: ``rsync -X`` and ``tar --xattrs`` fail."""
_LINK_MODE = stat.S_IFLNK | 0o777  # symlink(7): nobody looks at them
_STATFS_UNIT = 4096
_NOT_SHARED = (
    "-o allow_other, or allow_root: this machine lets only root share a mount; "
    "for others, root has to write the line user_allow_other into /etc/fuse.conf"
)


@dataclass(slots=True)
class _InVain:
    """A read, or lookup, that ended with ETIMEDOUT."""

    inode: InodeT
    """Of the file, not of who has it open: all who read it wait for the same pages in the kernel. Or of the directory,
    in which the kernel has one lookup at a time."""
    start: int
    stop: int
    until: float
    """When nobody asks for it on behalf of the same call any more, by trio's clock."""
    patience_seconds: float = _RETRY_PATIENCE_SECONDS
    """How long who asks for it until then waits."""


log = logging.getLogger(__name__)


def _guarded(
    handler: Callable[Concatenate[Adapter, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Adapter, P], Coroutine[Any, Any, R]]:
    """Turn every exception of ``handler`` into an errno: known ones by the table, a bug into EIO and a traceback."""

    @functools.wraps(handler)
    async def guarded(self: Adapter, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except IdcfsError as error:
            raise FUSEError(self.errno_for(handler.__name__, error)) from None
        except Exception:
            self.stats.count("errors")
            log.exception("%s failed: this is a bug", handler.__name__)
            raise FUSEError(errno.EIO) from None

    return guarded


async def _read_only(*_: object, **__: object) -> Any:
    raise FUSEError(errno.EROFS)


_refuse: Any = _read_only  # one body for a dozen signatures


class Adapter(pyfuse3.Operations):
    """Every operation of a read-only filesystem, as pyfuse3 wants it.

    Not here, on purpose: flush and fsync of files. pyfuse3 answers ENOSYS for them, which makes the kernel answer by
    itself from then on, with success: a request saved per close.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, filesystem: Filesystem, stats: Stats, owner: Owner) -> None:
        super().__init__()
        self.stats = stats
        self._filesystem = filesystem
        self._uid = os.getuid() if owner.uid is None else owner.uid
        self._gid = os.getgid() if owner.gid is None else owner.gid
        self._modes = {kind: pyfuse3.ModeT(mode & ~owner.umask) for kind, mode in _MODES.items()}
        self._modes[Kind.LINK] = pyfuse3.ModeT(_LINK_MODE)
        self._inodes: dict[int, InodeT] = {}
        """Of open files, by handle."""
        self._in_vain: list[_InVain] = []

    def errno_for(self, what: str, error: IdcfsError) -> int:
        """The errno that ``error`` of the call ``what`` is answered with; counted, and told in the log once."""
        number = errno_of(error)
        if not isinstance(error, NotFound):
            self.stats.count("errors")
            loud = logging.ERROR if isinstance(error, Damaged) else logging.WARNING
            log.log(logging.DEBUG if error.reported else loud, "%s: %s [%s]", what, error, errno.errorcode[number])
        return number

    # --- names and attributes ----------------------------------------------------------------------------------------

    @_guarded
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: Any) -> EntryAttributes:
        attributes = await self._once(parent_inode, 0, 1, lambda: self._filesystem.lookup(parent_inode, name))
        if attributes is None:
            return _absent()
        return self._entry(attributes)

    @_guarded
    async def getattr(self, inode: InodeT, ctx: Any) -> EntryAttributes:
        return self._entry(await self._filesystem.getattr(inode))

    @_guarded
    async def access(self, inode: InodeT, mode: int, ctx: Any) -> bool:
        if mode & os.W_OK:
            raise FUSEError(errno.EROFS)
        return True

    @_guarded
    async def readlink(self, inode: InodeT, ctx: Any) -> FileNameT:
        return FileNameT(await self._filesystem.readlink(inode))

    @_guarded
    async def getxattr(self, inode: InodeT, name: bytes, ctx: Any) -> bytes:
        if not name.startswith(b"user."):
            raise FUSEError(errno.ENOTSUP)  # not ENODATA: ``ls`` would ask again for each file (docs/measured.md)
        value = await self._filesystem.xattr(inode, name)
        if value is None:
            raise FUSEError(errno.ENODATA)
        return value

    @_guarded
    async def listxattr(self, inode: InodeT, ctx: Any) -> list[bytes]:
        return list(await self._filesystem.xattrs(inode))

    @_guarded
    async def statfs(self, ctx: Any) -> StatvfsData:
        totals = self._filesystem.totals()
        data = StatvfsData()
        data.f_bsize = data.f_frsize = _STATFS_UNIT
        data.f_blocks = -(-totals.size // _STATFS_UNIT)
        data.f_files = totals.instances
        data.f_bfree = data.f_bavail = data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data

    async def forget(self, inode_list: Any) -> None:
        """Nothing to do: inode numbers are arithmetic."""

    # --- directories -------------------------------------------------------------------------------------------------

    @_guarded
    async def opendir(self, inode: InodeT, ctx: Any) -> FileHandleT:
        return FileHandleT(await self._filesystem.opendir(inode))

    @_guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: Any) -> None:
        for name, attributes, following in self._filesystem.readdir(fh, start_id):
            if not pyfuse3.readdir_reply(token, name, self._entry(attributes), following):
                break

    @_guarded
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._filesystem.sync()

    @_guarded
    async def releasedir(self, fh: FileHandleT) -> None:
        self._filesystem.releasedir(fh)

    # --- files -------------------------------------------------------------------------------------------------------

    @_guarded
    async def open(self, inode: InodeT, flags: int, ctx: Any) -> FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise FUSEError(errno.EROFS)
        opened = await self._filesystem.open(inode)
        self._inodes[opened.handle] = inode
        if opened.resized:
            pyfuse3.invalidate_inode(inode, attr_only=True)
        return FileInfo(
            fh=FileHandleT(opened.handle), keep_cache=not (opened.live or opened.replaced), direct_io=opened.live
        )

    @_guarded
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return await self._once(self._inodes[fh], off, off + size, lambda: self._filesystem.read(fh, off, size))

    async def _once(self, inode: InodeT, start: int, stop: int, work: Callable[[], Awaitable[R]]) -> R:
        """``work``, which nobody waits for as long as for what has just been in vain: all wait in turn in the kernel.

        :param start: of what it is about, of a file; of a directory all is one.
        """
        began = trio.current_time()
        if lately := self._lately_in_vain(inode, start, stop):
            with trio.move_on_after(min(one.patience_seconds for one in lately)):
                return await work()
            for one in lately:
                one.patience_seconds = _LAST_PATIENCE_SECONDS
            raise FUSEError(errno.ETIMEDOUT)  # told and counted before
        try:
            return await work()
        except DeadlinePassed:
            now = trio.current_time()
            if now - began > _RETRY_PATIENCE_SECONDS:  # else nobody has waited: the archive is known to be away
                self._in_vain.append(_InVain(inode, start, stop, now + _RETRY_SECONDS))
            raise

    def _lately_in_vain(self, inode: InodeT, start: int, stop: int) -> list[_InVain]:
        """What has been waited for in vain of these bytes of a file, or of a directory; forgets what is long over."""
        if not self._in_vain:
            return []
        now = trio.current_time()
        self._in_vain = [one for one in self._in_vain if now < one.until]
        return [one for one in self._in_vain if one.inode == inode and one.start < stop and start < one.stop]

    @_guarded
    async def release(self, fh: FileHandleT) -> None:
        del self._inodes[fh]
        self._filesystem.release(fh)

    # --- writes: there are none --------------------------------------------------------------------------------------

    setattr = mknod = mkdir = unlink = rmdir = symlink = rename = link = create = write = _refuse
    setxattr = removexattr = _refuse

    # --- inside ------------------------------------------------------------------------------------------------------

    def _entry(self, attributes: Attributes) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = InodeT(attributes.inode)
        entry.generation = 0
        entry.entry_timeout = LASTING_SECONDS
        entry.attr_timeout = LASTING_SECONDS if attributes.lasting else PROVISIONAL_SECONDS
        entry.st_mode = self._modes[attributes.kind]
        entry.st_nlink = 1  # for a directory: "not counted", so that nobody infers a number of subdirectories from it
        entry.st_uid = self._uid
        entry.st_gid = self._gid
        entry.st_size = attributes.size
        entry.st_blksize = BLOCK_BYTES  # what programs are advised to read at once
        entry.st_blocks = attributes.blocks
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.modified * 1_000_000_000
        return entry


def _absent() -> EntryAttributes:
    """No such name: to be remembered by the kernel."""
    entry = EntryAttributes()
    entry.st_ino = InodeT(0)
    entry.entry_timeout = LASTING_SECONDS
    return entry


@contextmanager
def _stderr_into(lines: list[str]) -> Iterator[None]:
    """Adds to ``lines`` what libfuse and fusermount3 print meanwhile: they know no other way to say why."""
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            lines += file.read().decode(errors="backslashreplace").splitlines()


@contextmanager
def mounted(adapter: Adapter, mountpoint: Path, options: Collection[str], source_name: str) -> Iterator[None]:
    """Mount ``adapter`` at ``mountpoint`` and unmount it at the end, however that comes.

    :param source_name: what the mount table has in the place of a device.
    :raises IdcfsError: if the kernel or libfuse refuses, with what libfuse says.
    """
    name = source_name.replace("\\", r"\\").replace(",", r"\,")  # libfuse reads escapes
    said: list[str] = []
    try:
        with _stderr_into(said):
            pyfuse3.init(
                adapter, str(mountpoint), {*options, "default_permissions", "ro", f"fsname={name}", "subtype=idcfs"}
            )
    except RuntimeError as error:
        if any("user_allow_other" in line for line in said):
            raise UsageError(_NOT_SHARED) from None
        raise IdcfsError(f"cannot mount at {mountpoint}: {said[-1] if said else error}") from None
    for line in said:
        log.warning("%s", line)
    try:
        yield
    finally:
        pyfuse3.close(unmount=True)


async def answer_requests() -> None:
    """Answer the kernel until unmounted or cancelled."""
    await pyfuse3.main(max_tasks=MAX_TASKS)

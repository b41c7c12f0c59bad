"""Checks of ``idcfs doctor`` that ask nobody: the kernel's side, packages, the index, directories, mounts."""

from __future__ import annotations

import errno
import os
import platform
import pwd
import re
import shlex
import shutil
import stat
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from .. import mounts, options, trust
from ..errors import AccessDenied, IdcfsError, UsageError
from ..running import read_status
from ..settings import BLOCKS_NAME, GIB
from .finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FUSE_CONF = Path("/etc/fuse.conf")
_KERNEL_LIBRARY = "pyfuse3"
"""The one package whose C library may be missing though it is installed itself."""
_SHOWN = ("pyfuse3", "idc-index-data")
"""Packages whose versions are worth a look when all is well."""
_OLD_DAYS = 240
"""IDC has a release every two to four months (the dates are in the packaged index)."""
_DAY_SECONDS = 86_400


def fuse_device(device: Path = mounts.FUSE_DEVICE) -> Finding:
    """Whether the kernel lets this user speak FUSE."""
    check = "fuse device"
    refusal = mounts.refusal_of_fuse(device)
    return Finding.ok(check, f"{device} can be opened") if refusal is None else Finding.fail(check, *refusal)


def fusermount() -> Finding:
    """Whether there is what mounts for users, and unmounts for all."""
    check, program = "fusermount3", shutil.which("fusermount3")
    if program is None:
        return Finding.fail(check, "it is not installed, or not on your PATH", "install the package fuse3")
    if os.geteuid() == 0:
        return Finding.ok(check, program)
    status = os.stat(program)
    if not (status.st_mode & stat.S_ISUID and status.st_uid == 0):
        return Finding.fail(
            check, f"{program} is not setuid root, so it cannot mount for you", f"as root: chmod u+s {program}"
        )
    if _has_no_new_privileges():
        return Finding.fail(
            check, "here no program may gain privileges, so it cannot mount for you", "run without no_new_privs"
        )
    return Finding.ok(check, f"{program}, setuid root")


def _has_no_new_privileges() -> bool:
    return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()


def other_users(conf: Path = FUSE_CONF) -> Finding:
    """Whether this user may let others see a mount."""
    check = "other users"
    if os.geteuid() == 0:
        return Finding.ok(check, "they see what you mount with -o allow_other")
    text = ""
    with suppress(OSError):
        text = conf.read_text(errors="replace")
    if re.search(r"^\s*user_allow_other\s*$", text, re.MULTILINE):
        return Finding.ok(check, "they see what you mount with -o allow_other")
    remedy = f"if they shall, add the line user_allow_other to {conf}, as root"
    return Finding.warn(check, "what you mount, you alone can see: -o allow_other is refused", remedy)


def packages() -> Finding:
    """Whether every package is there, as new as it has to be, and the one that knows the kernel can be loaded."""
    from packaging.requirements import Requirement  # here, not above: the other commands do without

    check, remedy = "packages", "make setup, in the checkout"
    try:
        wanted = [Requirement(text) for text in requires("idcfs") or ()]
    except PackageNotFoundError:
        return Finding.fail(check, "idcfs runs from a directory in which it is not installed", remedy)
    wrong = [said for one in wanted if (said := _wrong_with(one))]
    if wrong:
        return Finding.fail(check, "; ".join(wrong), remedy)
    try:
        import_module(_KERNEL_LIBRARY)
    except ImportError as error:
        return Finding.fail(check, f"{_KERNEL_LIBRARY} cannot be loaded: {error}", "install the package libfuse3-3")
    shown = ", ".join(f"{name} {version(name)}" for name in _SHOWN)
    return Finding.ok(check, f"idcfs {version('idcfs')}, Python {platform.python_version()}, {shown}")


def _wrong_with(wanted: Requirement) -> str:
    """What is wrong with the package; empty if nothing, or if it is not for here."""
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return ""
    try:
        there = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed"
    fits = wanted.specifier.contains(there, prereleases=True)
    return "" if fits else f"{wanted.name} {there} is there, and {wanted.specifier} is needed"


def packaged_index() -> Finding:
    """Which release of IDC is listed, and how old that is."""
    from ..namespace.build import packaged_index as packaged  # here, not above: it loads all of pyarrow

    check = "index"
    remedy = f"{shlex.quote(sys.executable)} -m pip install --upgrade idc-index-data"
    try:
        _, releases = packaged()
    except (IdcfsError, OSError) as error:
        return Finding.fail(check, str(error), remedy)
    release = max(releases, default=0)
    days = max(0, int((time.time() - releases.get(release, 0)) // _DAY_SECONDS))
    said = f"IDC release {release}, {days:,} days old"
    if days > _OLD_DAYS:
        return Finding.warn(check, f"{said}: what came later is not listed", remedy)
    return Finding.ok(check, said)


def cache(directory: Path, size_bytes: int) -> Finding:
    """Whether what is fetched can be kept.

    :param size_bytes: of contents, at most.
    """
    check = "cache"
    if (said := _unwritable(directory)) is not None:
        return Finding.fail(check, said, "give another place with --cache-dir, or make it yours")
    from ..content import upkeep
    from ..content.amounts import spare_on_disk

    try:
        kept = upkeep.info(directory / BLOCKS_NAME).bytes
    except IdcfsError as error:
        return Finding.fail(check, str(error), "give another place with --cache-dir")
    room = max(0, spare_on_disk(mounts.nearest(directory)))
    said = f"{directory}: {_gib(kept)} kept, room for {_gib(room)} more"
    if room + kept < size_bytes:
        remedy = "make room on that disk, or give less, or another place with --cache-dir"
        return Finding.warn(check, f"{said}, which is less than --cache-size {_gib(size_bytes)}", remedy)
    return Finding.ok(check, said)


def state_directory() -> Finding:
    """Whether a mount in the background can write its log."""
    directory = options.log_file(Path("/")).parent
    if (said := _unwritable(directory)) is not None:
        return Finding.fail("log", said, "make it yours, or set XDG_STATE_HOME, or mount with -f")
    return Finding.ok("log", f"{directory}/<mountpoint>.log")


def _unwritable(directory: Path) -> str | None:
    """Why nothing can be, or is, written into ``directory``, which need not exist yet; None if it can."""
    # A link that leads nowhere is there all the same, and in the way.
    place = next(place for place in (directory, *directory.parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        if place == directory:
            trust.check_directory(directory, "directory")
        return None
    except UsageError as error:
        return str(error)
    except OSError as error:
        owner = _owner(place)
        whose = f", and belongs to {owner}" if error.errno == errno.EACCES and owner else ""
        return f"{directory} cannot be written: {place} says {error.strerror}{whose}"


def _owner(place: Path) -> str:
    with suppress(OSError, KeyError):
        return pwd.getpwuid(place.stat().st_uid).pw_name
    return ""


def all_mounts() -> list[Finding]:
    """Every idcfs of the machine."""
    return mounted_at(mounts.idcfs_mounts()) or [Finding.ok("mounts", "no idcfs is mounted")]


def mounted_at(places: list[Path]) -> list[Finding]:
    """The same as ``mounted`` of each, all asked at once: those that stand still are waited for once."""
    with ThreadPoolExecutor(max(1, len(places))) as at_once:
        return list(at_once.map(mounted, places))


def mounted(place: Path) -> Finding:
    """Whether the idcfs at ``place`` answers, and its servers do."""
    check, quoted = "mount", shlex.quote(str(place))
    found = mounts.mount_at(place)
    if found is None or found.filesystem_type != mounts.FILESYSTEM_TYPE:
        if (above := mounts.idcfs_above(place)) is not None:
            said = f"no idcfs is mounted at {place}, which lies in that at {above}"
            return Finding.warn(check, said, f"idcfs doctor {shlex.quote(str(above))}")
        return Finding.warn(check, f"no idcfs is mounted at {place}", f"idcfs mount {quoted}")
    try:
        if mounts.is_stale(place):
            return Finding.fail(check, f"{place}: its process has died", f"idcfs umount {quoted}")
        report = read_status(place)
    except AccessDenied:
        return Finding.ok(check, f"{place} belongs to another user")
    except UsageError:
        return Finding.warn(check, f"{place} is of another version", f"idcfs umount {quoted}, and mount it anew")
    except IdcfsError:
        return Finding.fail(check, f"{place} does not answer", f"idcfs umount --lazy {quoted}")
    away = [one for one in report.get("circuits", []) if one["open"]]
    if away:
        said = "; ".join(f"{one['archive']} is not asked at present: {one['why']}" for one in away)
        return Finding.warn(check, f"{place}: {said}", f"to ask at once: kill -HUP {report['pid']}")
    return Finding.ok(check, f"{place} answers, process {report['pid']}")


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB"

"""The command ``idcfs``: options, exit codes, one clear line for what goes wrong.

Exit codes: 0 done, 1 it failed, 2 the input cannot be used, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Unpack, cast, get_args

import click

from . import logs, mounts, notify, options
from .commands.cache import cache, cache_dir_option
from .commands.completing import Mountpoint, complete_collection
from .commands.completion import completion
from .commands.config import config
from .commands.doctor import doctor
from .commands.info import info, path
from .commands.status import status
from .commands.warm import warm
from .config import Configured
from .console import OneLine, Place, say
from .daemon import run_detached
from .errors import IdcfsError
from .layout import NAMED_LAYOUTS
from .running import idcfs_at, read_status
from .settings import (
    GIB,
    GOOGLE_PLACES,
    PACKAGED,
    QIDO,
    TIMEOUT_SECONDS,
    ContentSettings,
    MountSettings,
    Policy,
)

LOG_LEVELS = ("debug", "info", "warning", "error")
_EXIT_SECONDS = 60.0
"""How long ``umount`` waits for the mount's process to end: it has up to 144 MiB to write first."""

log = logging.getLogger(__name__)


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="idcfs")
def main() -> None:
    """Public cancer imaging as files: mount the NCI Imaging Data Commons, or any DICOMweb server, read-only."""


@main.command(cls=Configured, short_help="Mount an archive at a directory.")
@click.argument("mountpoint", type=Place(path_type=Path))
@click.option(
    "--archive",
    default="proxy",
    show_default=True,
    metavar="proxy|google|URL",
    help="Where instances come from: IDC's public proxy (no login, daily quota), "
    "Google's IDC store (with your Google login), or a DICOMweb server.",
)
@click.option(
    "--idc-version",
    metavar="N",
    type=click.IntRange(1, 9_999),
    help="With --archive google: the IDC release whose store is read.  default: the packaged index's",
)
@click.option(
    "--google-store",
    metavar="PATH",
    help="With --archive google: a store of your own, projects/P/locations/L/datasets/D/dicomStores/S.",
)
@click.option(
    "--quota-project",
    metavar="ID",
    help="With --archive google: the project that requests are counted for.  default: the one your credentials name",
)
@click.option(
    "--index",
    default=PACKAGED,
    show_default=True,
    metavar=f"{PACKAGED}|{QIDO}|FILE",
    help="What is listed: the index of the idc-index package, what the archive itself lists, "
    "or a parquet file with idc-index's columns.",
)
@click.option(
    "--layout",
    default="default",
    show_default=True,
    metavar="|".join((*NAMED_LAYOUTS, "TEMPLATE")),
    help="Which directories lead to a series: by name, or as a template of idc-index's columns, like "
    f"{NAMED_LAYOUTS['idc-index']}",
)
@click.option(
    "--collection",
    metavar="ID",
    multiple=True,
    shell_complete=complete_collection,
    help="Show this collection alone; may be given several times.",
)
@click.option(
    "--where",
    metavar="SQL",
    help="Show those series alone that a condition over the index's columns holds for, like "
    "\"Modality = 'CT' AND license_short_name LIKE 'CC BY%'\"",
)
@click.option(
    "--manifest",
    metavar="FILE|-",
    help="Show those series alone that a file, or stdin, lists: SeriesInstanceUIDs, one a line or in a column of that "
    "name, or a manifest for s5cmd of IDC's portal.",
)
@click.option(
    "--content",
    default="auto",
    show_default=True,
    type=click.Choice(get_args(Policy)),
    help="Where contents come from: WADO-RS, with the public buckets for what that cannot serve; or one of them alone. "
    "With wado and the public proxy, files over 32 MiB cannot be read.",
)
@click.option(
    "--bucket",
    metavar="aws|gcs|URL",
    help="The public buckets, which hold all of IDC: at AWS, at Google, or at a URL in which {bucket} stands for the "
    "bucket's name.  default: aws; with --archive URL none, unless --content bucket",
)
@click.option(
    "--exact-sizes",
    is_flag=True,
    help="Learn exact sizes from the buckets when a series is listed: one request more per file, once. "
    "With --archive URL, --bucket is needed.",
)
@cache_dir_option
@click.option(
    "--cache-size",
    default=f"{ContentSettings().disk_cache_bytes // GIB}GiB",
    show_default=True,
    metavar="SIZE",
    help="Disk space for file contents, at least 2MiB; 5 % of the disk always stays free.  0: nothing is kept on disk",
)
@click.option(
    "--memory-cache",
    default="256MiB",
    show_default=True,
    metavar="SIZE",
    help="Memory for file contents: at least 2MiB, at most what the machine, or container, has.",
)
@click.option(
    "--prefetch",
    default=ContentSettings().prefetch,
    show_default=True,
    metavar="N",
    type=click.IntRange(0, options.MAX_DOWNLOADS),
    help="Files of a series fetched at once before they are asked for.  0: off",
)
@click.option("--offline", is_flag=True, help="Never send a request: what is cached works.")
@click.option(
    "--timeout",
    default=TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    type=float,
    help="Longest wait without progress before a call fails, from 0.1 to 86400.",
)
@click.option(
    "-o",
    "--options",
    "fuse_options",
    multiple=True,
    metavar="OPTION,…",
    help="Mount options, such as allow_other or nonempty; uid=, gid= and umask= say whose everything is shown to be.",
)
@click.option(
    "--metrics-port",
    metavar="N",
    type=click.IntRange(0, 65_535),
    help="Tell counters to Prometheus on this port, at 127.0.0.1 only.  0: any free one, which 'idcfs status' shows",
)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to stderr.")
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="What is logged.",
)
def mount(mountpoint: Path, foreground: bool, log_level: str, **given: Unpack[options.MountOptions]) -> None:
    """Mount an archive at MOUNTPOINT; returns once it answers.

    Mounting sends no request: an archive that cannot be reached shows when the first series is opened. The log is
    ~/.local/state/idcfs/MOUNTPOINT.log (XDG), with - for /. IDCFS_PROXY_URL in the environment takes the place of the
    proxy's address. All options may be set in ~/.config/idcfs/config.toml or in the environment: see 'idcfs config'.
    """
    settings = options.mount_settings(mountpoint, given, foreground=foreground)
    _fix_google_places()
    lock = options.log_file(settings.mountpoint).with_suffix(".lock")
    with contextlib.closing(settings.cohort):
        logs.start(settings.log_file, log_level)
        if foreground:
            _tell_of_foreign_index(settings)
        with mounts.reserved(lock) as let_go, _prepared(settings):
            _start(settings, let_go)
        if not foreground:  # what fails is one line
            _tell_of_foreign_index(settings)


@main.command(short_help="Unmount, and wait until it has ended.")
@click.argument("mountpoint", type=Mountpoint(path_type=Path))
@click.option("-z", "--lazy", is_flag=True, help="Detach now, even while files are in use or nobody answers.")
def umount(mountpoint: Path, lazy: bool) -> None:
    """Unmount the idcfs at MOUNTPOINT and wait until its process has ended."""
    mountpoint = idcfs_at(mountpoint)
    if lazy or mounts.is_stale(mountpoint):  # asks nothing of a process that may not answer
        mounts.unmount(mountpoint, lazy=True)
        return
    process = os.pidfd_open(int(read_status(mountpoint)["pid"]))
    mounts.unmount(mountpoint)
    ended, _, _ = select.select([process], [], [], _EXIT_SECONDS)
    if not ended:
        raise IdcfsError(f"{mountpoint} is unmounted, but its process has not ended within {_EXIT_SECONDS:g} s")


main.add_command(status)
main.add_command(path)
main.add_command(info)
main.add_command(warm)
main.add_command(cache)
main.add_command(doctor)
main.add_command(completion)
main.add_command(config)


def _fix_google_places() -> None:
    """Let credentials that the environment names be found in the background, where the working directory is another."""
    for place in GOOGLE_PLACES:
        if given := os.environ.get(place):
            os.environ[place] = os.path.abspath(given)


def _tell_of_foreign_index(settings: MountSettings) -> None:
    """The IDC is listed whatever the archive, which most servers do not have."""
    if settings.index != PACKAGED or settings.archive.is_idcs:
        return
    line = f"what is listed is the IDC, not what {settings.archive.name} has: for that, give --index {QIDO}"
    log.warning("%s", line)
    if settings.log_file is not None:  # else the log is on stderr as well
        say(line)


@contextlib.contextmanager
def _prepared(settings: MountSettings) -> Iterator[None]:
    """The mountpoint is a directory within, and again what it was if mounting fails."""
    made = mounts.prepare(settings.mountpoint, may_hide_files=settings.may_hide_files)
    try:
        yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                settings.mountpoint.rmdir()
        raise


def _start(settings: MountSettings, let_go: Callable[[], None]) -> None:
    """Serve, in the background unless the log goes to stderr."""
    serve = partial(_serve, settings, let_go)
    if settings.log_file is None:
        serve(partial(notify.ready, settings.mountpoint))
    else:
        pid = run_detached(serve, hint=f"see {settings.log_file}")
        notify.ready(settings.mountpoint, pid)


def _serve(settings: MountSettings, let_go: Callable[[], None], ready: Callable[[], None]) -> None:
    # pyarrow loads numpy if it can, a fifth of the mount's time. Only building a catalog needs it, which happens in
    # another process. None makes the import fail, as documented for sys.modules.
    sys.modules.setdefault("numpy", cast("ModuleType", None))
    from .mount import serve  # here, not above: the other commands need none of the libraries behind it

    def answering() -> None:
        let_go()
        ready()

    serve(settings, answering)

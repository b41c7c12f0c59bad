"""The command ``idcfs mount``: from what was given to a mount that answers, in the background or not."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Unpack, cast

import click

from .. import logs, mounts, network, notify, options
from ..console import Place, say
from ..daemon import run_detached
from ..settings import GOOGLE_PLACES, PACKAGED, QIDO, MountSettings
from .setting import OPTIONS, Configured

log = logging.getLogger(__name__)


@click.command(
    cls=Configured,
    params=[click.Argument(["mountpoint"], type=Place(path_type=Path)), *OPTIONS],
    short_help="Mount an archive at a directory.",
)
def mount(mountpoint: Path, foreground: bool, log_level: str, **given: Unpack[options.MountOptions]) -> None:
    """Mount an archive at MOUNTPOINT; returns once it answers.

    Mounting sends no request: an archive that cannot be reached shows when the first series is opened. The log is
    ~/.local/state/idcfs/MOUNTPOINT.log (XDG), with - for /, and digits behind where that could be another's, too;
    'idcfs status' shows it. IDCFS_PROXY_URL in the environment takes the place of the proxy's address. All options but
    -f may be set in ~/.config/idcfs/config.toml or in the environment: see 'idcfs config'.
    """
    settings = options.mount_settings(mountpoint, given, foreground=foreground)
    if not settings.offline:
        network.check()
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
    from ..mount import serve  # here, not above: the other commands need none of the libraries behind it

    def answering() -> None:
        let_go()
        ready()

    serve(settings, answering)

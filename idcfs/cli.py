"""The command ``idcfs``: options, exit codes, one clear line for what goes wrong.

Exit codes: 0 done, 1 it failed, 2 the input cannot be used.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import click

from . import mounts, options
from .errors import IdcfsError, UsageError
from .settings import MIB, ContentSettings, MountSettings, TransportSettings

P = ParamSpec("P")

LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_BYTES = 5 * MIB
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_EXIT_SECONDS = 5.0
"""How long ``umount`` waits for the mount's process to end."""


def _reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """One line on stderr and an exit code instead of a traceback."""

    @functools.wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except IdcfsError as error:
            click.echo(f"idcfs: {error}", err=True)
            sys.exit(2 if isinstance(error, UsageError) else 1)

    return reporting


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="idcfs")
def main() -> None:
    """Public cancer imaging as files: mount the NCI Imaging Data Commons, or any DICOMweb server, read-only."""


@main.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option(
    "--archive",
    default="proxy",
    show_default=True,
    metavar="proxy|google|URL",
    help="Where instances come from: IDC's public proxy (no login, daily quota), "
    "Google's IDC store (not in this version yet), or a DICOMweb server.",
)
@click.option(
    "--index",
    default="packaged",
    show_default=True,
    metavar="packaged|qido|FILE",
    help="What is listed: the index of the idc-index package, what the archive itself lists, "
    "or a parquet file with idc-index's columns.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where catalogs and sizes are kept.  [default: idcfs in the XDG cache directory]",
)
@click.option("--memory-cache", default="256MiB", show_default=True, metavar="SIZE", help="Memory for file contents.")
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    help="Longest wait without progress before a call fails.",
)
@click.option(
    "-o",
    "fuse_options",
    multiple=True,
    metavar="OPTION[=VALUE],…",
    help="Mount options, such as allow_other or nonempty.",
)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to stderr.")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(LOG_LEVELS, case_sensitive=False))
@_reports_errors
def mount(
    mountpoint: Path,
    archive: str,
    index: str,
    cache_dir: Path | None,
    memory_cache: str,
    timeout: float,
    fuse_options: tuple[str, ...],
    foreground: bool,
    log_level: str,
) -> None:
    """Mount an archive at MOUNTPOINT; returns once it answers.

    Mounting sends no request: an archive that cannot be reached shows when the first series is opened.
    """
    mountpoint = mounts.absolute(mountpoint)
    chosen = options.fuse_options(fuse_options)
    settings = MountSettings(
        mountpoint=mountpoint,
        archive=options.archive_settings(archive),
        index=index if index in ("packaged", "qido") else str(Path(index).expanduser().absolute()),
        cache_dir=(cache_dir or options.default_cache_dir()).expanduser().absolute(),
        transport=TransportSettings(timeout_seconds=timeout),
        content=ContentSettings(memory_cache_bytes=_memory_cache(memory_cache), timeout_seconds=timeout),
        fuse_options=tuple(option for option in chosen if option != "nonempty"),
    )
    made = mounts.prepare(mountpoint, may_hide_files="nonempty" in chosen)
    try:
        _serve(settings, log_level) if foreground else _serve_detached(settings, log_level)
    except IdcfsError:
        if made:
            mountpoint.rmdir()
        raise


@main.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("-z", "--lazy", is_flag=True, help="Detach now, even while files are in use.")
@_reports_errors
def umount(mountpoint: Path, lazy: bool) -> None:
    """Unmount the idcfs at MOUNTPOINT and wait until its process has ended."""
    mountpoint = _idcfs_at(mountpoint)
    pid = None
    if not mounts.is_stale(mountpoint):
        with contextlib.suppress(OSError, ValueError):
            pid = int(_status_of(mountpoint)["pid"])
    mounts.unmount(mountpoint, lazy=lazy or pid is None)
    if pid is not None and not lazy:
        _wait_for_end(pid)


@main.command()
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@_reports_errors
def status(mountpoint: Path | None, as_json: bool) -> None:
    """Show what the idcfs at MOUNTPOINT (or every idcfs) has done: requests, bytes, hits, open files."""
    places = [_idcfs_at(mountpoint)] if mountpoint else mounts.idcfs_mounts()
    if not places:
        raise UsageError("no idcfs is mounted: 'idcfs mount MOUNTPOINT' first")
    reports = [_read_status(place) for place in places]
    if as_json:
        click.echo(json.dumps(reports[0] if mountpoint else reports, indent=1))
        return
    for report in reports:
        _print_status(report)


def _serve(settings: MountSettings, log_level: str) -> None:
    from .mount import serve  # here, not above: the other commands need none of the libraries behind it

    _log_to(logging.StreamHandler(), log_level)
    serve(settings, lambda: None)


def _serve_detached(settings: MountSettings, log_level: str) -> None:
    from .daemon import run_detached

    log_file = options.log_file(settings.mountpoint)
    _log_to(_file_handler(log_file), log_level)

    def service(ready: Callable[[], None]) -> None:
        from .mount import serve

        serve(settings, ready)

    run_detached(service, hint=f"see {log_file}")
    os.statvfs(settings.mountpoint)


def _memory_cache(text: str) -> int:
    size = options.size_in_bytes(text)
    if size < options.MIN_MEMORY_CACHE:
        raise UsageError(f"--memory-cache {text}: give at least {options.MIN_MEMORY_CACHE // MIB}MiB")
    return size


def _file_handler(file: Path) -> logging.Handler:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return logging.handlers.RotatingFileHandler(file, maxBytes=_LOG_BYTES, backupCount=2)
    except OSError as error:
        raise UsageError(f"the log file {file} cannot be written: {error.strerror}") from None


def _log_to(handler: logging.Handler, level: str) -> None:
    logging.basicConfig(level=level.upper(), format=_LOG_FORMAT, handlers=[handler])
    if level != "debug":
        for chatty in ("httpx", "httpcore"):
            logging.getLogger(chatty).setLevel(logging.WARNING)


def _idcfs_at(mountpoint: Path) -> Path:
    """The mountpoint as the kernel knows it.

    :raises UsageError: if no idcfs is mounted there.
    """
    path = mounts.absolute(mountpoint)
    mount = mounts.mount_at(path)
    if mount is None or mount.filesystem_type != mounts.FILESYSTEM_TYPE:
        raise UsageError(f"no idcfs is mounted at {path}")
    return path


def _status_of(mountpoint: Path) -> dict[str, Any]:
    report = json.loads((mountpoint / ".status.json").read_bytes())
    assert isinstance(report, dict)
    return report


def _read_status(mountpoint: Path) -> dict[str, Any]:
    try:
        return _status_of(mountpoint)
    except (OSError, ValueError) as error:
        raise IdcfsError(f"the idcfs at {mountpoint} does not answer ({error}): 'idcfs umount {mountpoint}'") from None


def _print_status(report: dict[str, Any]) -> None:
    click.echo(f"{report['mountpoint']}: {report['archive']}, index {report['index']}, process {report['pid']}")
    for name, value in report["counters"].items():
        click.echo(f"  {name.replace('_', ' '):<22}{value:>16,}")


def _wait_for_end(pid: int) -> None:
    """Until the process is gone, so that the next mount finds everything free."""
    end = time.monotonic() + _EXIT_SECONDS
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except OSError:
            return
        time.sleep(0.02)

"""The command ``idcfs doctor``: whether everything is there that a mount needs, one line each, with the remedy."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import click

from .. import mounts, options
from ..config import is_given, setting_of, unknown_variables
from ..errors import UsageError
from ..printable import printable
from ..settings import MountSettings
from . import checking
from .completing import Mountpoint
from .finding import Finding
from .mount import mount
from .setting import SETTINGS, check_settings, those


@click.command(
    params=those("archive", "idc-version", "google-store", "quota-project", "bucket", "cache-dir", "cache-size"),
    short_help="Check what a mount needs; say what to do.",
)
@click.argument("mountpoints", nargs=-1, metavar="[MOUNTPOINT]…", type=Mountpoint(path_type=Path))
@click.option("--offline", is_flag=True, help="Ask neither archive nor bucket.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@click.pass_context
def doctor(ctx: click.Context, /, mountpoints: tuple[Path, ...], as_json: bool, **_: Any) -> None:
    """Check all that a mount needs, and the mounts there are, or those at MOUNTPOINT…

    What is checked is what 'idcfs mount' would do with these options, and with the settings of config.toml and the
    environment. One line each: ok, warn (it works, but not all that you may expect) or fail, and what to do. Archive
    and bucket get one small request each, which no quota counts to speak of, and 5 s to answer. The exit code is 1 if
    anything fails.
    """
    logging.getLogger("idcfs").addHandler(logging.NullHandler())  # what goes wrong is a finding
    settings, first = _settings(ctx)
    found = []
    for finding in chain([first], _here(settings), _mounts(mountpoints), _elsewhere(settings)):
        found.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    if any(finding.state == "fail" for finding in found):
        sys.exit(1)


def _settings(ctx: click.Context) -> tuple[MountSettings, Finding]:
    """What would be mounted, as far as doctor's own options say; where the settings cannot be used, without them.

    :raises UsageError: if an option of the command line is wrong.
    """
    check, words = "settings", _given(ctx)
    try:
        settings, places = _checked(mount, words, ctx)
    except (UsageError, click.UsageError) as error:
        settings, _ = _checked(click.Command("mount", params=mount.params), words, ctx)
        said = error.format_message() if isinstance(error, click.UsageError) else str(error)
        return settings, Finding.fail(
            check, said, "mend it: nothing can be mounted before; what follows is checked without it"
        )
    if unknown := unknown_variables(SETTINGS, [options.PROXY_VARIABLE]):
        return settings, Finding.warn(check, "; ".join(unknown), "rename or unset it")
    return settings, Finding.ok(check, ", ".join(places) or "all are as by default")


def _given(ctx: click.Context) -> list[str]:
    """The options of ``idcfs mount`` that were given to doctor, as words of the command line."""
    words = []
    for name, option in SETTINGS.items():
        if is_given(ctx, str(option.name)):
            words.append(f"--{name}" if option.is_flag else f"--{name}={ctx.params[str(option.name)]}")
    return words


def _checked(command: click.Command, words: list[str], parent: click.Context) -> tuple[MountSettings, list[str]]:
    """What ``command`` would mount, and where what it was not given itself is set."""
    with command.make_context("mount", [*words, os.devnull], parent=parent) as seen:
        found = [setting_of(seen, option) for option in SETTINGS.values()]
        return check_settings(seen), [setting.place for setting in found if setting is not None]


def _here(settings: MountSettings) -> Iterator[Finding]:
    yield checking.fuse_device()
    yield checking.fusermount()
    yield checking.other_users()
    yield checking.packages()
    yield checking.packaged_index()
    yield checking.cache(settings.cache_dir, settings.content.disk_cache_bytes)
    yield checking.state_directory()


def _mounts(mountpoints: tuple[Path, ...]) -> Iterator[Finding]:
    if mountpoints:
        yield from checking.mounted_at([mounts.absolute(place) for place in mountpoints])
    else:
        yield from checking.all_mounts()


def _elsewhere(settings: MountSettings) -> Iterator[Finding]:
    if settings.offline:
        yield Finding.ok("archive", "not asked: --offline")
        return
    from . import reaching  # here, not above: the other commands need none of the libraries behind it

    yield from reaching.archive(settings.archive)
    if settings.source.buckets is not None:
        yield reaching.bucket(settings.source.buckets)


def _print(finding: Finding) -> None:
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    click.echo(f"{finding.state:<5} {finding.check:<13} {printable(finding.said + remedy)}")

"""The commands ``idcfs path`` and ``idcfs info``: where something is, by its UID, and what it is."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import mounts
from ..console import Place, say, with_stdin
from ..errors import IdcfsError, UsageError
from ..filemeta import UID
from ..printable import printable
from ..running import read_status, reports
from ..settings import UID_AT_HAND_NAME, UID_NAME
from .completing import Mountpoint
from .describing import describe, facts_of

_NO_SUCH_PATH = frozenset({errno.ENOENT, errno.ENOTDIR})
_NO_PATH = frozenset({errno.ELOOP, errno.ENAMETOOLONG})


@click.command(short_help="Print where a study, series or instance is.")
@click.argument("uids", nargs=-1, required=True, metavar="UID…")
@click.option(
    "--mount",
    "mountpoint",
    type=Mountpoint(path_type=Path),
    metavar="MOUNTPOINT",
    help="Look in this mount only, not in every idcfs.",
)
def path(uids: tuple[str, ...], mountpoint: Path | None) -> None:
    """Print the place of each study, series or instance UID, one a line, in this order.

    Of a study that is in several directories, it is the deepest one that holds all of it. With several mounts, each has
    a line for what is in it. Where UID is -, they are taken from stdin, one a line.
    """
    given = with_stdin(uids)
    if not given:
        raise UsageError("there is no UID on stdin")
    for uid in given:
        if not UID.fullmatch(uid):
            raise UsageError(f"{uid!r} is not a UID: numbers with dots between them, at most 64 characters")
    found, failures = reports(mountpoint)
    for line in failures:
        say(line)
    for uid in given:
        places, are_all_sure = _places_of(uid, found)
        for place in places.values():
            # As 'ls' does it: programs get the bytes, and no terminal what it would obey.
            click.echo(printable(str(place)) if sys.stdout.isatty() else os.fsencode(place))
        if not places and are_all_sure:
            say(_not_found(uid, found))
        if not places or not are_all_sure:
            failures.append(uid)
    if failures:
        sys.exit(1)


@click.command(short_help="Show what a path or UID is.")
@click.argument("names", nargs=-1, required=True, metavar="PATH|UID…", type=Place())
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, a list, for programs.")
def info(names: tuple[str, ...], as_json: bool) -> None:
    """Show what each PATH of a mount, or UID, is: whose, how large, under which licence, how to cite, what is cached.

    A UID is looked for in every mount, in the index and in the lists of files that are kept: no request is sent for it
    ('idcfs path' asks the archive too). What the mount does not know is left out.
    """
    places = [place for name in names for place in _places(name)]
    found = [one for place, mountpoint in places if (one := _described(place, mountpoint)) is not None]
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        for one in found:
            click.echo(printable(f"{one['path']}: {one['what']}"))
            for name, fact in facts_of(one).items():
                click.echo(f"  {name:<12}{printable(fact)}")
    if len(found) < len(places):
        sys.exit(1)


def _described(place: Path, mountpoint: Path) -> dict[str, Any] | None:
    """What is at ``place``; None, and a line, if the mount cannot tell: others may."""
    try:
        return mounts.in_thread(partial(describe, place, mountpoint, read_status(mountpoint))).result()
    except OSError as error:
        say(f"{place}: {error.strerror}")
    except IdcfsError as error:
        say(str(error))
    return None


def _places(name: str) -> list[tuple[Path, Path]]:
    """What ``name`` is the path of, and the mountpoint; if there is no such path, so where it is the UID of something.

    :raises UsageError: if it is neither.
    """
    try:
        place = Path(mounts.in_thread(partial(os.path.realpath, name, strict=True)).result())
        return [(place, mounts.idcfs_around(place, mounts.topmost()).path)]
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    except OSError as error:
        if error.errno not in _NO_SUCH_PATH | _NO_PATH:
            raise
        if error.errno in _NO_PATH or not UID.fullmatch(name):
            raise UsageError(f"{name}: {error.strerror}") from None
    found, unanswered = reports(None)
    for line in unanswered:
        say(line)
    places, are_all_sure = _places_of(name, found, UID_AT_HAND_NAME)
    if not places and not are_all_sure:
        sys.exit(1)
    if not places:
        raise IdcfsError(f"no index and no kept list has {name}: 'idcfs path {name}' asks the archive too")
    return [(place, mountpoint) for mountpoint, place in places.items()]


def _not_found(uid: str, mountpoints: Collection[Path]) -> str:
    return f"{uid} is not in the index" if len(mountpoints) == 1 else f"{uid} is in no mount's index"


def _places_of(uid: str, mountpoints: Iterable[Path], links: str = UID_NAME) -> tuple[dict[Path, Path], bool]:
    """Where ``uid`` is, by mountpoint, in each of these mounts that has it, and whether all could tell.

    :param links: the directory of links to look into.

    One that could not is a line on stderr.
    """
    places: dict[Path, Path] = {}
    are_all_sure = True
    for mountpoint in mountpoints:
        link = mountpoint / links / uid
        try:
            place = _place_of(link)
            if place is None and links == UID_NAME:
                # There it is known of a study that no directory but the root holds all of it.
                place = _place_of(mountpoint / UID_AT_HAND_NAME / uid)
        except OSError as error:
            are_all_sure = False
            say(f"{link}: {error.strerror}")
            continue
        if place is not None and mountpoint not in (place, *place.parents):  # none of ours does
            are_all_sure = False
            say(f"{link} leads out of the mount: it is not followed")
        elif place == mountpoint:
            are_all_sure = False
            say(f"study {uid} is in several directories of {mountpoint} and in none alone: look for its series")
        elif place is not None:
            places[mountpoint] = place
    return places, are_all_sure


def _place_of(link: Path) -> Path | None:
    """Where ``link``, of a mount, leads; None if it is not there.

    :raises OSError: if that cannot be told.
    """
    try:
        # Without a limit: the first look into what a server lists takes as long as that.
        target = mounts.in_thread(partial(os.readlink, link)).result()
    except OSError as error:
        if error.errno in _NO_SUCH_PATH:
            return None
        raise
    # Without asking for it: the link's directory is one of ours, and no link itself.
    return Path(os.path.normpath(link.parent / target))

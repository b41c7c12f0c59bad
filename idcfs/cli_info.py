"""The command ``idcfs path``: where something is, by its UID."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import click

from .console import Place, say, with_stdin
from .errors import UsageError
from .filemeta import UID
from .running import reports
from .settings import UID_NAME
from .warming import patiently

_NO_SUCH_UID = frozenset({errno.ENOENT, errno.ENOTDIR})

mount_option = click.option(
    "--mount",
    "mountpoint",
    type=Place(path_type=Path),
    metavar="MOUNTPOINT",
    help="Look in this mount only, not in every idcfs.",
)


@click.command(short_help="Print where a study, series or instance is.")
@click.argument("uids", nargs=-1, required=True, metavar="UID…")
@mount_option
def path(uids: tuple[str, ...], mountpoint: Path | None) -> None:
    """Print the place of each study, series or instance UID, one a line, in this order.

    With several mounts, each has a line for what is in it. Where UID is -, they are taken from stdin, one a line.
    """
    given = with_stdin(uids)
    if not given:
        raise UsageError("there is no UID on stdin")
    for uid in given:
        if not UID.fullmatch(uid):
            raise UsageError(f"{uid!r} is not a UID: digits and dots, at most 64")
    found, failures = reports(mountpoint)
    for line in failures:
        say(line)
    for uid in given:
        places = list(places_of(uid, found))
        for place in places:
            click.echo(os.fsencode(place))
        if not places:
            failures.append(uid)
            say(f"{uid} is not in the index" if len(found) == 1 else f"{uid} is in no mount's index")
    if failures:
        sys.exit(1)


def places_of(uid: str, mountpoints: Iterable[Path]) -> Iterator[Path]:
    """Where ``uid`` is in each of these mounts that has it.

    :raises OSError: if a mount cannot tell.
    """
    for mountpoint in mountpoints:
        link = mountpoint / UID_NAME / uid
        try:
            # Without a limit: the first look into what a server lists takes as long as that.
            target = patiently(partial(os.readlink, link))
        except OSError as error:
            if error.errno not in _NO_SUCH_UID:
                raise
        else:
            yield Path(os.path.normpath(link.parent / target))  # no link: its directory is one of ours

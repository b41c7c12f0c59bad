"""The command ``idcfs doctor``: whether everything is there that a mount needs, one line each, with the remedy."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from .. import mounts, options
from ..console import printable
from ..settings import GIB, PACKAGED, ArchiveSettings, BucketSettings, ContentSettings
from . import checking
from .completing import Mountpoint
from .finding import Finding, ok
from .setting import those


@click.command(params=those("cache-dir"), short_help="Check what a mount needs; say what to do.")
@click.argument("mountpoints", nargs=-1, metavar="[MOUNTPOINT]…", type=Mountpoint(path_type=Path))
@click.option(
    "--archive",
    default="proxy",
    show_default=True,
    metavar="proxy|google|URL",
    help="Which archive is asked, as for 'idcfs mount'.",
)
@click.option("--bucket", metavar="aws|gcs|URL", help="Which buckets are asked, as for 'idcfs mount'.")
@click.option(
    "--cache-size",
    default=f"{ContentSettings().disk_cache_bytes // GIB}GiB",
    show_default=True,
    metavar="SIZE",
    help="How much room there should be for contents.",
)
@click.option("--offline", is_flag=True, help="Ask neither archive nor bucket.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
def doctor(
    mountpoints: tuple[Path, ...],
    archive: str,
    bucket: str | None,
    cache_dir: Path | None,
    cache_size: str,
    offline: bool,
    as_json: bool,
) -> None:
    """Check all that a mount needs, and the mounts there are, or those at MOUNTPOINT…

    One line each: ok, warn (it works, but not all that you may expect) or fail, and what to do. Archive and bucket get
    one small request each, which no quota counts to speak of, and 5 s to answer. The exit code is 1 if anything fails.
    """
    logging.getLogger("idcfs").addHandler(logging.NullHandler())  # what goes wrong is a finding
    server = options.archive_settings(archive)
    buckets = options.source_settings("auto", bucket, exact_sizes=False, archive=server, index=PACKAGED).buckets
    directory = mounts.expanded(cache_dir or options.default_cache_dir())
    size = options.disk_cache_bytes(cache_size)
    elsewhere = _offline() if offline else _elsewhere(server, buckets)
    found = []
    for finding in chain(_here(directory, size), _mounts(mountpoints), elsewhere):
        found.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    if any(finding.state == "fail" for finding in found):
        sys.exit(1)


def _here(cache_dir: Path, cache_bytes: int) -> Iterator[Finding]:
    yield checking.fuse_device()
    yield checking.fusermount()
    yield checking.other_users()
    yield checking.packages()
    yield checking.packaged_index()
    yield checking.cache(cache_dir, cache_bytes)
    yield checking.state_directory()


def _mounts(mountpoints: tuple[Path, ...]) -> Iterator[Finding]:
    if mountpoints:
        yield from (checking.mounted(mounts.absolute(place)) for place in mountpoints)
    else:
        yield from checking.all_mounts()


def _elsewhere(server: ArchiveSettings, buckets: BucketSettings | None) -> Iterator[Finding]:
    from . import reaching  # here, not above: the other commands need none of the libraries behind it

    yield from reaching.archive(server)
    if buckets is not None:
        yield reaching.bucket(buckets)


def _offline() -> Iterator[Finding]:
    yield ok("archive", "not asked: --offline")


def _print(finding: Finding) -> None:
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    click.echo(f"{finding.state:<5} {finding.check:<13} {printable(finding.said + remedy)}")

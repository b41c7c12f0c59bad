"""The commands ``idcfs cache info``, ``clear`` and ``verify``: what is kept on disk, whether mounts run or not."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import click

from .. import mounts, options, running, trust
from ..config import is_given
from ..console import Bar, say
from ..errors import IdcfsError, UsageError
from ..printable import printable
from ..settings import BLOCKS_NAME, QIDO, STORE_NAME
from .setting import Configured, those

_MEANINGS = {
    "content_bytes": "contents of files, as they lie on disk",
    "blocks": "pieces of at most 1 MiB in which these are kept",
    "instances": "files of which contents are kept, not always all",
    "series": "series that these belong to",
    "lists": "series whose list of files is kept",
    "sizes": "files whose exact size is kept",
    "database_bytes": "what lists and sizes take on disk",
    "disk_free_bytes": "what is free on the disk where all this is",
}
"""What ``info`` shows, in words."""


@click.group(short_help="Look after what is kept on disk.")
def cache() -> None:
    """Look at, empty or check what mounts keep on disk."""


@cache.command(cls=Configured, params=those("cache-dir"))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
def info(cache_dir: Path | None, as_json: bool) -> None:
    """Show what is kept, and how much room there is."""
    from ..content import upkeep  # here and below, not above: the other commands need none of the libraries behind it
    from ..namespace import store

    directory = _cache_at(cache_dir)
    if not directory.exists() and not as_json:
        _say_nothing_is_kept(directory)
        return
    contents, kept = upkeep.info(directory / BLOCKS_NAME), store.info(directory / STORE_NAME)
    report = {
        "cache_dir": str(directory),
        "content_bytes": contents.bytes,
        "blocks": contents.blocks,
        "instances": contents.instances,
        "series": contents.series,
        "lists": kept.lists,
        "sizes": kept.sizes,
        "database_bytes": kept.bytes,
        "disk_free_bytes": _free(directory),
    }
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    empty = "" if contents.blocks or kept.lists or kept.sizes else " empty"
    click.echo(f"{printable(str(directory))}:{empty}")
    for name, meaning in _MEANINGS.items():
        click.echo(f"  {name.replace('_', ' '):<18}{report[name]:>18,}  {meaning}")


@cache.command(cls=Configured, params=those("cache-dir"), short_help="Remove contents, lists and sizes.")
def clear(cache_dir: Path | None) -> None:
    """Remove contents, lists and sizes, also while mounts use them.

    Mounts that run first write what waits to be written; 'idcfs warm' has them write again what they have in memory,
    other than what a server lists with --index qido. The catalogs of indexes stay: they hold nothing of an archive, and
    are built in seconds.
    """
    from ..content import upkeep
    from ..namespace import index, store

    directory = _cache_at(cache_dir)
    if not directory.exists():
        _say_nothing_is_kept(directory)
        return
    users = running.mounts_using(directory)
    for mountpoint in users:
        with suppress(OSError):
            running.sync(mountpoint)
    contents, kept = upkeep.clear(directory / BLOCKS_NAME), store.clear(directory / STORE_NAME)
    freed = contents.bytes + kept.bytes - store.info(directory / STORE_NAME).bytes + index.clear_searched(directory)
    click.echo(
        f"freed {max(0, freed):,} bytes (instances: {contents.instances:,}, "
        f"lists: {kept.lists:,}, sizes: {kept.sizes:,})"
    )
    for mountpoint in users:
        if _is_searched(mountpoint):
            say(f"{mountpoint} does not write again what its server lists: mount it again before 'idcfs warm'")


@cache.command(cls=Configured, params=those("cache-dir"), short_help="Read all of it; remove what is damaged.")
def verify(cache_dir: Path | None) -> None:
    """Read all contents; remove what is damaged, which is then fetched again when it is needed."""
    from ..content import upkeep

    directory = _cache_at(cache_dir)
    if not directory.exists():
        _say_nothing_is_kept(directory)
        return
    directory /= BLOCKS_NAME
    total = upkeep.info(directory).bytes
    with Bar() as bar:
        found = upkeep.verify(directory, lambda done: bar.show(done, total))
    click.echo(f"good blocks: {found.blocks:,} ({found.bytes:,} bytes)")
    click.echo(f"damaged and removed: {found.damaged_blocks:,} ({found.damaged_bytes:,} bytes)")
    left = found.absent_blocks + found.orphans + found.leftovers
    if left:
        click.echo(f"left by killed mounts and removed: {left:,}")
    if found.damaged_blocks:
        sys.exit(1)


def _cache_at(given: Path | None) -> Path:
    """The cache directory; one that no mount has made yet is none that was named on the command line.

    :raises UsageError: if it is something else, or somebody else's, or not there though it was named.
    """
    directory = mounts.expanded(given or options.default_cache_dir())
    try:
        trust.check_directory(directory, "cache directory")
        names = list(directory.iterdir())
    except FileNotFoundError:
        if is_given(click.get_current_context(), "cache_dir"):
            raise UsageError(f"there is no cache directory {directory}") from None
        return directory
    except OSError as error:
        raise UsageError(f"the cache directory {directory} cannot be read: {error.strerror}") from None
    if names and not _is_cache(names):
        raise UsageError(f"{directory} is not a cache directory of idcfs: it holds other files, and none of a cache")
    return directory


def _say_nothing_is_kept(directory: Path) -> None:
    click.echo(f"nothing is kept: {printable(str(directory))} does not exist yet")


def _is_searched(mountpoint: Path) -> bool:
    """Whether a mount shows what its server lists, as far as it says so."""
    with suppress(IdcfsError):
        return bool(running.read_status(mountpoint)["index"] == QIDO)
    return False


def _is_cache(names: list[Path]) -> bool:
    """Whether a directory that holds ``names`` is a cache: only other things are in one that is not."""
    if any(path.name in (BLOCKS_NAME, STORE_NAME) for path in names):
        return True
    from ..namespace import index  # not sooner: it takes twice as long to load as the rest of the command

    return any(index.is_kept_of_indexes(path.name) for path in names)


def _free(directory: Path) -> int:
    """Bytes that are free on the disk where ``directory`` is, or would be."""
    return shutil.disk_usage(mounts.nearest(directory)).free

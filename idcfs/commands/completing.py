"""What a shell may complete: the places of mounts, and the collections of the index, as far as they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from .. import mounts, options
from ..console import Place
from ..settings import PACKAGED


class Mountpoint(Place):
    """The path of a mount: the shell completes those there are; nobody is asked whether he answers."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Called by click, with what has been typed so far."""
        return _starting_with(incomplete, _places(incomplete)) or super().shell_complete(ctx, param, incomplete)


def complete_path(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Mounts, as long as what was typed may be one; else what the shell finds: directories and files below them."""
    found = _starting_with(incomplete, _places(incomplete))
    return found or [CompletionItem(incomplete, type="file")]


def complete_collection(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Collections of the packaged index, if it has been mounted before."""
    index = ctx.params.get("index") or PACKAGED
    cache_dir = ctx.params.get("cache_dir") or options.default_cache_dir()
    try:
        names = list(_collections(index, Path(cache_dir)))
    except Exception:  # nothing is built for a Tab, and nothing is said
        names = []
    return _starting_with(incomplete, names)


def _collections(index: str, cache_dir: Path) -> Iterator[str]:
    from ..namespace.catalog import Catalog  # here, not above: most completions need no pyarrow
    from ..namespace.index import catalog_path

    catalog = Catalog.open(catalog_path(index, cache_dir))
    return (os.fsdecode(name) for name, _, _ in catalog.children(0, 0, 0))


def _places(incomplete: str) -> Iterator[str]:
    """Mounts as the user writes paths: from the home directory on, where that was typed."""
    home = os.path.expanduser("~")
    for place in map(str, mounts.idcfs_mounts()):
        in_home = incomplete.startswith("~/") and place.startswith(home + "/")
        yield "~" + place.removeprefix(home) if in_home else place


def _starting_with(incomplete: str, values: Iterable[str]) -> list[CompletionItem]:
    found = sorted({value for value in values if value.startswith(incomplete)})
    return [CompletionItem(value) for value in found if value.isprintable()]  # bash's protocol is lines

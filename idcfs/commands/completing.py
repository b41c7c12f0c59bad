"""What a shell may complete: the places of mounts, and the collections of the index, as far as they are at hand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from .. import mounts, options
from ..config import Configured, elsewhere, is_given
from ..console import Place
from ..settings import PACKAGED

_NEEDS_NO_QUOTES = re.compile(r"(?:~?/)?[A-Za-z0-9_.][A-Za-z0-9_.,/@%+=:-]*", re.ASCII)
"""What is one word to every shell, and nothing else: bash puts what it is offered into the command line as it is, where
``$(…)`` in the name of a directory would be run."""


class Mountpoint(Place):
    """The path of a mount: the shell completes one's own; nobody is asked whether he answers."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Called by click, with what has been typed so far."""
        return _starting_with(incomplete, _places(incomplete)) or super().shell_complete(ctx, param, incomplete)


def complete_path(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Mounts, as long as what was typed may be one; else what the shell finds: directories and files below them."""
    found = _starting_with(incomplete, _places(incomplete))
    return found or [CompletionItem(incomplete, type="file")]


def complete_collection(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Collections of the index that would be mounted, if it has been before."""
    try:
        names = list(_collections(*_index_and_cache(ctx)))
    except Exception:  # nothing is built for a Tab, and nothing is said
        names = []
    return _starting_with(incomplete, names)


def _index_and_cache(ctx: click.Context) -> tuple[str, Path]:
    """What was typed so far, else what file and environment say: while it completes, click asks neither."""
    assert isinstance(ctx.command, Configured)
    given = {name: setting.value for name, setting in elsewhere(ctx.command.known).items()}
    given |= {name: value for name, value in ctx.params.items() if is_given(ctx, name)}
    index, cache_dir = given.get("index", PACKAGED), given.get("cache_dir", options.default_cache_dir())
    return index if index == PACKAGED else str(mounts.expanded(Path(index))), mounts.expanded(Path(cache_dir))


def _collections(index: str, cache_dir: Path) -> Iterator[str]:
    from ..namespace.catalog import Catalog  # here, not above: most completions need no pyarrow
    from ..namespace.index import catalog_path

    catalog = Catalog.open(catalog_path(index, cache_dir))
    return (os.fsdecode(name) for name, _, _ in catalog.children(0, 0, 0))


def _places(incomplete: str) -> Iterator[str]:
    """The user's mounts as users write paths: from the home directory on, where that was typed."""
    home = os.path.expanduser("~")
    for place in map(str, mounts.own_idcfs_mounts()):
        in_home = incomplete.startswith("~/") and place.startswith(home + "/")
        yield "~" + place.removeprefix(home) if in_home else place


def _starting_with(incomplete: str, values: Iterable[str]) -> list[CompletionItem]:
    found = sorted({value for value in values if value.startswith(incomplete)})
    return [CompletionItem(value) for value in found if _NEEDS_NO_QUOTES.fullmatch(value)]

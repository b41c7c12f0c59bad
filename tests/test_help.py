"""What ``--help`` says and what the documents say are about the same commands and options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from idcfs import cli

CHECKOUT = Path(__file__).parents[1]
OPTIONS = (CHECKOUT / "docs" / "OPTIONS.md").read_text()
DOCUMENTS = OPTIONS + "".join(
    (CHECKOUT / name).read_text() for name in ("docs/GUIDE.md", "docs/SYSTEM.md", "README.md")
)


def commands(group: click.Group, path: str = "idcfs") -> Iterator[tuple[str, click.Command]]:
    """Every command below ``group`` that does something, with what is written for it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(cli.main))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_in_the_documents(path: str) -> None:
    assert path in DOCUMENTS
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            for word in (*parameter.opts, *parameter.secondary_opts):
                assert f"`{word}" in DOCUMENTS or f" {word}`" in DOCUMENTS, word


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_says_what_it_is(path: str) -> None:
    options = [one for one in COMMANDS[path].params if isinstance(one, click.Option)]
    assert all(one.help for one in options)


def test_the_list_of_commands_is_not_cut() -> None:
    context = click.Context(cli.main, terminal_width=80)
    for group in (cli.main, cli.main.commands["cache"]):
        assert "..." not in group.get_help(context).partition("Commands:")[2]


@pytest.mark.parametrize(
    ("option", "bound"),
    [
        ("cache_size", "at least 2MiB"),
        ("memory_cache", "at least 2MiB"),
        ("timeout", "from 0.1 to 86400"),
        ("content", "over 32 MiB cannot be read"),
    ],
)
def test_bounds_are_told_in_both(option: str, bound: str) -> None:
    (found,) = [one for one in cli.main.commands["mount"].params if one.name == option]
    assert isinstance(found, click.Option)
    assert bound in (found.help or "")
    (row,) = [line for line in OPTIONS.splitlines() if line.startswith(f"| `{found.opts[0]} ")]
    assert bound in row

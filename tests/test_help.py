"""What ``--help`` says and what the documents say are about the same commands and options."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from idcfs import cli, fuse_options
from scripts.manpage import commands

CHECKOUT = Path(__file__).parents[1]
OPTIONS = (CHECKOUT / "docs" / "OPTIONS.md").read_text()
ROWS = [line.split(" | ")[0] for line in OPTIONS.splitlines() if line.startswith("| `")]
"""The first cell of each: the options that it is about."""
SECTIONS = [
    section
    for name in ("docs/GUIDE.md", "docs/SYSTEM.md")
    for section in re.split(r"^##+ ", (CHECKOUT / name).read_text(), flags=re.MULTILINE)
]


COMMANDS = {
    one.command_path: one.command
    for one in commands(click.Context(cli.main, info_name="idcfs", **cli.main.context_settings))
}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_where_the_documents_tell_of_it(path: str) -> None:
    told = [section for section in SECTIONS if re.search(rf"\b{path}\b", section)]
    assert told
    where = ROWS if path == "idcfs mount" else told
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for word in (*parameter.opts, *parameter.secondary_opts):
                assert any(re.search(rf"(?<![\w-]){word}(?![\w-])", text) for text in where), word


@pytest.mark.parametrize("option", sorted(fuse_options.OPTIONS))
def test_every_word_of_o_is_in_the_documents(option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", OPTIONS)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_says_what_it_is(path: str) -> None:
    options = [one for one in COMMANDS[path].params if isinstance(one, click.Option) and not one.hidden]
    assert all(one.help for one in options)


def test_the_list_of_commands_is_not_cut() -> None:
    context = click.Context(cli.main, terminal_width=80, **cli.main.context_settings)
    for group in (cli.main, cli.main.get_command(context, "cache")):
        assert group is not None
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
    (found,) = [one for one in COMMANDS["idcfs mount"].params if one.name == option]
    assert isinstance(found, click.Option)
    assert bound in (found.help or "")
    (row,) = [line for line in OPTIONS.splitlines() if line.startswith(f"| `{found.opts[0]} ")]
    assert bound in row


@pytest.mark.parametrize(
    ("written", "hint"),
    [("unmount", "; did you mean umount?"), ("mont", "; did you mean mount?"), ("zzz", "."), ("--zzz", "")],
)
def test_a_command_that_is_none_is_answered_with_the_nearest(written: str, hint: str) -> None:
    context = click.Context(cli.main, info_name="idcfs")
    with pytest.raises(click.UsageError) as caught:
        cli.main.resolve_command(context, [written])
    kind = "option" if written.startswith("-") else "command"
    assert caught.value.message.startswith(f"No such {kind}")
    assert caught.value.message.endswith(f"'{written}'{hint}" if hint else ".")

"""The man page is what ``--help`` says, and what man can show."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from idcfs.cli import main
from idcfs.commands.setting import SETTINGS
from idcfs.config import variable
from scripts.manpage import commands, page

CHECKOUT = Path(__file__).parents[1]
PAGE = CHECKOUT / "docs" / "idcfs.1"


@pytest.fixture(scope="module")
def shown() -> str:
    """As it is read."""
    command = ["groff", "-ww", "-man", "-Tutf8", "-P-cbou", "-rLL=1000n", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_it_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run 'make man'"


def test_every_command_has_a_section_with_its_options(shown: str) -> None:
    sections = dict(re.findall(r"^ {3}(idcfs [a-z ]+)\n(.*?)(?=^ {0,3}\S)", shown, re.MULTILINE | re.DOTALL))
    contexts = {
        one.command_path: one for one in commands(click.Context(main, info_name="idcfs", **main.context_settings))
    }
    assert sections.keys() == contexts.keys()
    for path, context in contexts.items():
        for parameter in context.command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                for word in (*parameter.opts, *parameter.secondary_opts):
                    assert re.search(rf"^ +(.*(, | / ))?{word}\b", sections[path], re.MULTILINE), word


@pytest.mark.parametrize("text", ["~/.cache/idcfs", "Modality = 'CT'", "--cache-dir DIR", "[MOUNTPOINT]…", "{bucket}"])
def test_what_is_to_be_typed_stands_as_it_is_typed(text: str, shown: str) -> None:
    assert text in shown


def test_the_settings_are_in_it(shown: str) -> None:
    assert all(re.search(rf"\b{variable(name)}\b", shown) for name in SETTINGS)
    for text in ("XDG_CONFIG_HOME", "~/.config/idcfs/config.toml", "/etc/idcfs/config.toml", "mount.idcfs", "mount(8)"):
        assert text in shown


def test_it_is_ascii() -> None:
    assert PAGE.read_bytes().isascii()


def test_the_wheel_installs_it() -> None:
    wheel = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"]["docs/idcfs.1"] == "share/man/man1/idcfs.1"

"""The command ``idcfs config``: what a mount would be made with, and where each of these settings comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from .. import options
from ..config import config_file, long_name, setting_of, unknown_variables
from ..console import say
from ..printable import printable
from .mount import mount
from .setting import SETTINGS, check_settings

_NOWHERE = Path(os.devnull)
"""Stands for a mountpoint: nothing is mounted."""


@click.command(short_help="Show settings, and where they come from.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@click.pass_context
def config(ctx: click.Context, as_json: bool) -> None:
    """Show each setting of 'idcfs mount', its value, and where that comes from: default, file or environment.

    A setting is called like the long option of 'idcfs mount'. It stands in ~/.config/idcfs/config.toml (XDG), as in
    cache-size = "50GiB", or in the environment, as IDCFS_CACHE_SIZE. An option goes before the environment, and that
    before the file.
    """
    with mount.make_context("mount", [str(_NOWHERE)], parent=ctx) as seen:
        check_settings(seen)  # first: a URL with a password in it is not even shown
        report = {name: _report(seen, option) for name, option in SETTINGS.items()}
        file = config_file()
        if as_json:
            click.echo(json.dumps({"file": str(file), "file_exists": file.exists(), "settings": report}, indent=1))
        else:
            click.echo(f"{printable(str(file))}:{'' if file.exists() else ' does not exist'}")
            for name, setting in report.items():
                click.echo(
                    f"  {name:<15}{_shown(setting['value']):<24}  {setting['place'] or setting['source']}".rstrip()
                )
        for line in unknown_variables(SETTINGS, [options.PROXY_VARIABLE]):
            say(line)


def _report(ctx: click.Context, option: click.Option) -> dict[str, Any]:
    setting = setting_of(ctx, option)
    value = ctx.params[str(option.name)]
    if long_name(option) == "cache-dir":
        value = str(value or options.default_cache_dir())
    return {
        "value": value,
        "source": setting.source if setting else "default",
        "place": setting.place if setting else None,
    }


def _shown(value: Any) -> str:
    """On one line, as it would be written in the file."""
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(", ".join(value) if isinstance(value, tuple) else str(value))

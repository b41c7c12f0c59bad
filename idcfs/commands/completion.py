"""The command ``idcfs completion``: what a shell needs to complete this command's words. click makes it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_NAME, _VARIABLE = "idcfs", "_IDCFS_COMPLETE"
"""The variable is click's own name for it."""


@click.command(short_help="Print what completes words in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what lets SHELL complete commands, options, their values, and the places of mounts.

    For bash, add to ~/.bashrc: eval "$(idcfs completion bash)"; for zsh, to ~/.zshrc: eval "$(idcfs completion zsh)";
    for fish: idcfs completion fish > ~/.config/fish/completions/idcfs.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, _NAME, _VARIABLE).source())

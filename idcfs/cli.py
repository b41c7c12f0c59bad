"""The command ``idcfs``: one clear line for what goes wrong, and an exit code.

Exit codes: 0 done, 1 it failed, 2 the input cannot be used, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

from importlib import import_module

import click

from .console import OneLine

_MODULES = {
    "cache": "cache",
    "completion": "completion",
    "config": "config",
    "doctor": "doctor",
    "info": "info",
    "mount": "mount",
    "path": "info",
    "status": "status",
    "umount": "umount",
    "warm": "warm",
}
"""The commands, and in which module below ``commands`` each of them is."""


class _Commands(OneLine):
    """A command's module is loaded once it is asked for: with all of them, umount would start a quarter later."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command = getattr(import_module(f".commands.{_MODULES[cmd_name]}", __package__), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, which cannot say what somebody may have meant: it knows only commands that are loaded."""
        written = args[0]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from .nearest import did_you_mean  # not sooner: difflib takes longer to load than some commands

            meant = "" if written.startswith("-") else did_you_mean(written, _MODULES)
            if not meant:
                raise
            raise click.UsageError(f"{error.message.removesuffix('.')}; {meant}", ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="idcfs")
def main() -> None:
    """Public cancer imaging as files: mount the NCI Imaging Data Commons, or any DICOMweb server, read-only."""

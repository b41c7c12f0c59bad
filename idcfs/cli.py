"""The command ``idcfs``: one clear line for what goes wrong, and an exit code.

Exit codes: 0 done, 1 it failed, 2 the input cannot be used, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import click

from .commands.cache import cache
from .commands.completion import completion
from .commands.config import config
from .commands.doctor import doctor
from .commands.info import info, path
from .commands.mount import mount
from .commands.status import status
from .commands.umount import umount
from .commands.warm import warm
from .console import OneLine


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="idcfs")
def main() -> None:
    """Public cancer imaging as files: mount the NCI Imaging Data Commons, or any DICOMweb server, read-only."""


for command in (mount, umount, status, path, info, warm, cache, doctor, completion, config):
    main.add_command(command)

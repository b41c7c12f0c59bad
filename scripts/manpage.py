"""Writes the man page of ``idcfs``: man(7), one page.

Name, commands and options are what ``--help`` says, and the variables of settings those that there are, so that these
cannot differ; what stands behind them, from EXIT STATUS on, is written here by hand.

Not click-man, which makes a page of its own for each command, and nothing but options.

    python -m scripts.manpage >docs/idcfs.1
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version

import click

from idcfs.cli import main as idcfs
from idcfs.commands.setting import SETTINGS
from idcfs.config import variable

_WIDTH = 10_000
"""Of lines, for click: man breaks them anew."""

_ESCAPES = {"\\": r"\e", "-": r"\-", "~": r"\(ti", "^": r"\(ha", "'": r"\(aq", "`": r"\(ga"}
"""What roff would take for something else, or print as another character."""

_BEHIND = r"""
.SH EXIT STATUS
.TP
0
Done.
.TP
1
It failed.
.TP
2
The input cannot be used.
.TP
130
Stopped by Ctrl\-C or SIGTERM.
.SH SIGNALS
What the process of a mount, whose number
.B idcfs status
shows, does when it gets one:
.TP
.BR SIGTERM ", " SIGINT
Unmount and end, with exit status 0 in the foreground.
.TP
.B SIGHUP
Ask every server again at once, even if it was away or its quota was spent; with \-\-archive google, find the
credentials anew. In the foreground of a terminal: unmount and end.
.TP
.B SIGUSR1
Write all counters to the log, on one line.
.SH SETTINGS
Every option of
.B idcfs mount
but \-f can be set for good: in the environment by the variables below, or in config.toml under the name of the long
option, like
.B cache\-size = \(dq50GiB\(dq
or
.BR "offline = true" .
An option goes before the environment, and that before the file.
.B idcfs config
shows all settings, and where each comes from.
.PP
.B mount.idcfs
is what mount(8) runs for the type idcfs, also for /etc/fstab: what stands before the directory is the archive, and long
options stand after \-o, as in
.BR "mount \-t idcfs proxy /mnt/idc \-o collection=nlst,allow_other" .
It takes the settings of the machine, as a service of systemd's does that is root's.
.SH ENVIRONMENT
.TP
VARIABLES
The settings.
.TP
.B IDCFS_PROXY_URL
The address of IDC's public proxy, should it ever move.
.TP
.BR XDG_CACHE_HOME ", " XDG_STATE_HOME ", " XDG_CONFIG_HOME
Where caches, logs and settings lie.
.TP
.BR HTTPS_PROXY ", " NO_PROXY
Proxies on the way to the archive.
.TP
.BR GOOGLE_APPLICATION_CREDENTIALS ", " CLOUDSDK_CONFIG ", " CLOUDSDK_API_ENDPOINT_OVERRIDES_HEALTHCARE
With \-\-archive google: as for gcloud.
.TP
.B NOTIFY_SOCKET
Set by systemd, which is told when a mount answers, asks every server again, and ends.
.SH FILES
.TP
.I \(ti/.cache/idcfs
Catalogs, lists, sizes and contents.
.TP
.I \(ti/.local/state/idcfs/MOUNTPOINT.log
The log of a mount, with \- for /, and digits behind where that could be another mount's, too.
.B idcfs status
shows it.
.TP
.IR \(ti/.config/idcfs/config.toml ", " /etc/idcfs/config.toml
Settings: yours, and those of the machine.
.TP
.IR \(ti/.config/idcfs/NAME.env ", " /etc/idcfs/NAME.env
Settings of the one service idcfs@NAME, as lines like IDCFS_COLLECTION=nlst.
.SH SEE ALSO
.BR fusermount3 (1),
.BR mount (8),
.BR mount.fuse3 (8)
.PP
The Imaging Data Commons: https://portal.imaging.datacommons.cancer.gov
"""


def page() -> str:
    """The whole man page."""
    return "".join(f"{line}\n" for line in _lines()) + _BEHIND.lstrip("\n").replace("VARIABLES", _variables())


def _variables() -> str:
    return ".BR " + ' ", " '.join(rf"\%{variable(name)}" for name in SETTINGS)  # unbroken at the end of a line


def _lines() -> Iterator[str]:
    context = click.Context(idcfs, info_name="idcfs", **idcfs.context_settings)
    yield f'.TH IDCFS 1 "" "idcfs {version("idcfs")}" "User Commands"'
    yield ".SH NAME"
    yield r"idcfs \- the NCI Imaging Data Commons as a read\-only filesystem"
    yield ".SH SYNOPSIS"
    for command in commands(context):
        yield f".B {_plain(command.command_path)}"
        yield _plain(" ".join(command.command.collect_usage_pieces(command)))
        yield ".br"
    yield ".SH DESCRIPTION"
    yield from _text(idcfs.help or "")
    yield ".PP"
    yield from _text("Every command says with --help what stands here.")
    yield ".SH COMMANDS"
    for command in commands(context):
        yield from _section(command)


def commands(context: click.Context) -> Iterator[click.Context]:
    """Every command below that does something."""
    group = context.command
    if not isinstance(group, click.Group):
        yield context
        return
    for name in group.list_commands(context):
        below = group.get_command(context, name)
        if below is not None and not below.hidden:
            yield from commands(
                click.Context(below, parent=context, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH)
            )


def _section(context: click.Context) -> Iterator[str]:
    yield f".SS {_plain(context.command_path)}"
    yield from _text(inspect.cleandoc(context.command.help or ""))
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record and "--help" not in parameter.opts:
            names, said = record
            yield ".TP"
            yield rf"\fB{_plain(names)}\fR"
            yield _plain(said)


def _text(paragraphs: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", paragraphs)):
        if number:
            yield ".PP"
        yield _plain(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    """``text`` as roff shows it: neither a request nor an escape, and in ASCII."""
    text = "".join(_ESCAPES.get(one, one) if one.isascii() else rf"\[u{ord(one):04X}]" for one in text)
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    print(page(), end="")

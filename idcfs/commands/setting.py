"""The options of ``idcfs mount``, which are its settings, and what commands share of them."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import click

from .. import config, options
from ..config import long_name, naming_places
from ..console import Place
from ..layout import NAMED_LAYOUTS
from ..settings import GIB, PACKAGED, PROXY, QIDO, TIMEOUT_SECONDS, ContentSettings, MountSettings, Policy
from .completing import complete_collection

LOG_LEVELS = ("debug", "info", "warning", "error")

OPTIONS = (
    click.Option(
        ["--archive"],
        default=PROXY,
        show_default=True,
        metavar="proxy|google|URL",
        help="Where instances come from: IDC's public proxy (no login, daily quota), "
        "Google's IDC store (with your Google login), or a DICOMweb server.",
    ),
    click.Option(
        ["--idc-version"],
        metavar="N",
        type=click.IntRange(1, 9_999),
        help="With --archive google: the IDC release whose store is read.  default: the packaged index's",
    ),
    click.Option(
        ["--google-store"],
        metavar="PATH",
        help="With --archive google: a store of your own, projects/P/locations/L/datasets/D/dicomStores/S.",
    ),
    click.Option(
        ["--quota-project"],
        metavar="ID",
        help="With --archive google: the project that requests are counted for.  "
        "default: the one your credentials name",
    ),
    click.Option(
        ["--index"],
        default=PACKAGED,
        show_default=True,
        metavar=f"{PACKAGED}|{QIDO}|FILE",
        help="What is listed: the index of the idc-index package, what the archive itself lists, "
        "or a parquet file with idc-index's columns.",
    ),
    click.Option(
        ["--layout"],
        default="default",
        show_default=True,
        metavar="|".join((*NAMED_LAYOUTS, "TEMPLATE")),
        help="Which directories lead to a series: by name, or as a template of idc-index's columns, like "
        f"{NAMED_LAYOUTS['idc-index']}",
    ),
    click.Option(
        ["--collection"],
        metavar="ID",
        multiple=True,
        shell_complete=complete_collection,
        help="Show this collection alone; may be given several times.",
    ),
    click.Option(
        ["--where"],
        metavar="SQL",
        help="Show those series alone that a condition over the index's columns holds for, like "
        "\"Modality = 'CT' AND license_short_name = 'CC BY 4.0'\"",
    ),
    click.Option(
        ["--manifest"],
        metavar="FILE|-",
        help="Show those series alone that a file, or stdin, lists: SeriesInstanceUIDs, one a line or in a column of "
        "that name, or a manifest for s5cmd of IDC's portal.",
    ),
    click.Option(
        ["--content"],
        default="auto",
        show_default=True,
        type=click.Choice(get_args(Policy)),
        help="Where contents come from: WADO-RS, with the public buckets for what that cannot serve; or one of them "
        "alone. With wado and the public proxy, files over 32 MiB cannot be read.",
    ),
    click.Option(
        ["--bucket"],
        metavar="aws|gcs|URL",
        help="The public buckets, which hold all of IDC: at AWS, at Google, or at a URL in which {bucket} stands for "
        "the bucket's name.  default: aws; with --archive URL none, unless --content bucket",
    ),
    click.Option(
        ["--exact-sizes/--no-exact-sizes"],
        help="Learn exact sizes from the buckets when a series is listed: one request more per file, once. "
        "With --archive URL, --bucket is needed.",
    ),
    click.Option(
        ["--cache-dir"],
        type=Place(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Where catalogs, lists, sizes and contents are kept.  [default: idcfs in the XDG cache directory]",
    ),
    click.Option(
        ["--cache-size"],
        default=f"{ContentSettings().disk_cache_bytes // GIB}GiB",
        show_default=True,
        metavar="SIZE",
        help="Disk space for file contents, at least 2MiB; 5 % of the disk always stays free.  "
        "0: nothing is kept on disk",
    ),
    click.Option(
        ["--memory-cache"],
        default=options.default_memory_cache,
        metavar="SIZE",
        help="Memory for file contents: at least 2MiB, at most what the machine, or container, has.  "
        "default: 256MiB, or a quarter of the memory where that is less",
    ),
    click.Option(
        ["--prefetch"],
        default=ContentSettings().prefetch,
        show_default=True,
        metavar="N",
        type=click.IntRange(0, options.MAX_DOWNLOADS),
        help="Files of a series fetched at once before they are asked for.  0: off",
    ),
    click.Option(["--offline/--no-offline"], help="Never send a request: what is cached works."),
    click.Option(
        ["--timeout"],
        default=TIMEOUT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        type=float,
        help="Longest wait without progress before a call fails, from 0.1 to 86400.",
    ),
    click.Option(
        ["-o", "--options", "fuse_options"],
        multiple=True,
        metavar="OPTION,…",
        help="Mount options, such as allow_other or nonempty; uid=, gid= and umask= say whose everything is "
        "shown to be.",
    ),
    # What mount(8) calls the mount: beside -o, for what is given there replaces all that the settings say of it.
    click.Option(["--source-name"], hidden=True),
    click.Option(
        ["--metrics-port"],
        metavar="N",
        type=click.IntRange(0, 65_535),
        help="Tell counters to Prometheus on this port, at 127.0.0.1 only.  "
        "0: any free one, which 'idcfs status' shows",
    ),
    click.Option(["-f", "--foreground"], is_flag=True, help="Stay in the foreground and log to stderr."),
    click.Option(
        ["--log-level"],
        default="info",
        show_default=True,
        type=click.Choice(LOG_LEVELS, case_sensitive=False),
        help="What is logged.",
    ),
)
"""The options of ``idcfs mount``, in the order in which ``--help`` shows them."""

SETTINGS = {long_name(one): one for one in OPTIONS if one.name != "foreground" and not one.hidden}
"""Those that may be set for good, by their long names without dashes; how one command is run is no setting."""


class Configured(config.Configured):
    """A command with some of these options, which takes them from the file and the environment as well."""

    known = SETTINGS


def those(*names: str) -> list[click.Parameter]:
    """Options of ``idcfs mount`` that another command has, too, by their long names."""
    return [SETTINGS[name] for name in names]


def check_settings(seen: click.Context) -> MountSettings:
    """What ``idcfs mount`` would mount with all that was given to it; but a manifest, which may be stdin, is not read.

    :param seen: its context.
    :raises UsageError: for what cannot be used.
    """
    given = cast("options.MountOptions", seen.params | {"manifest": None})
    with naming_places(seen):
        return options.mount_settings(seen.params["mountpoint"], given, foreground=True)

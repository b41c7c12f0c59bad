"""The command ``idcfs status``: what mounts are, and what they have done, for people or for programs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from .. import mounts
from ..cohort import spoken
from ..config import is_given
from ..console import say
from ..errors import UsageError
from ..printable import printable
from ..running import content_of, reports
from ..settings import METRICS_HOST, METRICS_PATH
from ..stats import COUNTERS, GAUGES
from .completing import Mountpoint
from .watching import watch

_MEANINGS = COUNTERS | GAUGES
_MOST = 10**15
"""More bytes than any disk has: a capacity beyond that is none."""


@click.command(short_help="Show what mounts are and have done.")
@click.argument("mountpoint", required=False, type=Mountpoint(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@click.option("--watch", "is_watched", is_flag=True, help="Show what they do, as it happens, until Ctrl-C.")
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3_600),
    help="With --watch: how often, from 0.1 to 3600.",
)
def status(mountpoint: Path | None, as_json: bool, is_watched: bool, interval: float) -> None:
    """Show what the idcfs at MOUNTPOINT (or every idcfs) is and has done: requests, bytes, hits, open files."""
    if is_watched and as_json:
        raise UsageError("--watch is for people, and --json for programs: give one of them")
    if not is_watched and is_given(click.get_current_context(), "interval"):
        raise UsageError("--interval goes with --watch")
    if as_json and mountpoint is None and not mounts.idcfs_mounts():
        click.echo("[]")  # for programs, no mount is an answer like others
        return
    found, unanswered = reports(mountpoint)
    for line in unanswered:
        say(line)
    if is_watched and found:
        watch(list(found), interval)
    if as_json:
        click.echo(json.dumps(next(iter(found.values())) if mountpoint else list(found.values()), indent=1))
    else:
        for report in found.values():
            _print(report)
    if unanswered:
        sys.exit(1)


def _print(report: dict[str, Any]) -> None:
    """``report`` is that of ``/.status.json``; what a mount of another version does not say is left out."""
    click.echo(printable(f"{report['mountpoint']}: idcfs {report['idcfs']}, process {report['pid']}"))
    facts = {
        "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report["started"])),
        "archive": f"{report['archive']}, {report['url']}",
        "offline": "yes: no request is sent" if report["offline"] else "no",
        "index": report["index"],
        **({"cohort": spoken(report["cohort"])} if report.get("cohort") else {}),
        "content": content_of(report),
        "cache": report["cache_dir"],
    }
    if "log_file" in report:
        facts["log"] = report["log_file"] or "stderr"
    if (port := report.get("metrics_port")) is not None:
        facts["metrics"] = f"http://{METRICS_HOST}:{port}{METRICS_PATH}"
    for name, fact in facts.items():
        click.echo(f"  {name:<10}{printable(fact)}")
    for name, value in report["counters"].items():
        number = f"{value:,}" if value <= _MOST else "no limit"
        click.echo(printable(f"  {name.replace('_', ' '):<22}{number:>16}  {_MEANINGS.get(name, '')}".rstrip()))

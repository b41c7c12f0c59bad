"""What mounts do, as it happens: a picture that a terminal shows anew, or else a line now and then."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import say
from ..errors import IdcfsError, UsageError
from ..printable import printable
from ..running import idcfs_at, read_status

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR_WIDTH = 30
_NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Look:
    """What a mount said of itself, and what it had said the time before."""

    report: dict[str, Any]
    at: float
    """On the monotonic clock, in seconds."""
    before: Look | None = None

    @property
    def counters(self) -> dict[str, int]:
        """Counters and gauges by name."""
        counters: dict[str, int] = self.report["counters"]
        return counters

    @property
    def received(self) -> int:
        """Bytes from the archive and the buckets, since it was mounted."""
        return self.counters["bytes_from_archive"] + self.counters["bytes_from_buckets"]

    @property
    def rate(self) -> float | None:
        """Bytes received per second since the look before; None for the first look at a mount's process."""
        if self.before is None or self.before.report["pid"] != self.report["pid"]:
            return None
        return (self.received - self.before.received) / max(self.at - self.before.at, 1e-3)

    @property
    def hit_ratio(self) -> float | None:
        """Of the pieces that were read, how many were at hand; None if nothing was read."""
        hits, misses = self.counters["hits"], self.counters["misses"]
        return hits / (hits + misses) if hits + misses else None


def watch(places: list[Path], interval_seconds: float) -> None:
    """Show these mounts, until none of them is there any more.

    :raises IdcfsError: then, with what is wrong with the last one.
    """
    looks: dict[Path, Look | None] = dict.fromkeys(places)
    with _screen() as show:
        while True:
            for place, before in list(looks.items()):
                try:
                    looks[place] = _look(place, before)
                except IdcfsError as error:
                    del looks[place]
                    if not looks:
                        raise
                    say(str(error))
            show([look for look in looks.values() if look is not None])
            time.sleep(interval_seconds)


def _look(place: Path, before: Look | None) -> Look:
    """:raises IdcfsError: if there is no mount any more, or it does not answer."""
    try:
        report = read_status(idcfs_at(place))
    except IdcfsError:
        if before is None or _is_mounted(place):
            raise
        raise IdcfsError(f"{place} is not mounted any more") from None
    # Of the looks before, only one is kept.
    return Look(report, time.monotonic(), Look(before.report, before.at) if before else None)


def _is_mounted(place: Path) -> bool:
    try:
        idcfs_at(place)
    except UsageError:
        return False
    return True


@contextmanager
def _screen() -> Iterator[Callable[[list[Look]], None]]:
    """What shows looks on stdout."""
    if not os.isatty(1):
        yield lambda looks: click.echo("\n".join(map(_line, looks)))
        return
    from rich.console import Console, Group  # here, not above: it takes as long to load as most commands take in all
    from rich.live import Live

    with _unwound_by_hangup(), Live(console=Console(), auto_refresh=False) as live:
        yield lambda looks: live.update(Group(*map(_picture, looks)), refresh=True)


@contextmanager
def _unwound_by_hangup() -> Iterator[None]:
    """SIGHUP ends what runs within as an error does, so that a terminal gets its cursor back, unless it is ignored."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _line(look: Look) -> str:
    parts = [
        time.strftime("%H:%M:%S"),
        printable(look.report["mountpoint"]),
        *(f"{name} {value}" for name, value in _numbers(look).items()),
        *(line for circuit in look.report.get("circuits", []) if circuit["open"] for line in [_server(circuit)]),
    ]
    return "  ".join(parts)


def _picture(look: Look) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text(f"{printable(look.report['mountpoint'])}  {time.strftime('%H:%M:%S')}", style="bold")
    numbers = Table.grid(padding=(0, 2))
    for name, value in _numbers(look).items():
        numbers.add_row(f"  {name}", Text(value))
    for circuit in look.report.get("circuits", []):
        numbers.add_row("  server", Text(_server(circuit), style="red" if circuit["open"] else ""))
    return Group(head, numbers, _downloads(look))


def _downloads(look: Look) -> RenderableType:
    """A bar for each download, in its own place: what comes new stands below."""
    from rich.filesize import decimal
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for one in look.report.get("downloads", []):
        got, size = one["got"], one["size"]
        bar = ProgressBar(total=size or None, completed=got, width=_BAR_WIDTH, pulse=False)
        amount = f"{decimal(got)} of {_NOTHING if size is None else decimal(size)}"
        table.add_row(Text(f"  {printable(one['uid'])}"), bar, Text(amount))
    return table


def _numbers(look: Look) -> dict[str, str]:
    """What is worth a look, in words."""
    from rich.filesize import decimal

    rate, ratio, counters = look.rate, look.hit_ratio, look.counters
    return {
        "rate": _NOTHING if rate is None else f"{decimal(round(rate))}/s",
        "received": decimal(look.received),
        "hits": _NOTHING if ratio is None else f"{ratio:.0%}",
        "open files": f"{counters['open_files']:,}",
        "downloads": f"{counters['running_downloads']:,}",
        "errors": f"{counters['errors']:,}",
    }


def _server(circuit: dict[str, Any]) -> str:
    """Whether a server is asked, and if not, until when not."""
    name = printable(circuit["archive"])
    if not circuit["open"]:
        return f"{name}: circuit closed"
    until = time.strftime("%H:%M:%S", time.localtime(circuit["until"]))
    quota = "quota spent, " if circuit["quota"] else ""
    return f"{name}: circuit open until {until}: {quota}{printable(circuit['why'] or _NOTHING)}"

"""What is promised, and the table that sets it beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of the table: what is measured and where it has to stay."""

    name: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:,g} {self.unit}".rstrip()
        return "–" if self.at_least is None else f"≥ {self.at_least:,g} {self.unit}".rstrip()

    def kept_by(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


def table(values: Mapping[Promise, Sequence[float]]) -> Iterator[str]:
    """Name, median (min–max of n), bound, and whether it is kept."""
    rows = [("", "median (min–max of n)", "bound", "")]
    for promise, found in values.items():
        middle = statistics.median(found)
        verdict = "" if promise.bound == "–" else "ok" if promise.kept_by(middle) else "MISSED"
        rows.append((promise.name, measured(found, promise.unit), promise.bound, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def measured(found: Sequence[float], unit: str) -> str:
    spread = f" ({figure(min(found))}–{figure(max(found))} of {len(found)})" if len(found) > 1 else ""
    return f"{figure(statistics.median(found))} {unit}".rstrip() + spread


def figure(value: float) -> str:
    """Three significant digits, thousands set apart."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"

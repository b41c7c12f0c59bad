"""The benchmark's plots, one for each question, as SVG on white: readable on a page of any colour.

Subjects differ in colour (Okabe and Ito's and one of Tol's, which the colour-blind tell apart) and in shape. The same
results make the same bytes, as long as matplotlib is the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from scripts.bench.ranking import FLOOR, Question, Ranking
from scripts.bench.results import Cache, Results
from scripts.bench.table import figure

PLOTS = {
    "cold": "How long does it take the first time, beside idcfs?",
    "warm": "How long does it take again, beside idcfs?",
    "latency": "How does the time grow with the distance of the server?",
    "bytes": "How much is moved for it, the first time?",
}
"""The names of the files, and what each answers."""

_OURS = ("#0072b2", "#56b4e9")
_OTHERS = ("#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#882255", "#b8a600")
_FLOOR_COLOUR = "#888888"
_SHAPES = "osD^vPX<>p*h"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "idcfs",  # else the names within the file are random
    "svg.fonttype": "none",  # text stays text: a third of the size, and can be searched
    "font.family": [
        "DejaVu Sans",
        "sans-serif",
    ],  # what the layout is made with comes with matplotlib; others are narrower
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.markersize": 5,
}
_Places = Sequence[float | None]
_PANELS_IN_A_ROW = 3
_ROW_INCHES = 0.42
_AROUND_INCHES = 1.6  # for the title, the axis, and who is who


def draw(results: Results, directory: Path) -> None:
    """Write all of ``PLOTS`` into ``directory``; where nothing was measured, axes are empty."""
    with mpl.rc_context(_STYLE):
        plot = Plot(results)
        drawn = {"latency": plot.latency(), "bytes": plot.amounts()}
        drawn |= {cache: plot.ratios(cache) for cache in Ranking.caches}
        for name, title in PLOTS.items():
            drawn[name].suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
            drawn[name].savefig(directory / f"{name}.svg", metadata={"Date": None, "Creator": None})


class Plot:
    """What is drawn of some results, and how each subject looks."""

    def __init__(self, results: Results) -> None:
        self._subjects = results.subjects
        self._ranking = Ranking(results)
        ours = self._ranking.ours
        others = [subject for subject in self._subjects if subject not in ours and FLOOR not in subject]
        colours = dict.fromkeys(self._subjects, _FLOOR_COLOUR)
        for subjects, chosen in ((ours, _OURS), (others, _OTHERS)):
            colours |= {subject: chosen[place % len(chosen)] for place, subject in enumerate(subjects)}
        self._looks: dict[str, dict[str, Any]] = {
            subject: {"color": colours[subject], "marker": _SHAPES[place % len(_SHAPES)]}
            for place, subject in enumerate(self._subjects)
        }

    # --- the plots ---

    def ratios(self, cache: Cache) -> Figure:
        """A panel per latency, a row per job: each subject's seconds as times those of idcfs."""
        jobs, delays = self._jobs(cache), self._ranking.delays
        rivals = [subject for subject in self._subjects if subject not in self._ranking.ours]
        drawn = _figure(len(delays), 1, len(jobs) * _ROW_INCHES, share=True)
        for axes, delay in zip(drawn.axes, delays, strict=False):
            _rows(axes, jobs)
            axes.axvline(1, color=_OURS[0], linewidth=1.5)
            axes.set_title(f"{delay} ms away")
            axes.set_xlabel("× idcfs's seconds (right: slower)")
            for subject in rivals:
                questions = [Question(job, cache, delay) for job in jobs]
                found = [self._ranking.ratio(subject, question) for question in questions]
                rows = [self._aside(subject) + row for row in range(len(jobs))]
                there = [(ratio, row) for ratio, row in zip(found, rows, strict=True) if ratio]
                self._points(axes, subject, questions, [ratio.median if ratio else None for ratio in found], rows)
                least, most = ([getattr(ratio, end) for ratio, _ in there] for end in ("least", "most"))
                axes.hlines([row for _, row in there], least, most, color=self._looks[subject]["color"], linewidth=1)
            _readable(axes, "x")
        self._explain(drawn, rivals)
        return drawn

    def latency(self) -> Figure:
        """A panel per job: seconds over latency, a line per subject."""
        jobs, delays = self._jobs("cold"), self._ranking.delays
        columns = min(_PANELS_IN_A_ROW, max(len(jobs), 1))
        lines = max(-(-len(jobs) // columns), 1)
        drawn = _figure(columns, lines, 1.9 * lines, share=False)
        for axes, job in zip(drawn.axes, jobs, strict=False):
            axes.set_title(job, loc="left")
            axes.set_yscale("log")
            axes.set_xticks(delays, [f"{delay} ms" for delay in delays])
            for subject in self._subjects:
                questions = [Question(job, "cold", delay) for delay in delays]
                cells = [self._ranking.cell(subject, question) for question in questions]
                seconds = [statistics.median(cell.seconds) if cell and cell.seconds else None for cell in cells]
                self._points(axes, subject, questions, delays, seconds, line=":" if FLOOR in subject else "-")
            _readable(axes, "y")
        for axes in drawn.axes[len(jobs) :]:
            axes.set_visible(False)
        drawn.supylabel("seconds", fontsize=9)
        self._explain(drawn, self._subjects)
        return drawn

    def amounts(self) -> Figure:
        """A row per job: what each subject has moved, the farthest away."""
        jobs, delay = self._jobs("cold"), max(self._ranking.delays, default=0)
        drawn = _figure(1, 1, len(jobs) * _ROW_INCHES, share=False)
        (axes,) = drawn.axes
        _rows(axes, jobs)
        axes.set_xlabel(f"MB over the wire, {delay} ms away (who moved nothing is not shown)")
        for subject in self._subjects:
            questions = [Question(job, "cold", delay) for job in jobs]
            cells = [self._ranking.cell(subject, question) for question in questions]
            moved = [statistics.median(cell.bytes_moved) / 1e6 if cell and cell.bytes_moved else 0 for cell in cells]
            rows = [self._aside(subject) + row for row in range(len(jobs))]
            self._points(axes, subject, questions, [amount or None for amount in moved], rows)
        _readable(axes, "x")
        self._explain(drawn, self._subjects)
        return drawn

    # --- what they are drawn with ---

    def _jobs(self, cache: Cache) -> list[str]:
        return [job for job, kind in self._ranking.tasks if kind == cache]

    def _aside(self, subject: str) -> float:
        """Where in the row of a job a subject has its place, lest points cover each other."""
        return (self._subjects.index(subject) + 0.5) / len(self._subjects) * 0.8 - 0.4

    def _points(
        self, axes: Axes, subject: str, questions: Sequence[Question], xs: _Places, ys: _Places, *, line: str = ""
    ) -> None:
        """A subject's answers; those without figures are left out, and wrong ones are hollow."""
        points = [(x, y, q) for x, y, q in zip(xs, ys, questions, strict=True) if x is not None and y is not None]
        look = self._looks[subject]
        width = 2.0 if subject in self._ranking.ours else 1.0
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], linestyle=line, linewidth=width, **look)
        hollow = [(x, y) for x, y, question in points if self._ranking.wrong(subject, question)]
        axes.plot([x for x, _ in hollow], [y for _, y in hollow], linestyle="", markerfacecolor="white", **look)

    def _explain(self, drawn: Figure, subjects: Sequence[str]) -> None:
        """Which subject is which, below the panels."""
        handles = [Line2D([], [], ls="", label=subject, **self._looks[subject]) for subject in subjects]
        handles.append(Line2D([], [], marker="o", color="#000000", markerfacecolor="white", ls="", label="wrong"))
        drawn.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _figure(columns: int, lines: int, inches: float, *, share: bool) -> Figure:
    drawn = Figure(figsize=(10, inches + _AROUND_INCHES), facecolor="white", layout="constrained")
    drawn.subplots(max(lines, 1), max(columns, 1), sharex=share, sharey=share)
    return drawn


def _rows(axes: Axes, jobs: Sequence[str]) -> None:
    """A logarithmic axis to the right, and the first job on top."""
    axes.set_xscale("log")
    axes.set_yticks(range(len(jobs)), jobs)
    axes.set_ylim(max(len(jobs), 1) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    for row in range(1, len(jobs), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", linewidth=0, zorder=0)


def _readable(axes: Axes, which: str) -> None:
    """0.1, 1, 10 in place of powers of ten, and 2 and 5 between them where there are few."""
    axis, (least, most) = (axes.xaxis, axes.get_xlim()) if which == "x" else (axes.yaxis, axes.get_ylim())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 100 * least else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: figure(value)))
    axis.set_minor_locator(NullLocator())

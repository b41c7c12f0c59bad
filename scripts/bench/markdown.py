"""What the report is written with: paragraphs, tables, links to headings, and figures in words."""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from scripts.bench.table import figure

NOTHING = "–"
_WIDTH = 120


def prose(text: str) -> Iterator[str]:
    """A paragraph, with an empty line above it."""
    yield from ("", *textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False))


def heading(level: int, text: str) -> Iterator[str]:
    yield from ("", f"{'#' * level} {text}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> Iterator[str]:
    """Nothing at all, title included, if there are no rows."""
    if rows:
        yield from heading(3, title) if title else ()
        yield ""
        for row in (header, ["---"] * len(header), *rows):
            yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def slug(text: str) -> str:
    """The name that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def sections_of(text: str) -> dict[str, str]:
    """What stands below each heading of the second level."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {name.strip(): below.strip() for name, below in zip(parts[::2], parts[1::2], strict=True)}


def sections(title: str, parts: Mapping[str, str]) -> Iterator[str]:
    """The opposite, one level below a title."""
    yield from heading(2, title) if parts else ()
    for name, text in parts.items():
        yield from (*heading(3, name), "", text)


def spread(values: Sequence[float]) -> str:
    """Median, least and most; how many they are is said beside it."""
    if not values:
        return NOTHING
    least, middle, most = (figure(value) for value in (min(values), statistics.median(values), max(values)))
    return middle if least == most else f"{middle} ({least}–{most})"

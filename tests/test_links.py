"""Links within the documents lead to files, and to headings, that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """(file, heading) of each link to something of this repository."""
    for target in LINK.findall(FENCED.sub("", document.read_text())):
        if not target.startswith(("http://", "https://")):
            path, _, heading = target.partition("#")
            yield (document.parent / path).resolve() if path else document, heading


def headings(document: Path) -> set[str]:
    """The names that GitHub gives to the headings: lower case, ``-`` for blanks, no punctuation."""
    found = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for path, heading in links(document):
        assert path.exists(), path
        assert not heading or heading in headings(path), f"{path.name}#{heading}"

"""The table in docs/SEMANTICS.md: what came of each idiom, as the last ``make matrix`` wrote it."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.tools.idiom import Outcome
from tests.tools.idioms import KINDS

DOCUMENT = Path(__file__).parents[2] / "docs" / "SEMANTICS.md"
BEGINNING = "<!-- What follows is written by `make matrix`. -->"
END = "<!-- What was written by `make matrix` ends here. -->"

WRITTEN = pytest.StashKey[bool]()
"""Whether this run of pytest has written the table."""

Row = tuple[str, ...]
"""Name, what is compared, and an outcome for each state."""

_DEBIAN = (
    *("coreutils", "curl", "diffutils", "file", "findutils", "git", "gzip", "rsync", "tar", "xz-utils", "zip", "zstd"),
    *("dcm2niix", "dcmtk", "libgdcm-tools", "plastimatch", "vtk-dicom-tools"),
)
_PYTHON = (
    *("numpy", "pydicom", "SimpleITK", "itk", "nibabel", "highdicom"),
    *("openslide-bin", "openslide-python", "wsidicom"),
)


def rows(outcomes: Mapping[tuple[str, str], Outcome], states: Sequence[str]) -> list[Row]:
    """The table of these outcomes, by idiom and state; a kind has a row with its name alone."""
    made: list[Row] = [("what", "compared", *(f"sizes {state}" for state in states))]
    for kind, idioms in KINDS.items():
        made.append((f"**{kind}**", *[""] * (1 + len(states))))
        made += [
            (f"`{idiom.name}`", idiom.compared, *(str(outcomes[idiom.name, state]) for state in states))
            for idiom in idioms
        ]
    return made


def committed() -> list[Row]:
    """The table in the document."""
    lines = [line for line in _parts()[1].splitlines() if line.startswith("|")]
    split = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return split[:1] + split[2:]


def write(table: Sequence[Row]) -> None:
    """Put the table into the document, with the versions of what was run."""
    before, _, after = _parts()
    head, *others = [f"| {' | '.join(row)} |" for row in table]
    lines = [head, "|---" * len(table[0]) + "|", *others]
    DOCUMENT.write_text(f"{before}{BEGINNING}\n\n" + "\n".join(lines) + f"\n\n{_versions()}\n\n{END}{after}")


def _parts() -> tuple[str, str, str]:
    before, beginning, rest = DOCUMENT.read_text().partition(BEGINNING)
    inside, end, after = rest.partition(END)
    assert beginning, f"{DOCUMENT} has no {BEGINNING}"
    assert end, f"{DOCUMENT} has no {END}"
    return before, inside, after


def _versions() -> str:
    python = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PYTHON)
    linux = ".".join(platform.release().split(".")[:2])
    query = ["dpkg-query", "-W", "-f", "${Package} ${Version}, ", *_DEBIAN]
    debian = subprocess.run(query, capture_output=True, text=True, check=True).stdout.removesuffix(", ")
    text = f"Run with Linux {linux}; of Debian, {debian}; Python {platform.python_version()}, {python}."
    return textwrap.fill(text, 118, break_on_hyphens=False)

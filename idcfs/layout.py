"""Layouts: which directories lead to a series, and what they are called.

A layout is a template of directory names separated by ``/``, in which ``%Column`` stands for a column of the index, as
in idc-index's ``dirTemplate``. Its last directory holds the files of one series. Only ``/``, the placeholders and
characters that are neither letters nor digits may stand in it, so that where a placeholder ends is never in doubt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from .errors import UsageError
from .nearest import did_you_mean
from .settings import DEFAULT_LAYOUT

PATH_COLUMNS = ("collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
"""What identifies a series, from the largest to the smallest."""

NAMED_LAYOUTS = {
    "default": DEFAULT_LAYOUT,
    "idc-index": "%collection_id/%PatientID/%StudyInstanceUID/%Modality_%SeriesInstanceUID",
    "readable": "%collection_id/%PatientID/%StudyDate_%StudyDescription_%StudyInstanceUID"
    "/%SeriesNumber_%Modality_%SeriesDescription_%SeriesInstanceUID",
}
"""Layouts that have a name. ``idc-index`` is where idc-index 0.13 downloads to (``DOWNLOAD_HIERARCHY_DEFAULT``)."""

FREE_TEXT = frozenset(
    {
        "BodyPartExamined",
        "Manufacturer",
        "ManufacturerModelName",
        "SeriesDescription",
        "StudyDescription",
        "sop_class_name",
        "transfer_syntax_name",
    }
)
"""Columns of words, in whose place a directory's name has them without spaces and the like."""
COLUMNS = (
    *PATH_COLUMNS,
    "analysis_result_id",
    "source_DOI",
    "PatientAge",
    "PatientSex",
    "StudyDate",
    "Modality",
    "SOPClassUID",
    "TransferSyntaxUID",
    "SeriesDate",
    "SeriesNumber",
    "license_short_name",
    "crdc_series_uuid",
    *sorted(FREE_TEXT),
)
"""Columns of idc-index that a placeholder may name: all that hold text which people would look for in a path."""

_TOKEN = re.compile(rf"%({'|'.join(sorted(COLUMNS, key=len, reverse=True))})(?![^\W_])|([^\w%]|_)+")
MAX_DIRECTORIES = 6
"""As many as the numbers of nodes have room for."""


class Piece(NamedTuple):
    """A part of a directory's name."""

    text: str
    is_column: bool
    """Whether ``text`` names a column, whose value stands here."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A template that has been understood."""

    text: str
    directories: tuple[tuple[Piece, ...], ...]
    """From the root's children down to the series."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it takes names from, each once."""
        pieces = (piece for directory in self.directories for piece in directory)
        return tuple(dict.fromkeys(piece.text for piece in pieces if piece.is_column))

    def directory_of(self, column: str) -> int | None:
        """Which directory (0 for the root's children) is called by the value of ``column`` and nothing else, if any."""
        shown = self.directories if self.is_distinct else self.directories[:-1]
        alone = (Piece(column, is_column=True),)
        return shown.index(alone) if alone in shown else None

    @property
    def is_distinct(self) -> bool:
        """Whether no two series can share a path; where they can, the last directory's name may get what tells them
        apart."""
        return (Piece("SeriesInstanceUID", is_column=True),) in self.directories


def parse_layout(text: str) -> Layout:
    """The layout that has the name ``text``, or that ``text`` spells out.

    :raises UsageError: if it is none.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"--layout {text}: it is no text in UTF-8") from None
    if "%" not in text:
        if text not in NAMED_LAYOUTS:
            raise UsageError(
                f"--layout {text!r}: give {', '.join(NAMED_LAYOUTS)}, or a template like {NAMED_LAYOUTS['idc-index']}"
            )
        text = NAMED_LAYOUTS[text]
    text = text.strip("/")
    directories = tuple(_pieces(directory, text) for directory in text.split("/"))
    if len(directories) > MAX_DIRECTORIES:
        raise UsageError(f"--layout {text}: {len(directories)} directories above the files; {MAX_DIRECTORIES} at most")
    return Layout(text, directories)


def _pieces(directory: str, layout: str) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    end = 0
    while end < len(directory):
        match = _TOKEN.match(directory, end)
        if not match:
            raise UsageError(f"--layout {layout}: {_complaint(directory[end:])}")
        pieces.append(Piece(match[1] or match[0], is_column=bool(match[1])))
        end = match.end()
    if not any(piece.is_column for piece in pieces):
        raise UsageError(f"--layout {layout}: the directory {directory!r} has no placeholder, like %PatientID")
    return tuple(pieces)


def _complaint(rest: str) -> str:
    """What is wrong with the beginning of ``rest``."""
    written = re.match(r"%\w*", rest)
    if not written:
        return f"{rest[:20]!r} is neither a placeholder nor one of the characters between them, like - and _"
    near = did_you_mean(written[0][1:], COLUMNS, "%")
    hint = near or f"there are {', '.join(f'%{name}' for name in COLUMNS)}"
    return f"no placeholder {written[0]}; {hint}"


DEFAULT = parse_layout(DEFAULT_LAYOUT)

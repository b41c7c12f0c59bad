"""Manifests: lists of series, as people and IDC's portal write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import IO, NamedTuple

from ..errors import UsageError

_UID = "SeriesInstanceUID"
_CONTENT = "crdc_series_uuid"
_DELIMITERS = ",\t;"
_OBJECTS = re.compile(r"\b(?:s3|gs)://[^/\s'\"]+/([^/\s'\"]+)")
"""What s5cmd copies: in IDC's buckets the files of a series stand below its ``crdc_series_uuid``."""
_QUOTES = "\"'"
_LIKE_UID = re.compile(r"[\s\"']*\d+(\.\d+){2,}[\s\"']*$")
"""What is no decimal number: DICOM's UIDs have three components at least."""
_LINE_CHARACTERS = 1024 * 1024
"""A longer line is none."""
_SHOWN_CHARACTERS = 60


class Listed(NamedTuple):
    """What a manifest lists."""

    column: str
    """The column of the index that has its values: SeriesInstanceUID or crdc_series_uuid."""
    values: list[str]
    """Each once, in its order; at least one."""


def read_manifest(file: IO[bytes], name: str) -> Listed:
    """What ``file`` lists: SeriesInstanceUIDs, one a line; a table with a column of that name, its fields separated by
    commas, tabs or semicolons; or the commands for s5cmd that IDC's portal exports. Lines that begin with # say
    nothing, also between the rows of a table.

    :param name: what users call it.
    :raises UsageError: if it is none of these, or lists nothing.
    """
    try:
        lines = _Lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        first = next((line for line in lines if not _says_nothing(line)), "")
        column, values = _listed(first, lines)
        found = list(dict.fromkeys(values))
        if not found:
            raise UsageError("it lists no series")
    except UnicodeDecodeError:
        raise UsageError(f"--manifest {name}: it is no text in UTF-8") from None
    except UsageError as error:
        raise UsageError(f"--manifest {name}: {error}") from None
    return Listed(column, found)


class _Lines:
    """The lines of a text."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.number = 0
        """Of the line that came last, from 1."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(_LINE_CHARACTERS)
        if not line:
            raise StopIteration
        if "\0" in line or len(line) == _LINE_CHARACTERS:
            raise UsageError("it is no list of series")
        self.number += 1
        return line


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _listed(first: str, rest: _Lines) -> tuple[str, Iterator[str]]:
    """The column of the index that these lines have values of, and the values, by what the first line is like."""
    lines = chain([first], rest)
    if _OBJECTS.search(first):
        return _CONTENT, _copied(lines)
    for delimiter in _DELIMITERS:
        header = _header(first, delimiter)
        if _UID.casefold() in header:
            return _UID, _fields(_rows(first, rest, delimiter), header.index(_UID.casefold()))
    if any(delimiter in first.strip() for delimiter in _DELIMITERS):
        raise UsageError(f"its first line names no column {_UID}: {_shown(first)}")
    return _UID, _words(lines)


def _header(first: str, delimiter: str) -> list[str]:
    """What a table's columns are called, if this line begins one.

    :raises UsageError: if a field is longer than fields are.
    """
    try:
        fields = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        raise UsageError("it is no list of series") from None
    return [field.strip().casefold() for field in fields]


def _copied(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if _says_nothing(line):
            continue
        match = _OBJECTS.search(line)
        if not match:
            raise UsageError(f"this copies no series: {_shown(line)}")
        yield match[1]


def _rows(first: str, rest: _Lines, delimiter: str) -> Iterator[list[str]]:
    """The rows of a table, each with all the lines that its quoted fields go over.

    :raises UsageError: if a row has a quote too many or too few. Else the rows up to the next quote would be a field
        of it, and their series lost.
    """
    began = 0  # in which line the row that is being read began; 0: none has

    def passed() -> Iterator[str]:
        nonlocal began
        for line in chain([first], rest):
            if not began:
                if _says_nothing(line):
                    continue
                began = rest.number
            yield line

    try:
        for row in csv.reader(passed(), delimiter=delimiter, skipinitialspace=True, strict=True):
            if rest.number > began and any(_hides_uid(field, delimiter) for field in row):
                raise UsageError(
                    f"line {began}: a quoted field goes on over lines with UIDs: is there a quote too many?"
                )
            began = 0
            yield row
    except csv.Error as error:
        reason = str(error).replace("\t", "a tab")
        raise UsageError(f"{reason} (line {began}: is there a quote too many?)") from None


def _hides_uid(field: str, delimiter: str) -> bool:
    lines = re.split(r"[\r\n]", field)
    return len(lines) > 1 and any(_LIKE_UID.match(cell) for line in lines for cell in line.split(delimiter))


def _fields(rows: Iterator[list[str]], column: int) -> Iterator[str]:
    next(rows)  # the header
    for row in rows:
        if not any(field.strip() for field in row):
            continue
        if len(row) <= column or not row[column].strip():
            raise UsageError(f"a row has no {_UID}: {_shown(','.join(row))}")
        yield row[column].strip()


def _words(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if _says_nothing(line):
            continue
        words = line.split()
        if len(words) > 1 or not words[0].strip(_QUOTES):
            raise UsageError(f"this is no {_UID}: {_shown(line)}")
        yield words[0].strip(_QUOTES)


def _shown(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")

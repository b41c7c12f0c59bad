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
    commas, tabs or semicolons; or the commands for s5cmd that IDC's portal exports. Lines that begin with #
    say nothing.

    :param name: what users call it.
    :raises UsageError: if it is none of these, or lists nothing.
    """
    try:
        lines = _lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        first = next((line for line in lines if not _says_nothing(line)), "")
        column, values = _listed(first, chain([first], lines))
        found = list(dict.fromkeys(values))
        if not found:
            raise UsageError("it lists no series")
    except UnicodeDecodeError:
        raise UsageError(f"--manifest {name}: it is no text in UTF-8") from None
    except (UsageError, csv.Error) as error:
        raise UsageError(f"--manifest {name}: {error}") from None
    return Listed(column, found)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LINE_CHARACTERS):
        if "\0" in line or len(line) == _LINE_CHARACTERS:
            raise UsageError("it is no list of series")
        yield line


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _listed(first: str, lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    """The column of the index that ``lines`` have values of, and these, by what the first line is like."""
    if _OBJECTS.search(first):
        return _CONTENT, _copied(lines)
    for delimiter in _DELIMITERS:
        rows = csv.reader([first], delimiter=delimiter, skipinitialspace=True)
        header = [field.strip() for field in next(rows, [])]
        if _UID in header:
            return _UID, _fields(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), header.index(_UID))
    if any(delimiter in first.strip() for delimiter in _DELIMITERS):
        raise UsageError(f"its first line names no column {_UID}: {_shown(first)}")
    return _UID, _words(lines)


def _copied(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if _says_nothing(line):
            continue
        match = _OBJECTS.search(line)
        if not match:
            raise UsageError(f"this copies no series: {_shown(line)}")
        yield match[1]


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
        if len(words) > 1:
            raise UsageError(f"this is no {_UID}: {_shown(line)}")
        yield words[0].strip("\"'")


def _shown(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")

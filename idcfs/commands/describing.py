"""What a path of a mount is: from where it stands, what ``stat`` says, and the extended attributes it has."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..layout import PATH_COLUMNS, parse_layout
from ..running import ATTRIBUTE_PREFIX, content_of

_LEVELS = dict(zip(PATH_COLUMNS, ("collection", "patient", "study", "series"), strict=True))
_MOST_DIGITS = 19
"""Of a number of 63 bits."""
_NUMBERS = frozenset({"size_bytes", "instance_count", "series_count", "cached_bytes"})


def describe(path: Path, mountpoint: Path, report: dict[str, Any]) -> dict[str, Any]:
    """What is at ``path``, without links, in the mount at ``mountpoint``, for programs; costs no request by itself.

    ``report`` is what the mount says of itself. What is not known is None, or not there: sizes and counts are in bytes
    and numbers, ``size_exact`` is whether ``size_bytes`` will stay so, the rest is text.

    :raises OSError: if it cannot be looked at.
    """
    status = os.stat(path)
    place = path.relative_to(mountpoint)
    is_directory = stat.S_ISDIR(status.st_mode)
    facts: dict[str, Any] = {
        "path": str(path),
        "mountpoint": str(mountpoint),
        "what": _what(place, report.get("layout", "default"), is_directory=is_directory),
        "size_bytes": None if is_directory else status.st_size,
        "size_exact": None,
        "content": None if _is_hidden(place) else content_of(report),
    }
    for name, value in _attributes(path).items():
        if name in _NUMBERS:
            if value.isdecimal() and len(value) <= _MOST_DIGITS:  # else the mount is not one of ours
                facts[name] = int(value)
        elif name == "size_exact":
            facts[name] = value == "true"
        else:
            facts.setdefault(name, value)
    if is_directory and facts["size_bytes"] is not None:
        facts["size_exact"] = True  # the index's sum
    return facts


def facts_of(described: dict[str, Any]) -> dict[str, str]:
    """What ``describe`` has found, in words for people; what is not known is left out."""
    facts = {
        "collection": described.get("collection_id"),
        "patient": described.get("patient_id"),
        "study": described.get("study_uid"),
        "series": described.get("series_uid"),
        "instance": described.get("instance_uid"),
        "modality": described.get("modality"),
        "holds": _counts(described),
        "size": _size(described),
        "cached": _bytes(described.get("cached_bytes")),
        "licence": described.get("license"),
        "citation": described.get("source_url", "").replace(",", ", "),
        "viewer": described.get("viewer_url"),
        "bucket": described.get("aws_url"),
        "content": described["content"],
    }
    return {name: fact for name, fact in facts.items() if fact}


def _attributes(path: Path) -> dict[str, str]:
    """The extended attributes of idcfs at ``path``, without what stands before their names; none where it has none."""
    found = {}
    with suppress(OSError):  # a mount, or a file, without any
        for name in os.listxattr(path):
            if name.startswith(ATTRIBUTE_PREFIX):
                value = os.getxattr(path, name)
                found[name.removeprefix(ATTRIBUTE_PREFIX)] = value.decode(errors="backslashreplace")
    return found


def _what(place: Path, layout: str, *, is_directory: bool) -> str:
    """What stands at ``place``, below the mountpoint."""
    kind = "directory" if is_directory else "file"
    if not place.parts:
        return "archive"
    if _is_hidden(place):
        return f"hidden {kind}"
    if not is_directory:
        return "instance"
    try:
        directories = parse_layout(layout).directories
    except UsageError:  # of another version
        return kind
    if len(place.parts) == len(directories):
        return "series"
    named = {piece.text for piece in directories[len(place.parts) - 1] if piece.is_column}
    return next((level for column, level in reversed(_LEVELS.items()) if column in named), kind)


def _is_hidden(place: Path) -> bool:
    """Whether it is idcfs' own: no name in the root that comes from an index begins with a dot."""
    return bool(place.parts) and place.parts[0].startswith(".")


def _counts(described: dict[str, Any]) -> str | None:
    series, instances = described.get("series_count"), described.get("instance_count")
    counts = [f"{series:,} series"] if series is not None else []
    if instances is not None:
        counts.append(f"{instances:,} instance{'' if instances == 1 else 's'}")
    return ", ".join(counts) or None


def _size(described: dict[str, Any]) -> str | None:
    if (size := _bytes(described["size_bytes"])) is None:
        return None
    if described["size_exact"] is None:
        return size
    return f"{size}, exact" if described["size_exact"] else f"{size}, provisional: it is exact once the file is opened"


def _bytes(number: int | None) -> str | None:
    return None if number is None else f"{number:,} bytes"

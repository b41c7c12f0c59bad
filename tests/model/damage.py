"""What can happen to a cache directory."""

from __future__ import annotations

import os
from pathlib import Path

from tests import damaged_sqlite

DAMAGES = {damage.__name__: damage for damage in damaged_sqlite.DAMAGES}


def damage_database(path: Path, how: str) -> None:
    """One of ``DAMAGES``, to a file of SQLite that need not be there."""
    if path.exists() and path.stat().st_size > 4_096:
        DAMAGES[how](path)


def damage_blocks(directory: Path, at: int, how: str, *, all_of_them: bool) -> None:
    """To one file of blocks, or to all.

    :param at: where a bit is flipped; and which file it is, whatever the number.
    """
    files = sorted(path for path in directory.glob("??/*") if path.is_file())
    for number in range(len(files)) if all_of_them else [at] if files else []:
        _damage(files, number % len(files), at, how)


def _damage(files: list[Path], number: int, at: int, how: str) -> None:
    path, other = files[number], files[number - 1]
    if not path.exists() or not other.exists():
        return
    content = path.read_bytes()
    match how:
        case "flip":
            at %= max(1, len(content))
            path.write_bytes(content[:at] + bytes(255 - byte for byte in content[at : at + 1]) + content[at + 1 :])
        case "cut":
            os.truncate(path, len(content) // 2)
        case "grow":
            path.write_bytes(content + b"more")
        case "empty":
            path.write_bytes(b"")
        case "delete":
            path.unlink()
        case "swap":
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)

"""Text that others chose, as it may be shown: it could tell a terminal what to do, or pass for lines of ours."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` on one line: what cannot be printed is escaped, as are what a terminal obeys, and what turns the
    direction of writing."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)

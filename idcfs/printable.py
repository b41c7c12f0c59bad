"""Text that others chose, as it may be shown: it could tell a terminal what to do, or pass for lines of ours."""

from __future__ import annotations

_QUOTED_CHARACTERS = 100
"""A UID has 64, a media type or a range fewer."""


def printable(text: str) -> str:
    """``text`` on one line: what cannot be printed is escaped, as are what a terminal obeys, and what turns the
    direction of writing."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def quoted(text: str) -> str:
    """The same for a few words within a message of ours: no more of them than says what they are."""
    return printable(text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}…")

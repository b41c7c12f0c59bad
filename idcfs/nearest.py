"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LEAST_START = 3
"""Characters: with fewer, too much begins so."""


def did_you_mean(written: str, names: Iterable[str], prefix: str = "") -> str:
    """``did you mean NAME?`` of the one of ``names`` that is nearest to ``written``; empty if none is near.

    What begins with ``written`` is near, however long it is, and nearer than all that does not.

    :param prefix: what stands before all of them where they are written, and so makes none of them nearer.
    """
    folded = {name.casefold(): name for name in names}
    start = written.casefold()
    longer = [name for name in folded if name.startswith(start)] if len(start) >= _LEAST_START else []
    near = difflib.get_close_matches(start, longer or folded, n=1, cutoff=0.0 if longer else 0.6)
    return f"did you mean {prefix}{folded[near[0]]}?" if near else ""

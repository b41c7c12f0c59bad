"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(written: str, names: Iterable[str], prefix: str = "") -> str:
    """``did you mean NAME?`` of the one of ``names`` that is nearest to ``written``; empty if none is near.

    :param prefix: what stands before all of them where they are written, and so makes none of them nearer.
    """
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(written.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {prefix}{folded[near[0]]}?" if near else ""

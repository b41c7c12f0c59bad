"""Types of options whose values are judged before hours of work, not after them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click


class Minutes(click.FloatRange):
    """How long something is to go on; ``nan``, which is beyond no bound, and ``inf`` are no times."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        minutes = float(super().convert(value, param, ctx))
        if not math.isfinite(minutes):
            self.fail(f"{value} is no number of minutes.", param, ctx)
        return minutes


class ResultsFile(click.Path):
    """A file that can be written, though it need not be there yet; it is not made."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(str(super().convert(value, param, ctx)))
        directory = path.parent
        if not os.path.lexists(path) and not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
            self.fail(f"nothing can be written into {str(directory)!r}.", param, ctx)
        return path

"""How often the event loop has given somebody a turn."""

from __future__ import annotations

import trio


class Turns(trio.abc.Instrument):
    """Counts the turns that tasks have had."""

    number = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.number += 1

"""How far the machines go: as far as CI has time for, and always the same way; or far, and each time another one."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

VARIABLE = "MODEL_EXAMPLES"
"""How many examples of the first machine; of the second, whose steps take real time, a tenth as many."""


def depth(short: int, steps: int, share: int) -> settings:
    """Of a machine.

    :param short: how many examples CI has time for.
    :param steps: the most of one example.
    :param share: one of so many of the long form's examples is for it.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        pytest.exit(f"{VARIABLE} {wanted!r} is no number of examples", returncode=2)
    return settings(
        max_examples=max(1, int(wanted) // share) if wanted else short,
        derandomize=not wanted,  # what fails in CI is then of the change that it fails with
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )

"""Where a user's files belong (XDG): platformdirs knows, unless nobody knows whose home directory this is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs

from .errors import UsageError


def config() -> Path:
    """The directory of settings; it need not be there, as the others.

    :raises UsageError: where there is no home directory, nor a variable that says so; as the others do.
    """
    return _known(platformdirs.user_config_path)


def cache() -> Path:
    """The directory of all that can be had again."""
    return _known(platformdirs.user_cache_path)


def state() -> Path:
    """The directory of logs."""
    return _known(platformdirs.user_state_path)


def _known(place: Callable[[str], Path]) -> Path:
    try:
        return place("idcfs")
    except RuntimeError:  # no HOME, and a user that /etc/passwd does not have, as in a container with a bare number
        raise UsageError(
            "you have no home directory: set HOME, or all of XDG_CONFIG_HOME, XDG_CACHE_HOME and XDG_STATE_HOME"
        ) from None

"""Processes that do what would make a mount's own large: they build catalogs and what is made of them."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.abc import MetaPathFinder
from typing import IO

from ..errors import IdcfsError

BUILD = "idcfs.namespace.build"
EXPORT = "idcfs.namespace.export"

log = logging.getLogger(__name__)


def run_apart(
    module: str, *arguments: str, lines: Iterable[bytes] = (), given: IO[bytes] | None = None
) -> tuple[int, str]:
    """Run ``module`` in a process of its own; returns its exit code and, in one line, why.

    :param lines: what it finds on stdin, unless a file is ``given``.
    :raises IdcfsError: if there can be no such process.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        process = subprocess.Popen(
            command, stdin=given or subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise IdcfsError(f"{sys.executable} cannot be started: {error.strerror}") from None
    with process:
        assert process.stderr is not None
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin:  # it ended early, and says why
                process.stdin.writelines(lines)
        try:
            errors = process.stderr.read().decode(errors="replace").strip()
        except KeyboardInterrupt:  # nobody wants what it makes
            process.kill()
            raise
    if process.returncode == 0:
        for line in errors.splitlines():
            log.warning("%s", line)
    else:
        log.debug("%s failed:\n%s", module, errors)
    if process.returncode < 0:
        return process.returncode, f"the process that does it was ended: {signal.strsignal(-process.returncode)}"
    return process.returncode, errors.splitlines()[-1] if errors else f"exit code {process.returncode}"


def without_pandas() -> None:
    """To be called first by such a process."""
    sys.meta_path.insert(0, _WithoutPandas())


class _WithoutPandas(MetaPathFinder):
    """pyarrow loads pandas, where it is installed, to see whether a list is one of its series: half a builder's time.

    None in ``sys.modules`` does not help: this time pyarrow takes it for the module.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Not ours, or not to be found at all."""
        if fullname == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=fullname)

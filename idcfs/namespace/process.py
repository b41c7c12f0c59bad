"""Processes that do what would make a mount's own large: they build catalogs and what is made of them."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.abc import MetaPathFinder
from typing import IO

from ..errors import IdcfsError, UsageError

BUILD = "idcfs.namespace.build"
EXPORT = "idcfs.namespace.export"
WHERE = "idcfs.namespace.where"

_MOST_BYTES = 131_000
"""What an option may have, a little less than Linux passes on in one argument (MAX_ARG_STRLEN)."""
_SHOWN_CHARACTERS = 40
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TOLD = "told: "
"""Before what such a process writes to stderr while it runs, and is neither a warning nor why it failed."""

log = logging.getLogger(__name__)


def run_apart(
    module: str,
    *arguments: str,
    lines: Iterable[bytes] = (),
    given: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = log.warning,
) -> tuple[int, str]:
    """Run ``module`` in a process of its own; returns its exit code and, in one line, why.

    :param lines: what it finds on stdin, unless a file is ``given``.
    :param output: where its stdout goes, if anywhere.
    :param environment: all of it; ours, if there is none.
    :param tell: gets what it tells (``tell_parent``), at once.
    :raises UsageError: if the arguments are longer than the kernel passes on.
    :raises IdcfsError: if there can be no such process.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=given or subprocess.PIPE,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            longest = max(arguments, key=len)
            raise UsageError(f"{longest[:_SHOWN_CHARACTERS]}…: longer than {_MOST_BYTES:,} bytes, the most") from None
        raise IdcfsError(f"{sys.executable} cannot be started: {error.strerror}") from None
    with process:
        assert process.stderr is not None
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin:  # it ended early, and says why
                process.stdin.writelines(lines)
        try:
            errors = _errors(process.stderr, tell)
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


def _errors(lines: Iterable[bytes], tell: Callable[[str], None]) -> str:
    """What ``lines`` say but for what is told, when they end."""
    errors = []
    for line in lines:
        text = line.decode(errors="replace")
        if text.startswith(_TOLD):
            tell(text.removeprefix(_TOLD).strip())
        else:
            errors.append(text)
    return "".join(errors).strip()


def tell_parent(line: str) -> None:
    """To be called by such a process for what people are to know while it runs."""
    print(f"{_TOLD}{line}", file=sys.stderr, flush=True)


def end_with(parent: int) -> None:
    """To be called by such a process if nobody else will end it once ``parent``, which has started it, is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before that
        sys.exit(1)


def bound_memory(most_bytes: int) -> None:
    """To be called by such a process that works on what others wrote; beyond, it meets MemoryError, and leaves no
    core."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


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

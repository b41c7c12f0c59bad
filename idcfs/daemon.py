"""Going to the background: the command returns once the service is ready, or says in one line why it is not."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from .errors import IdcfsError, UsageError

_READY, _UNUSABLE, _FAILED = b"\0", b"\1", b"\2"
"""What the service tells the command: the last two are followed by the message of a ``UsageError`` or another error."""
_STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that may break in anywhere, but not while it is not yet known in which of the two processes."""

log = logging.getLogger(__name__)


def run_detached(service: Callable[[Callable[[], None]], None], hint: str) -> int:
    """Run ``service`` in a process of its own; returns that process' id once it calls the function it is given.

    To be called before any thread or event loop is started: the process forks.

    :param hint: where to look if it dies without a word.
    :raises IdcfsError: what the service raised before it was ready.
    :raises KeyboardInterrupt: if a signal stopped the waiting; the service has ended then.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_service(service, writing, before)
    os.close(writing)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    except KeyboardInterrupt:  # it is in a session of its own, so the terminal has not told it
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)  # should it be where it hears no signal, it finds the pipe closed once it is ready
        raise
    if answer == _READY:
        return pid
    kind, message = answer[:1], answer[1:].decode()
    if kind == _UNUSABLE:
        raise UsageError(message)
    raise IdcfsError(message or f"the mount's process ended unexpectedly: {hint}")


def _be_the_service(
    service: Callable[[Callable[[], None]], None], writing: int, signals: set[int | signal.Signals]
) -> NoReturn:
    """Never returns into the caller's code: that belongs to the other process.

    :param signals: those that are to be blocked.
    """
    code = 1
    answer = os.fdopen(writing, "wb")
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        os.setsid()
        os.chdir("/")  # pins no directory that somebody may want to unmount

        def ready() -> None:
            _leave_terminal()
            answer.write(_READY)
            try:
                answer.close()
            except BrokenPipeError:
                log.info("the command that mounts was stopped")
                os.kill(os.getpid(), signal.SIGTERM)

        service(ready)
        if not answer.closed:
            raise IdcfsError("the mount was ended before it answered")
        code = 0
    except IdcfsError as error:
        log.error("%s", error)
        code = 2
        if not answer.closed:
            answer.write((_UNUSABLE if isinstance(error, UsageError) else _FAILED) + _bytes(error))
    except KeyboardInterrupt:
        log.info("stopped before it was mounted")
    except BaseException:
        log.critical("the mount's process failed: this is a bug", exc_info=True)
    finally:
        with suppress(BrokenPipeError):  # nobody waits for it any more
            answer.close()
        logging.shutdown()
        os._exit(code)


def _bytes(error: IdcfsError) -> bytes:
    return str(error).encode(errors="backslashreplace")  # a path may be no text


def _leave_terminal() -> None:
    with open(os.devnull, "r+b") as nothing:
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)

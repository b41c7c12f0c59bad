"""What real servers to test against have in common: a process of their own on a free port, ended with its test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

_ATTEMPTS = 3
"""A free port may be taken by someone else before the server binds it."""


class Server:
    """A program that serves on a free port of 127.0.0.1, with all it writes in a temporary directory.

    It is ended with SIGKILL: that is safe for a test, and Orthanc takes 3 s for SIGTERM.
    """

    name = "the server"

    def __init__(self, start_seconds: float = 20.0) -> None:
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._log: IO[bytes] | None = None
        self._client: httpx.Client | None = None
        self.port = 0

    def command(self) -> Sequence[str | Path]:
        """What starts it on ``self.port``; may write files into ``self.directory``."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it is ready; may raise httpx.TransportError while it is not."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix=f"{type(self).__name__.lower()}-")
        self._log = (self.directory / "log").open("wb")
        try:
            self._start()
            self._client = httpx.Client(base_url=self.host_url, timeout=60, trust_env=False)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                print(f"--- log of {self.name} on port {self.port}\n{self.log()[-4000:]}")
        finally:
            self.stop()  # though nobody may be there any more who reads what is printed

    @property
    def host_url(self) -> str:
        """``http://127.0.0.1:PORT``"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> httpx.Client:
        """Asks it, over connections that are kept; raises if it does not run."""
        if self._client is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._client

    @property
    def directory(self) -> Path:
        """What is its own, and goes with it; raises if it does not run."""
        if self._temporary is None:
            raise RuntimeError(f"{self.name} does not run")
        return Path(self._temporary.name)

    @property
    def pid(self) -> int:
        """Process id; raises if it does not run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    def log(self) -> str:
        """What the process has written so far."""
        return "" if self._log is None else Path(self._log.name).read_text(errors="replace")

    def stop(self) -> None:
        """Ends the process and its group, and removes what it wrote."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self._kill()
        if self._log is not None:
            self._log.close()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _start(self) -> None:
        for attempt in range(_ATTEMPTS):
            self.port = _free_port()
            self._process = subprocess.Popen(
                [str(word) for word in self.command()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if self._becomes_ready():
                return
            self._kill()
            if attempt == _ATTEMPTS - 1:
                raise RuntimeError(f"{self.name} did not start:\n{self.log()[-4000:]}")

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The group has the number of its leader as long as that has not been waited for.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)

    def _becomes_ready(self) -> bool:
        """Waits until it answers; False if the process ends or the time is over."""
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                if self.answers():
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        return False


def required(path: str | Path | None, name: str) -> Path:
    """``path``, where a program was looked for; raises if it was not found."""
    if path is None:
        raise RuntimeError(f"{name} is not installed")
    return Path(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

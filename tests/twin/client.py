"""The twin from a test's side: a process to start, tune, watch, kill and start again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

_CHECKOUT = Path(__file__).resolve().parents[2]
_READY = "READY "
_WAITING = "WAITING"


class Twin:
    """A twin in a process of its own, on a free port of 127.0.0.1.

        with Twin(data=directory, latency_seconds=0.05) as twin:
            httpx.get(f"{twin.url}/studies")

    ``data`` is a directory of DICOM files (or several), ``index`` an idc-index parquet or ``"packaged"``, the rest are
    knobs (``tests.twin.knobs.Knobs``) or ``profile="orthanc"``. The process ends with this one, however that ends.
    """

    def __init__(
        self,
        data: Path | Sequence[Path] | None = None,
        index: Path | str | None = None,
        port: int = 0,
        start_seconds: float = 60.0,
        **knobs: Any,
    ) -> None:
        self._data = [data] if isinstance(data, Path) else list(data or [])
        self._index = index
        self._knobs = knobs
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] = tempfile.NamedTemporaryFile(prefix="twin-", suffix=".log")  # noqa: SIM115
        self.port = port

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._log.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None and (log := self.log()).count("\n") > 1:  # more than that it listens
            print(f"--- log of the twin on port {self.port}\n{log}", file=sys.stderr)
        self._log.close()

    @property
    def host_url(self) -> str:
        """``http://127.0.0.1:PORT``"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The DICOMweb root, without a trailing slash."""
        return f"{self.host_url}/dicomWeb"

    def bucket_url(self, bucket: str = "idc-open-data") -> str:
        """The root of one of the buckets, without a trailing slash."""
        return f"{self.host_url}/bucket/{bucket}"

    @property
    def pid(self) -> int:
        """Process id; raises if the twin does not run."""
        if self._process is None:
            raise RuntimeError("the twin does not run")
        return self._process.pid

    def start(self) -> None:
        """Starts the process and waits until it listens; on the same port as before, if it ran before."""
        position = self._spawn()
        try:
            self.port = int(self._wait_for(_READY, position).rpartition(":")[2])
        except BaseException:
            self.kill()
            raise

    def _spawn(self) -> int:
        """Starts the process; where its log begins."""
        command = [sys.executable, "-m", "tests.twin", "--with-parent", "--port", str(self.port)]
        for directory in self._data:
            command += ["--data", str(directory)]
        if self._index is not None:
            command += ["--index", str(self._index)]
        command += ["--knobs", json.dumps(self._knobs)]
        position = self._log.seek(0, 2)
        # In a session of its own: Ctrl-C is for the one who has it serve, and may still need it to come to an end.
        self._process = subprocess.Popen(
            command,
            cwd=_CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return position

    def stop(self) -> None:
        """Ends the process: politely, and if that takes more than 3 s, not."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process at once, mid-answer."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Ends the process, and starts another on the same port, with the knobs and counters of a start.

        Nobody listens for some milliseconds only, however long a start takes on a busy machine.
        """
        before = self._process
        if before is None:
            self.start()
            return
        position = self._spawn()
        try:
            self._wait_for(_WAITING, position)
            _end(before, signal.SIGKILL)
            self._wait_for(_READY, position)
        except BaseException:
            _end(before, signal.SIGKILL)
            self.kill()
            raise

    def set(self, **knobs: Any) -> None:
        """Changes some knobs; the others stay."""
        self._control("PUT", "knobs", json=knobs)

    def reset(self) -> None:
        """The knobs of the start, and counters at zero."""
        self._control("DELETE", "knobs")
        self._control("DELETE", "counters")

    def reset_counters(self) -> None:
        """Counters at zero; the knobs stay."""
        self._control("DELETE", "counters")

    def scan(self) -> None:
        """Looks anew which files there are; the knobs stay."""
        self._control("PUT", "holdings")

    def hang_up(self) -> None:
        """Ends every connection at once, mid-answer; new ones are served."""
        self._control("DELETE", "connections")

    def counters(self) -> dict[str, Any]:
        """What the twin has seen since the start or the last reset (``tests.twin.state.State.counters``)."""
        return self._control("GET", "counters")

    def log(self) -> str:
        """What the process has written so far."""
        return Path(self._log.name).read_text(errors="replace")

    def _control(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        response = httpx.request(method, f"{self.host_url}/_twin/{name}", timeout=30, trust_env=False, **options)
        if response.status_code != 200:
            raise ValueError(response.text)
        answer: dict[str, Any] = response.json()
        return answer

    def _wait_for(self, beginning: str, position: int) -> str:
        """The line that the process prints and that begins so; raises if it ends or takes too long."""
        assert self._process is not None
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            ended = self._process.poll() is not None
            for line in self.log()[position:].splitlines(keepends=True):
                if line.startswith(beginning) and line.endswith("\n"):
                    return line.strip()
            if ended:
                break
            time.sleep(0.01)
        raise RuntimeError(f"the twin did not start:\n{self.log()[position:]}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process, how)


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)
    finally:
        if process.stdin is not None:
            process.stdin.close()

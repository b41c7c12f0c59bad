"""A real Orthanc to test against: Debian's orthanc 1.10.1 with orthanc-dicomweb 1.7, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

_PLUGIN_FOLDERS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))
_PLUGIN = "libOrthancDicomWeb.so"
_ATTEMPTS = 3
"""A free port may be taken by someone else before Orthanc binds it."""


class Orthanc:
    """An empty Orthanc on a free port of 127.0.0.1, with its store in a temporary directory.

        with Orthanc() as orthanc:
            orthanc.upload(path)
            httpx.get(f"{orthanc.url}/studies")

    It is ended with SIGKILL: that is safe for a test, and SIGTERM takes 3 s.
    """

    def __init__(self, start_seconds: float = 20.0, **options: object) -> None:
        """``options`` go into Orthanc's configuration."""
        self._start_seconds = start_seconds
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._log: IO[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="orthanc-")
        self._log = (Path(self._directory.name) / "log").open("wb")
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
        if error is not None:
            print(f"--- log of Orthanc on port {self.port}\n{self.log()[-4000:]}")
        self._client.close()
        self.stop()

    @property
    def host_url(self) -> str:
        """Orthanc's own REST root."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The DICOMweb root, without a trailing slash."""
        return f"{self.host_url}/dicom-web"

    @property
    def pid(self) -> int:
        """Process id; raises if Orthanc does not run."""
        if self._process is None:
            raise RuntimeError("Orthanc does not run")
        return self._process.pid

    def upload(self, path: Path) -> bool:
        """Stores a file; False if Orthanc rejects it."""
        # Orthanc drops idle connections after 1.0 s and races whoever reuses one: a connection for every upload.
        response = self._client.post("/instances", content=path.read_bytes(), headers={"Connection": "close"})
        return response.status_code == 200

    def upload_all(self, paths: Iterable[Path], workers: int = 8) -> list[Path]:
        """Stores files, some at a time; returns those that were accepted, in the order given."""
        listed = list(paths)
        with ThreadPoolExecutor(max_workers=workers) as pool:
            return [path for path, accepted in zip(listed, pool.map(self.upload, listed), strict=True) if accepted]

    def log(self) -> str:
        """What the process has written so far."""
        return "" if self._log is None else Path(self._log.name).read_text(errors="replace")

    def stop(self) -> None:
        """Ends the process and its group, and removes its store."""
        self._kill()
        if self._log is not None:
            self._log.close()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def _start(self) -> None:
        for attempt in range(_ATTEMPTS):
            self.port = _free_port()
            self._process = subprocess.Popen(
                [str(_required(_binary(), "Orthanc")), str(self._configuration())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if self._answers():
                return
            self._kill()
            if attempt == _ATTEMPTS - 1:
                raise RuntimeError(f"Orthanc did not start:\n{self.log()[-4000:]}")

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The group has the number of its leader as long as that has not been waited for.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)

    def _answers(self) -> bool:
        """Waits until the DICOMweb plugin answers; False if the process ends or the time is over."""
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                if httpx.get(f"{self.url}/studies", timeout=5, trust_env=False).status_code == 200:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        return False

    def _configuration(self) -> Path:
        assert self._directory is not None
        root = Path(self._directory.name)
        settings = {
            "Name": "test",
            "StorageDirectory": str(root / "storage"),
            "IndexDirectory": str(root / "index"),
            "HttpPort": self.port,
            "Plugins": [str(_required(_plugin(), _PLUGIN))],
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        } | self._options
        path = root / "orthanc.json"
        path.write_text(json.dumps(settings))
        return path


def _binary() -> Path | None:
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _plugin() -> Path | None:
    return next((folder / _PLUGIN for folder in _PLUGIN_FOLDERS if (folder / _PLUGIN).exists()), None)


def _required(path: Path | None, name: str) -> Path:
    if path is None:
        raise RuntimeError(f"{name} is not installed")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

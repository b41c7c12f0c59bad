"""A real Orthanc to test against: Debian's orthanc 1.10.1 with orthanc-dicomweb 1.7, in a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.server import Server, required

_PLUGIN_FOLDERS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))
_PLUGIN = "libOrthancDicomWeb.so"


class Orthanc(Server):
    """An empty Orthanc on a free port of 127.0.0.1, with its store in a temporary directory.

    with Orthanc() as orthanc:
        orthanc.upload(path)
        httpx.get(f"{orthanc.url}/studies")
    """

    name = "Orthanc"

    def __init__(self, start_seconds: float = 20.0, **options: object) -> None:
        """``options`` go into Orthanc's configuration."""
        super().__init__(start_seconds)
        self._options = options

    @property
    def url(self) -> str:
        """The DICOMweb root, without a trailing slash."""
        return f"{self.host_url}/dicom-web"

    def upload(self, path: Path) -> bool:
        """Stores a file; False if Orthanc rejects it."""
        # Orthanc drops idle connections after 1.0 s and races whoever reuses one: a connection for every upload.
        response = self.client.post("/instances", content=path.read_bytes(), headers={"Connection": "close"})
        return response.status_code == 200

    def upload_all(self, paths: Iterable[Path], workers: int = 8) -> list[Path]:
        """Stores files, some at a time; returns those that were accepted, in the order given."""
        listed = list(paths)
        with ThreadPoolExecutor(max_workers=workers) as pool:
            return [path for path, accepted in zip(listed, pool.map(self.upload, listed), strict=True) if accepted]

    def command(self) -> Sequence[str | Path]:
        found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
        return [required(found, self.name), self._configuration()]

    def answers(self) -> bool:
        """The DICOMweb plugin is ready last."""
        return httpx.get(f"{self.url}/studies", timeout=5, trust_env=False).status_code == 200

    def _configuration(self) -> Path:
        settings = {
            "Name": "test",
            "StorageDirectory": str(self.directory / "storage"),
            "IndexDirectory": str(self.directory / "index"),
            "HttpPort": self.port,
            "Plugins": [str(required(_plugin(), _PLUGIN))],
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        } | self._options
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(settings))
        return path


def _plugin() -> Path | None:
    return next((folder / _PLUGIN for folder in _PLUGIN_FOLDERS if (folder / _PLUGIN).exists()), None)

"""What tests ask of a twin, and how they read its answers."""

from __future__ import annotations

from email.parser import BytesParser
from pathlib import Path

import httpx
import pydicom

STAR = 'multipart/related; type="application/dicom"; transfer-syntax=*'
SINGLE = "application/dicom; transfer-syntax=*"
SLICES = 12
Instance = tuple[str, bytes]


def instance_at(path: Path) -> Instance:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    series = f"/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
    return f"{series}/instances/{header.SOPInstanceUID}", path.read_bytes()


def series_of(instance: Instance) -> str:
    return instance[0].partition("/instances/")[0]


def get(client: httpx.Client, path: str, accept: str = STAR, **headers: str) -> httpx.Response:
    return client.get(path, headers={"Accept": accept, "Accept-Encoding": "identity"} | headers)


def parts(response: httpx.Response) -> list[bytes]:
    """The parts of a multipart body, by the standard library's parser: a second opinion."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    # The email parser reads text: a line break of its own must not be taken for a boundary's.
    boundary = response.headers["content-type"].partition('boundary="')[2].rstrip('"').encode()
    assert BytesParser().parsebytes(head).get_boundary() == boundary.decode()
    assert response.content.endswith((b"--" + boundary + b"--\r\n", b"--" + boundary + b"--"))
    sections = (b"\r\n" + response.content).split(b"\r\n--" + boundary)[1:-1]
    return [section.partition(b"\r\n\r\n")[2] for section in sections]


def uids(response: httpx.Response, tag: str = "00080018") -> list[str]:
    assert response.status_code == 200, response.text
    return [item[tag]["Value"][0] for item in response.json()]

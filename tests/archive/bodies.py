"""Bodies of an instance as WADO-RS sends them, and the fetching of it."""

from __future__ import annotations

from dataclasses import dataclass

from idcfs.archive.dicomweb import DicomwebArchive


@dataclass(frozen=True)
class Key:
    """An instance to fetch."""

    study_uid: str = "1.2"
    series_uid: str = "1.2.3"
    instance_uid: str = "1.2.3.4"
    size: int | None = None


CONTENT = bytes(range(256)) * 1000
TYPE = 'Content-Type: multipart/related; type="application/dicom"; boundary=b-0\r\n'
DICOM = "Content-Type: application/dicom\r\n"


def part(content: bytes = CONTENT, length: int | None = None, kind: str = DICOM) -> bytes:
    announced = "" if length is None else f"Content-Length: {length}\r\n"
    return f"--b-0\r\n{kind}{announced}\r\n".encode() + content + b"\r\n"


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def fetched(archive: DicomwebArchive, key: Key = Key()) -> tuple[int | None, bytes]:
    """The size that was known before the content came, and all of the content."""
    async with archive.fetch(key) as body:
        size = body.size
        return size, b"".join([chunk async for chunk in body])


WHOLE = part(length=len(CONTENT)) + b"--b-0--"

"""moto's S3 server as the IDC's buckets: an implementation of S3 that is nobody's here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.data.buckets import object_key, stored_series
from tests.server import Server


class MotoS3(Server):
    """An empty S3 on a free port of 127.0.0.1.

        with MotoS3() as moto:
            moto.store(directory)
            httpx.get(f"{moto.host_url}/idc-open-data?list-type=2&prefix=…/")

    Anyone may read what is stored, as at the IDC. Objects are in its memory.
    """

    name = "moto's S3"

    def store(self, data: Path) -> None:
        """Puts the DICOM files of a directory into the buckets in which the index names them."""
        for series, files in stored_series(data):
            self.make_bucket(series.aws_bucket)
            for uid, path in files.items():
                self.put(series.aws_bucket, object_key(series, uid), path.read_bytes())

    def make_bucket(self, bucket: str) -> None:
        """Makes a bucket that everybody may read; nothing happens if it is there."""
        self.client.put(f"/{bucket}", headers={"x-amz-acl": "public-read"}).raise_for_status()

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Stores an object that everybody may read."""
        self.client.put(f"/{bucket}/{key}", content=content, headers={"x-amz-acl": "public-read"}).raise_for_status()

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        return httpx.get(f"{self.host_url}/moto-api/data.json", timeout=5, trust_env=False).status_code == 200

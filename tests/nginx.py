"""nginx as an archive: files with byte ranges, ETags and HEAD, which it has served for longer than DICOMweb exists.

The same DICOM files are there twice, each time as nothing but files: under ``/dicomWeb`` as a static DICOMweb server
(single parts, whatever Accept says; one page of QIDO-RS a series), under ``/bucket`` as the IDC's buckets, whose
listings are XML files, a page each. A directory can be had as it is too, under ``/files``, with a page of HTML for
each directory in it. The access log is a witness of what moved.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import httpx

from tests.data.buckets import object_key, stored_series
from tests.server import Server, required
from tests.twin.model import Series

PAGE_KEYS = 1_000
"""Keys on a page of a listing, as at S3."""

_CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {root}/pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {root}/temp; proxy_temp_path {root}/temp; fastcgi_temp_path {root}/temp;
    uwsgi_temp_path {root}/temp; scgi_temp_path {root}/temp;
    log_format moved '$status $body_bytes_sent $request_method "$http_range" $request_uri';
    access_log {root}/access moved;
    default_type application/dicom;
    keepalive_requests 1000000;
    # A continuation token is the number of its page; the variable $arg_… takes no hyphens.
    map $args $page {{ "~(?:^|&)continuation-token=(?<number>[0-9]+)(?:&|$)" $number; default 0; }}
    map $arg_prefix $folder {{ "~*^(?<uuid>[0-9a-f-]+)(?:/|%2f)$" $uuid; default none; }}
    server {{
        listen 127.0.0.1:{port}{tls};
        {certificate}
        root {root}/served;
        location ~ ^(?<series>/dicomWeb/studies/[0-9.]+/series/[0-9.]+)/instances$ {{
            default_type application/dicom+json;
            if ($arg_offset ~ "^[1-9]") {{ return 204; }}
            try_files $series.json =404;
        }}
        location /files/ {{ autoindex on; }}
        location ~ ^/bucket/(?<bucket>[^/]+)/?$ {{
            default_type application/xml;
            try_files /listings/$bucket/$folder.$page.xml /listings/none.xml =404;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Moved:
    """One answer, as the access log tells it."""

    status: int
    body_bytes: int
    method: str
    byte_range: str
    target: str


class Nginx(Server):
    """nginx on a free port of 127.0.0.1, serving the DICOM files of a directory.

    with Nginx(directory) as nginx:
        httpx.get(f"{nginx.url}/studies/…/series/…/instances/…", headers={"Range": "bytes=0-99"})
        httpx.get(f"{nginx.bucket_url}/idc-open-data?list-type=2&prefix=…/")
    """

    name = "nginx"

    def __init__(self, data: Path, certificate: Path | None = None, *, files: Path | None = None) -> None:
        """``certificate``: with its key in the same file; then it is served by TLS only.

        ``files``: a directory to show as it is.
        """
        super().__init__()
        self._data = data
        self._files = files
        self._certificate = certificate

    @property
    def host_url(self) -> str:
        return f"http{'s' if self._certificate else ''}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The DICOMweb root, without a trailing slash."""
        return f"{self.host_url}/dicomWeb"

    @property
    def bucket_url(self) -> str:
        """What a bucket's name comes behind, without a trailing slash."""
        return f"{self.host_url}/bucket"

    def moved(self) -> list[Moved]:
        """What has been answered so far."""
        lines = (self.directory / "access").read_text().splitlines()
        matches = (re.fullmatch(r'(\d+) (\d+) (\S+) "(.*)" (\S+)', line) for line in lines)
        found = [Moved(int(m[1]), int(m[2]), m[3], m[4], m[5]) for m in matches if m]
        return [answer for answer in found if answer.target != "/ready"]

    def command(self) -> Sequence[str | Path]:
        served = self.directory / "served"
        if not served.exists():
            _lay_out(self._data, served)
            if self._files is not None:
                _link(served / "files", self._files)
        path = self.directory / "nginx.conf"
        path.write_text(
            _CONFIGURATION.format(
                user="user root;" if os.geteuid() == 0 else "",  # or else it reads as a user who may not
                root=self.directory,
                port=self.port,
                tls=" ssl" if self._certificate else "",
                certificate="".join(
                    f"ssl_{name} {self._certificate};"
                    for name in ("certificate", "certificate_key")
                    if self._certificate
                ),
            )
        )
        found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        return [required(found, self.name), "-p", self.directory, "-c", path, "-e", "stderr"]

    def answers(self) -> bool:
        # Nothing but its own file proves that it is not someone else who took the port.
        answer = httpx.get(f"{self.host_url}/ready", timeout=5, trust_env=False, verify=False)
        return answer.text == str(self.directory)


def _lay_out(data: Path, served: Path) -> None:
    """The files as links, and the answers to searches and listings as files."""
    served.mkdir()
    (served / "ready").write_text(str(served.parent))
    _write(served / "listings/none.xml", _page([], 0, 0))
    for series, files in stored_series(data):
        folder = served / f"dicomWeb/studies/{series.study_uid}/series/{series.series_uid}"
        _write(folder.with_name(f"{folder.name}.json"), json.dumps([_found(series, uid) for uid in files]))
        sizes = {}
        for uid, path in files.items():
            key = object_key(series, uid)
            sizes[key] = path.stat().st_size
            _link(folder / "instances" / uid, path)
            _link(served / "bucket" / series.aws_bucket / key, path)
        for number, page in enumerate(_pages(sizes)):
            _write(served / f"listings/{series.aws_bucket}/{series.crdc_series_uuid}.{number}.xml", page)


def _found(series: Series, instance_uid: str) -> dict[str, object]:
    uids = {"0020000D": series.study_uid, "0020000E": series.series_uid, "00080018": instance_uid}
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}


def _pages(sizes: dict[str, int]) -> Iterator[str]:
    keys = sorted(sizes.items())
    starts = range(0, len(keys), PAGE_KEYS)
    for number, start in enumerate(starts):
        yield _page(keys[start : start + PAGE_KEYS], number, len(starts))


def _page(keys: Sequence[tuple[str, int]], number: int, pages: int) -> str:
    """One answer of ListObjectsV2."""
    more = f"<NextContinuationToken>{number + 1}</NextContinuationToken>" if number + 1 < pages else ""
    contents = "".join(f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size></Contents>" for key, size in keys)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{contents}"
        "</ListBucketResult>"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.resolve())

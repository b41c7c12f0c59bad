"""A server whose URL is not its DICOMweb root: what the log says of that."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.mount.conftest import MountMaker
from tests.mount.stage import errno_of
from tests.threaded import QuietHandler, threaded


@contextmanager
def _answering(status: int, body: bytes, content_type: str) -> Iterator[str]:
    """The URL of a server that has one answer to everything."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with threaded(Handler) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("status", "body", "content_type", "number"),
    [
        (200, b"<html>a page</html>", "text/html", errno.EIO),
        (200, b'["an", "id"]', "application/json", errno.EIO),  # Orthanc's own interface has /series as well
        (400, b"{}", "application/json", errno.EIO),
        (404, b"", "text/plain", errno.ESTALE),
    ],
)
def test_the_log_asks_whether_it_is_the_root(
    status: int, body: bytes, content_type: str, number: int, mount: MountMaker, log_of: Callable[[], str]
) -> None:
    with _answering(status, body, content_type) as url:
        made = mount(url, "--index", "qido")
        (name,) = os.listdir(made.path)
        assert errno_of(lambda: os.listdir(made.path / name)) == number
    assert "is the URL the server's DICOMweb root? Orthanc's ends in /dicom-web" in log_of()

"""Files served, and sent, over HTTP."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import httpx

from tests.threaded import threaded
from tests.tools.idiom import SECONDS, Idiom, Outcome, Place


class _Handler(SimpleHTTPRequestHandler):
    """Gives files, and answers what it is given with its digest: of a form, with that of its one file."""

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get_content_maintype() == "multipart":
            content, end, _ = content.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")
            if not end:
                self.send_error(HTTPStatus.BAD_REQUEST, "a form without its end")
                return
        digest = _digest(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(digest)))
        self.end_headers()
        self.wfile.write(digest)

    do_POST = do_PUT

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    """Its address, without a slash at the end."""
    with threaded(functools.partial(_Handler, directory=directory)) as port:
        yield f"http://127.0.0.1:{port}"


def _http_server(place: Place) -> list[tuple[str, str]]:
    with _server(place.source) as address, httpx.Client(trust_env=False) as client:
        answers = [client.get(f"{address}/{path.name}") for path in place.files()]
    return [(answer.headers["Content-Length"], _digest(answer.content)) for answer in answers]


def _curl_upload(place: Place) -> list[str]:
    with _server(place.target) as address:
        return [_curl("--upload-file", str(path), f"{address}/") for path in place.files()]


def _curl_form_of_the_largest(place: Place) -> str:
    with _server(place.target) as address:
        return _curl("--form", f"file=@{place.largest()}", f"{address}/")


def _curl(*words: str) -> str:
    """What the server answers."""
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", str(SECONDS), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


HTTP = (
    Idiom("http.server", "what comes", _http_server),
    Idiom("curl -T", "what comes", _curl_upload),
    Idiom("curl -F of the largest file", "what comes", _curl_form_of_the_largest, provisional=Outcome.FAILS),
)

"""A DICOMweb server that means harm, on the loopback interface: it says what a test gave it to say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.threaded import QuietHandler, threaded

Answer = Callable[[str, dict[str, int]], tuple[str, Iterable[bytes]]]
"""By the path and the numbers behind it: what type it says to send, and the body, perhaps without end."""


def attribute(**values: Any) -> dict[str, Any]:
    """An item of a search."""
    tags = {"patient": "00100020", "study": "0020000D", "series": "0020000E", "instance": "00080018"}
    tags |= {"count": "00201209", "modality": "00080060"}
    return {tags[name]: {"vr": "LO", "Value": [value]} for name, value in values.items()}


def as_json(items: list[dict[str, Any]]) -> tuple[str, Iterable[bytes]]:
    """The page of a search."""
    return "application/dicom+json", [json.dumps(items).encode()]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Its DICOMweb root."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            numbers = {name: int(value[0]) for name, value in parse_qs(asked.query).items() if value[0].isdecimal()}
            kind, body = answer(asked.path, numbers)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()  # HTTP/1.0: the connection's end is the body's
            try:
                for piece in body:
                    self.wfile.write(piece)
            except OSError:
                pass  # nobody reads on

    with threaded(Handler) as port:
        yield f"http://127.0.0.1:{port}"

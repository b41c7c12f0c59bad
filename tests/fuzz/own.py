"""What the user's machine holds: settings, what mounts say of themselves, Google's credentials and tokens."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import requests
from google.oauth2.credentials import Credentials
from requests.adapters import HTTPAdapter

from idcfs import config as settings_file
from idcfs.archive.adc import Login, find_login
from idcfs.archive.bounded import Bounded
from idcfs.archive.faults import Transient
from idcfs.commands import status as status_command
from idcfs.commands import watching
from idcfs.commands.setting import SETTINGS
from idcfs.errors import AccessDenied, UsageError
from idcfs.running import read_status
from idcfs.settings import STATUS_NAME

from .given import Given, outcome

SHARED_MEMORY = "/dev/shm"
SECRETS = {"refresh_token": "1//refresh-token-secret", "client_secret": "client-secret-secret"}


@contextmanager
def _file(name: str, content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
        path = Path(directory) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        yield path


def config(data: bytes) -> None:
    """The user's file of settings: values of the types that options have, or a reason why not."""
    with _file("idcfs/config.toml", data) as file, patch.dict(os.environ, XDG_CONFIG_HOME=str(file.parents[1])):
        found = outcome(lambda: settings_file.elsewhere(SETTINGS), UsageError)
    if not isinstance(found, type):
        assert {*found} <= {str(option.name) for option in SETTINGS.values()}


def status(data: bytes) -> None:
    """What a mount says of itself: what can be shown, or a reason why not."""
    with _file(STATUS_NAME, data) as file:
        report = outcome(partial(read_status, file.parent), UsageError)
    if not isinstance(report, type):
        shown = io.StringIO()
        with redirect_stdout(shown):
            status_command._print(report)
        assert all(line.isprintable() for line in shown.getvalue().splitlines())
        look = watching.Look(report, 1.0, watching.Look(report, 0.0, None))
        watching._picture(look)
        assert watching._line(look).isprintable()


def login(data: bytes) -> None:
    """A file of Google's credentials: such as can be used, or a reason why not."""
    with (
        _file("key.json", data) as file,
        patch.dict(os.environ, GOOGLE_APPLICATION_CREDENTIALS=str(file)),
        patch.object(HTTPAdapter, "send", _unreachable),
    ):
        outcome(partial(find_login, None), UsageError)


def token(data: bytes) -> None:
    """A status, and what a login server answers: a token, or why there is none; what it was sent stands nowhere."""
    given = Given(data)
    code, text = 100 + given.number(2) % 500, given.rest()
    for name, secret in SECRETS.items():
        text = text.replace(f"@{name}".encode(), secret.encode())
    credentials: Any = Credentials(None, token_uri="https://host/token", client_id="id", **SECRETS)  # type: ignore[no-untyped-call]
    with patch.object(Bounded, "send", _answering(code, text)), patch("time.sleep"):
        try:
            found = Login(credentials, None).refresh(1.0)
        except (AccessDenied, Transient) as error:
            said = str(error)
            assert said.strip()
            assert len(said) < 1_000
            assert not any(secret in said for secret in SECRETS.values())
        else:
            assert found.value.isascii()
            assert found.value.isprintable()
            assert found.value in json.dumps(json.loads(text), ensure_ascii=False)
            assert found.expires > 0


def _answering(code: int, text: bytes) -> Any:
    def send(
        adapter: HTTPAdapter, request: requests.PreparedRequest, *_args: object, **_named: object
    ) -> requests.Response:
        response = requests.Response()
        response.status_code, response.raw = code, io.BytesIO(text)
        response.url, response.request = str(request.url), request
        return response

    return send


def _unreachable(adapter: HTTPAdapter, request: requests.PreparedRequest, *_args: object, **_named: object) -> object:
    raise requests.ConnectionError("there is no network")

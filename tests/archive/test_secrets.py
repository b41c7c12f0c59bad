"""Servers repeat what they were sent: nothing of a login goes on into messages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from idcfs import errors
from idcfs.archive.adc import find_login
from idcfs.archive.faults import MAX_MESSAGE_CHARS, excerpt
from idcfs.archive.transport import Transport
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats
from tests.tokens import CLIENT_SECRET, REFRESH_TOKEN, TokenEndpoint

NAMES = ("client_secret", "refresh_token", "access_token", "id_token", "subject_token", "assertion")
LOGINS = ("ya29.SECRET", "1//0gSECRET", "eyJhbGciOi.SECRET-x_y", "Bearer SECRET", "Basic dXNlcjpTRUNSRVQ=SECRET")


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("form", ["{} is no good", "authorization={}&a=b", "not {}, not {}"])
def test_a_login_is_hidden_however_it_is_written(login: str, form: str) -> None:
    for text in (
        form.replace("{}", login),
        form.replace("{}", quote(login, safe="")),
        quote(form.format(login, login)),
    ):
        said = excerpt(text.encode(), "text/plain")
        assert "SECRET" not in said
        assert "(hidden)" in said


@pytest.mark.parametrize("start", ["basic ", "client_secret"])
@pytest.mark.parametrize("more", ["~", '"', "%22", "basic~", "basic+"])
def test_the_search_for_logins_ends_whatever_is_sent(start: str, more: str) -> None:
    """What looked at each character once for each before it would take minutes of this."""
    text = start + more * (300_000 // len(more) ** 2)
    assert len(excerpt(text.encode(), "text/plain")) <= MAX_MESSAGE_CHARS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "form", ["{}=SECRET&x=kept", "{}%3DSECRET%26x%3Dkept", "{{'{}': 'SECRET', 'x': 'kept'}}", "{}: Bearer SECRET kept"]
)
def test_what_is_named_as_a_login_is_hidden(name: str, form: str) -> None:
    said = excerpt(form.format(name).encode(), "text/plain")
    assert "SECRET" not in said
    assert "(hidden)" in said
    assert "kept" in said


@pytest.mark.parametrize(
    "words",
    ["Basic authentication is needed", "Invalid JWT Signature.", "the assertion failed: too old", "1/2 of a token"],
)
def test_words_stay_words(words: str) -> None:
    assert excerpt(words.encode(), "text/plain") == words


class Login(httpx.Auth):
    """A token that looks like nothing."""

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = "Bearer opaque/token+of-nobody"
        yield request


@pytest.mark.parametrize("status", [401, 403, 503])
@pytest.mark.parametrize("escaped", [False, True])
async def test_the_token_that_was_sent_is_hidden_whatever_it_looks_like(
    status: int, escaped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def handler(request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        return httpx.Response(status, json={"error": {"message": f"no {quote(token, safe='') if escaped else token}"}})

    archive, settings = ArchiveSettings("mock", "http://mock"), TransportSettings(max_attempts=1)
    wire = httpx.MockTransport(handler)
    async with Transport(archive, settings, Stats(), auth=Login(), wire=wire) as transport:
        with pytest.raises(errors.IdcfsError, match=r"no \(hidden\)") as caught:
            await transport.get_json("/x")
    assert "nobody" not in str(caught.value) + caplog.text


@pytest.mark.usefixtures("nothing_of_this_machine")
@pytest.mark.parametrize("secret", [CLIENT_SECRET, REFRESH_TOKEN])
def test_what_tokens_are_had_for_is_hidden(
    secret: str, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(endpoint.user(tmp_path / "user.json")))
    endpoint.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{endpoint.host}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    endpoint.says = (400, {"error": "invalid", "error_description": f"what is {secret}?"})
    with pytest.raises(errors.AccessDenied, match=r"what is \(hidden\)") as caught:
        find_login("mine").refresh(5)
    assert secret not in str(caught.value)

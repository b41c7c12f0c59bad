"""The login to Google: real google-auth against an endpoint that checks what it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from idcfs.archive import adc
from idcfs.archive.adc import find_login
from idcfs.archive.faults import Transient
from idcfs.errors import AccessDenied, Unreachable, UsageError
from tests.tokens import REVOKED, SCOPE, TokenEndpoint

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


# --- credentials and what they give -------------------------------------------------------------------------------


def test_a_service_account_gets_a_token_for_the_healthcare_api(endpoint: TokenEndpoint, service_account: Path) -> None:
    token = find_login(None).refresh(5)
    assert [token.value] == endpoint.given
    assert endpoint.scopes == [SCOPE]
    assert token.expires != inf
    assert token.value not in repr(token)


def test_a_user_gets_one_from_google_itself(
    endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_google(endpoint, monkeypatch, tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(endpoint.user(tmp_path / "user.json")))
    assert find_login(None).refresh(5).value == endpoint.given[0]


def test_a_user_without_a_quota_project_is_told_of_the_option(
    endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(endpoint.user(tmp_path / "user.json")))
    find_login("mine")
    assert caplog.messages == []
    find_login(None)
    assert caplog.messages == ["the Google login names no quota project: if requests are refused, give --quota-project"]


@pytest.mark.parametrize(
    ("asked", "environment", "in_file", "sent"),
    [
        (None, None, "of-the-file", "of-the-file"),
        (None, "of-the-environment", "of-the-file", "of-the-environment"),
        ("asked-for", "of-the-environment", "of-the-file", "asked-for"),
        (None, "no header\n", "", None),
    ],
)
def test_the_quota_project_is_the_one_asked_for_else_what_google_auth_finds(
    asked: str | None,
    environment: str | None,
    in_file: str,
    sent: str | None,
    endpoint: TokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = endpoint.user(tmp_path / "user.json", quota_project_id=in_file)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    if environment:
        monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", environment)
    assert find_login(asked).quota_project == sent


def test_credentials_that_do_not_come_are_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipe = tmp_path / "key.json"
    os.mkfifo(pipe)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(pipe))
    monkeypatch.setattr(adc, "FIND_SECONDS", 0.2)
    with pytest.raises(UsageError, match=r"not found within 0\.2 s; .* replace the file that GOOGLE_APPLICATION_CRED"):
        find_login(None)
    os.close(os.open(pipe, os.O_WRONLY))  # which lets the thread end


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "was not found"),
        ("", "is not a valid json file"),
        ("\udcff", "is not a valid json file"),
        ("[]", "they are in no known form"),
        ("{}", "does not have a valid type"),
        ('{"type": "service_account", "private_key": "x"}', "Failed to load service account credentials"),
        ('{"type": "authorized_user"}', "Failed to load authorized user credentials"),
    ],
)
def test_a_file_that_holds_no_credentials_is_one_line(
    content: str | None, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_bytes(os.fsencode(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(UsageError, match=f"{reason}.*; run 'gcloud auth application-default login'") as caught:
        find_login(None)
    assert "\n" not in str(caught.value)


def test_without_credentials_the_command_to_run_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="there are none; run 'gcloud auth application-default login'"):
        find_login(None)
    assert caplog.messages == []


def test_a_metadata_server_is_looked_for_once() -> None:
    look = """
import contextlib
from idcfs.archive import adc
with contextlib.suppress(adc.UsageError):
    adc.find_login(None)
from google.auth.compute_engine import _metadata
print(_metadata._METADATA_DETECT_RETRIES)
"""
    env = {name: value for name, value in os.environ.items() if name != "GCE_METADATA_DETECT_RETRIES"}
    done = subprocess.run([sys.executable, "-c", look], env={**env, "NO_GCE_CHECK": "true"}, capture_output=True)
    assert done.stdout == b"1\n"


def as_google(endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """``https://oauth2.googleapis.com`` is ``endpoint``."""
    endpoint.authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{endpoint.host}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(directory / "ca.pem"))


# --- what it means that there is no token -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (REVOKED, r"invalid_grant: Token has been expired or revoked; run 'gcloud auth application-default login'"),
        ((401, {"error": "deleted_client"}), r"deleted_client"),
        ((403, "<html>no</html>"), r"an answer without words"),
        ((200, {}), r"No access token in response"),
    ],
)
def test_a_refusal_is_said_in_the_endpoints_words(
    says: tuple[int, object], words: str, endpoint: TokenEndpoint, service_account: Path
) -> None:
    login = find_login(None)
    endpoint.says = says
    with pytest.raises(AccessDenied, match=words) as caught:
        login.refresh(5)
    assert caught.value.__cause__ is None
    assert "ya29" not in str(caught.value)
    endpoint.says = None
    assert login.refresh(5).value == endpoint.given[0]


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_wrong_is_named(hours: int, endpoint: TokenEndpoint, service_account: Path) -> None:
    endpoint.clock_offset = 3600 * hours
    with pytest.raises(AccessDenied, match=r"Invalid JWT: Token must be a short-lived.*; check this machine's clock"):
        find_login(None).refresh(5)


def test_a_key_that_was_replaced_is_not_the_clocks_fault(endpoint: TokenEndpoint, service_account: Path) -> None:
    login = find_login(None)
    del endpoint.key
    with pytest.raises(AccessDenied, match=r"Invalid JWT Signature; run .* or replace the file that GOOGLE_"):
        login.refresh(5)


def test_the_quota_project_stays_when_a_renewal_is_refused(
    endpoint: TokenEndpoint, service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token in use is good for a while yet, and wants it."""
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "of-the-machine")
    login = find_login(None)
    assert login.quota_project == "of-the-machine"
    endpoint.says = REVOKED
    with pytest.raises(AccessDenied, match="revoked"):
        login.refresh(5)
    assert login.quota_project == "of-the-machine"


def test_who_logs_in_anew_need_not_mount_again(endpoint: TokenEndpoint, service_account: Path) -> None:
    login = find_login(None)
    del endpoint.key
    with pytest.raises(AccessDenied, match="Invalid JWT Signature"):
        login.refresh(5)
    endpoint.service_account(service_account)
    assert login.refresh(5).value == endpoint.given[0]
    service_account.unlink()
    endpoint.says = REVOKED
    with pytest.raises(AccessDenied, match="revoked"):
        login.refresh(5)
    with pytest.raises(AccessDenied, match="was not found"):
        login.refresh(5)


@pytest.mark.parametrize(
    "says",
    [
        (500, "<html>"),
        (503, {"error": "server_error"}),
        (429, ""),
        (200, "garbage"),
        (200, {"access_token": None}),
        (200, {"access_token": ["x"]}),
        (200, {"access_token": "ya29.two\r\nlines"}),
        (200, {"access_token": "ya29.x", "expires_in": "soon"}),
        (200, []),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(says: tuple[int, object], endpoint: TokenEndpoint, service_account: Path) -> None:
    login = find_login(None)
    endpoint.says = says
    with pytest.raises(Transient, match=r"^Google's login server") as caught:
        login.refresh(5)
    assert isinstance(caught.value.error, Unreachable)
    assert endpoint.asked == 1
    assert "ya29" not in str(caught.value)


def test_an_endpoint_that_is_away_is_tried_again(endpoint: TokenEndpoint, service_account: Path) -> None:
    login = find_login(None)
    endpoint.stop()
    with pytest.raises(Transient, match=r"Google's login server cannot be used: Connection refused"):
        login.refresh(5)
    endpoint.start()
    assert login.refresh(5).value == endpoint.given[0]

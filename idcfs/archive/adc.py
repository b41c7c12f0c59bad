"""Google's Application Default Credentials: where they are, the token they give, and why they give none.

The only module that knows google-auth, loaded only for ``--archive google``. google-auth blocks: ``find_login`` runs
before the mount is made, ``Login.refresh`` in a thread. Its exceptions carry whatever an endpoint answered, so none of
them leaves this module, not even as the cause of ours.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable
from concurrent.futures import wait
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from math import inf
from typing import Any

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport import DEFAULT_RETRYABLE_STATUS_CODES
from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials as UserCredentials
from requests.adapters import HTTPAdapter

from ..errors import AccessDenied, IdcfsError, Unreachable, UsageError
from ..logs import keep_secrets
from ..mounts import in_thread
from ..settings import GOOGLE_LOGIN_COMMAND, GOOGLE_PLACES, MIB
from .bounded import Bounded
from .faults import Transient, excerpt

SCOPE = "https://www.googleapis.com/auth/cloud-healthcare"
LOOKUP_SECONDS = 10.0
"""How long one request may take that finds credentials, where finding them takes requests."""
FIND_SECONDS = 20.0
"""How long finding them may take in all: a file may be on a disk that hangs, or a pipe that nobody writes to."""
_MAX_ANSWER_BYTES = 1 * MIB
"""A token is 2 KiB at most."""
_MTLS_NAMES = ("oauth2", "sts", "iamcredentials")
_KEY_FILE_VARIABLE = GOOGLE_PLACES[0]
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+")
"""What else stood in a header would be refused, and the refusal shows the header."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and when it expires, in seconds since the epoch."""

    value: str = field(repr=False)
    expires: float


class Login:
    """The user's credentials."""

    def __init__(self, credentials: Any, quota_project: str | None) -> None:
        self._wanted_project = quota_project
        self._credentials: Any | None = credentials
        self._named_project = _project_of(credentials)

    @property
    def quota_project(self) -> str | None:
        """The project that requests are counted for: the one asked for, else what the credentials used last name."""
        project = self._wanted_project or self._named_project
        return project if project and _HEADER_TEXT.fullmatch(project) else None

    def refresh(self, seconds: float) -> Token:
        """A new token; blocks, ``seconds`` for each request that it takes.

        :raises AccessDenied: if there is none to be had. The next time credentials are looked for anew, so that who has
            logged in again need not mount again.
        :raises Transient: if another try may help.
        """
        credentials = self._credentials  # one that hangs may end when others have been found
        try:
            if credentials is None:
                credentials = self._credentials = _find(self._wanted_project)
                self._named_project = _project_of(credentials)
            credentials.refresh(_Request(seconds))
            return _token(credentials)
        except UsageError as error:
            raise AccessDenied(str(error)) from None
        except GoogleAuthError as error:
            fault = _fault(error, _secrets_of(credentials))
        except Exception as error:  # google-auth has no words for an answer that makes no sense
            fault = Transient(Unreachable(f"Google's login server gave no token: {_described(error)}"))
        if isinstance(fault, AccessDenied) and self._credentials is credentials:
            self._credentials = None
        raise fault from None


def find_login(quota_project: str | None) -> Login:
    """The Application Default Credentials of this user and machine; ``quota_project`` overrides theirs.

    :raises UsageError: if there are none, or none that can be used, or if that is not known within 20 s.
    """
    keep_secrets()  # what goes wrong, we say
    # Off Google's machines the search ends with asking their metadata server, by default for up to 12 s.
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    finding = in_thread(partial(_find, quota_project))
    wait([finding], FIND_SECONDS)
    if not finding.done():
        raise _unusable(f"they were not found within {FIND_SECONDS:g} s")
    credentials = finding.result()
    login = Login(credentials, quota_project)
    if isinstance(credentials, UserCredentials) and not login.quota_project:
        log.warning("the Google login names no quota project: if requests are refused, give --quota-project")
    return login


def _find(quota_project: str | None) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of a missing quota project we warn ourselves
            credentials, _ = google.auth.default(
                scopes=[SCOPE], request=_Request(LOOKUP_SECONDS), quota_project_id=quota_project
            )
    except Exception as error:
        reason = _described(error) if isinstance(error, GoogleAuthError | OSError) else "they are in no known form"
        if "were not found" in reason:
            reason = "there are none"
        raise _unusable(reason) from None
    return credentials


def _unusable(reason: str) -> UsageError:
    return UsageError(
        f"no Google credentials can be used: {reason}; {_advice(reason)}, or use --archive proxy, which needs no login"
    )


def _project_of(credentials: Any) -> str | None:
    project = getattr(credentials, "quota_project_id", None)
    return project if isinstance(project, str) else None  # as it stands in the user's file


class _Request(Request):
    """google-auth's way to send, within bounds; leaves it to who waits to try again, and follows no redirect.

    What is sent is what tokens are had for: nobody else may get it.
    """

    def __init__(self, seconds: float) -> None:
        session: Any = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, Bounded(seconds, _MAX_ANSWER_BYTES))
        for name in _MTLS_NAMES:  # where google-auth shows a client certificate, but by nobody else's adapter
            session.mount(f"https://{name}.mtls.googleapis.com/", HTTPAdapter())
        super().__init__(session)
        self._seconds = seconds

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        timeout: float | None = None,
        **extra: Any,
    ) -> Any:
        send: Any = super().__call__
        extra["allow_redirects"] = False
        answer = send(url, method, body, headers, min(timeout or inf, self._seconds), **extra)
        if 300 <= answer.status < 400:
            raise TransportError(f"it answered {answer.status}, and to where that leads no login is sent")
        if answer.status in DEFAULT_RETRYABLE_STATUS_CODES:
            raise TransportError(f"it answered {answer.status}")
        return answer


def _token(credentials: Any) -> Token:
    value, expiry = credentials.token, credentials.expiry
    if not isinstance(value, str) or not _HEADER_TEXT.fullmatch(value):
        raise TransportError("what it sent is no token")
    return Token(value, expiry.replace(tzinfo=UTC).timestamp() if expiry else inf)


def _fault(error: GoogleAuthError, secrets: Iterable[str]) -> IdcfsError | Transient:
    """What it means that there is no token; ``secrets`` are in no message."""
    said = _described(error, secrets)
    if error.retryable or isinstance(error, TransportError) or isinstance(error.__cause__, TransportError):
        return Transient(Unreachable(f"Google's login server cannot be used: {said}"))
    if not isinstance(error, RefreshError):
        return AccessDenied(f"the Google credentials cannot be used: {said}; {_advice(said)}")
    return AccessDenied(f"Google refuses the login: {said}; {_advice(said)}")


def _advice(said: str) -> str:
    if "Invalid JWT" in said and "ignature" not in said:
        return "check this machine's clock"
    if os.environ.get(_KEY_FILE_VARIABLE):
        return f"run '{GOOGLE_LOGIN_COMMAND}', or replace the file that {_KEY_FILE_VARIABLE} names"
    return f"run '{GOOGLE_LOGIN_COMMAND}'"


def _secrets_of(credentials: Any) -> list[str]:
    """What the endpoint gave before, or was sent."""
    found = [getattr(credentials, name, None) for name in ("token", "refresh_token", "client_secret")]
    return [secret for secret in found if isinstance(secret, str)]


def _described(error: Exception, secrets: Iterable[str] = ()) -> str:
    """The system's or the endpoint's own words, on one line; a page or data are none."""
    root: BaseException = error
    while below := root.__cause__ or root.__context__:
        root = below
    if isinstance(root, OSError):
        words = root.strerror or str(root)
        return f"{root.filename}: {words}" if root.filename else words
    if isinstance(error, GoogleAuthError) and error.args:
        text = str(error.args[0])
        words = "" if text.lstrip().startswith("<") else excerpt(text.encode(errors="replace"), "text/plain", secrets)
        return words.rstrip(".") or "an answer without words"
    return type(error).__name__

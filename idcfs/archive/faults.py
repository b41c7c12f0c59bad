"""What an answer other than 200, or no answer at all, means: HTTP and httpx on one side, our errors on the other.

Pure, so that the rules can be read and tested in one place. Which status is worth another try is Google's published
list; what a 429 or 403 means differs between the archives and comes from the source of IDC's proxy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from ..errors import (
    AccessDenied,
    DeadlinePassed,
    Gone,
    IdcfsError,
    QuotaSpent,
    Refused,
    Truncated,
    Unreachable,
    UsageError,
)

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_SECONDS = re.compile(r"[0-9]{1,12}")
MAX_MESSAGE_CHARS = 200
"""How much of a server's own words is passed on."""


class Transient(Exception):
    """Worth another try; ``error`` is what the caller gets if there is none. Never leaves the transport."""

    def __init__(self, error: IdcfsError, *, retry_after_seconds: float = 0.0, at_once: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_seconds = retry_after_seconds
        self.at_once = at_once
        """Waiting would not help: the connection was stale, the archive is not known to be in trouble."""


def of_request(error: httpx.HTTPError | httpx.InvalidURL, where: str) -> IdcfsError | Transient:
    """What it means that no answer came. ``where`` names archive and path."""
    match error:
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return UsageError(f"the address of {where} cannot be used: {error}")
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return Transient(Unreachable(f"{where} cannot be reached: {_words(error)}"))
        case httpx.TimeoutException():
            return DeadlinePassed(f"{where} did not answer in time ({_words(error)})")
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError():
            # Servers drop idle connections whenever they like, and a request may already be on its way.
            return Transient(Unreachable(f"{where} closed the connection: {_words(error)}"), at_once=True)
        case _:
            return Unreachable(f"{where} cannot be used: {_words(error)}")


def of_body(error: httpx.HTTPError, where: str) -> IdcfsError:
    """What it means that a body broke off."""
    if isinstance(error, httpx.TimeoutException):
        return DeadlinePassed(f"{where} stopped sending")
    return Truncated(f"{where} sent less than it announced: {_words(error)}")


def of_answer(
    status: int, headers: Mapping[str, str], body: bytes, where: str, timeout_seconds: float
) -> IdcfsError | Transient:
    """What an answer means that is not the one hoped for."""
    said = excerpt(body, headers.get("content-type", ""))
    text = f"{where} answered {status}" + (f": {said}" if said else "")
    pause = retry_after_seconds(headers.get("retry-after"))
    if status == 429 and (pause > timeout_seconds or _is_html(headers, body)):
        return QuotaSpent(f"{text}; the quota is spent, IDC's proxy renews it at 00:00 UTC")
    if status == 429:
        return Transient(Unreachable(f"{text}; it asks for fewer requests"), retry_after_seconds=pause)
    if status in TRANSIENT:
        return Transient(Unreachable(text), retry_after_seconds=pause)
    return _final(status, text)


def _final(status: int, text: str) -> IdcfsError:
    if status == 401:
        return AccessDenied(f"{text}; it wants a valid login")
    if status == 403:
        return AccessDenied(f"{text}; Google says so also of what does not exist, IDC's proxy of an address it denies")
    if status in (204, 404, 410):
        return Gone(f"{text}; it may belong to another release" if status == 204 else text)
    if status == 206:
        return Refused(f"{text}: only a part of what was asked for", status)
    if status >= 500 and status not in (501, 505):
        return Unreachable(text)
    return Refused(text, status)


def retry_after_seconds(value: str | None) -> float:
    """Seconds that a Retry-After header asks to wait (RFC 9110, section 10.2.3); 0 without one that makes sense."""
    if not value:
        return 0.0
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError):  # the last two: a year, or a zone, beyond all measure
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def excerpt(body: bytes, content_type: str) -> str:
    """A server's own words about an error, on one line; empty where there are none for people."""
    try:
        words = _message_in(json.loads(body)) if body else ""
    except (ValueError, RecursionError):
        words = body.decode("utf-8", "replace") if content_type.startswith("text/plain") else ""
    line = " ".join(words.split())
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 1] + "…"


def _message_in(answer: Any) -> str:
    """Google: ``[{"error": {"message": …}}]``, or without the array; Orthanc, dcm4chee: flat objects."""
    if isinstance(answer, list):
        return _message_in(answer[0]) if answer else ""
    if not isinstance(answer, dict):
        return answer if isinstance(answer, str) else ""
    for key in ("error", "message", "Message", "errorMessage", "Details"):
        if found := _message_in(answer.get(key)):
            return found
    return ""


def _is_html(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("content-type", "") or body.lstrip()[:1] == b"<"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__

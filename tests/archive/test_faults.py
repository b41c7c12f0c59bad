"""Each row of the tables, and that the documented table of errors says the same."""

from __future__ import annotations

import errno
import json
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from idcfs import errors
from idcfs.archive import faults
from idcfs.archive.faults import ANSWERS, BROKEN_BODY, NO_ANSWER, FailureRule, Told, Transient
from idcfs.errors import IdcfsError
from idcfs.settings import ArchiveSettings

NOW = datetime(2026, 3, 1, 14, 5, 30, tzinfo=UTC)
PROXY = ArchiveSettings("proxy", "https://proxy/dicomWeb", title="the public proxy", has_daily_quota=True)
GOOGLE = ArchiveSettings("google", "https://google/dicomWeb", google_login=True)
BUCKET = ArchiveSettings("aws", "https://bucket")
OWN = ArchiveSettings("pacs:8042", "http://pacs:8042/dicom-web")
TIMEOUT_SECONDS = 60.0

HTML = {"content-type": "text/html; charset=utf-8"}
XML = {"content-type": "application/xml"}
JSON = {"content-type": "application/json"}
PAGE = b"<!doctype html><title>Quota exceeded</title>"
SLOW_DOWN = b"<?xml version='1.0'?>\n<Error><Code>SlowDown</Code><Message>Please reduce &amp; wait</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>A1</RequestId></Error>"

Verdict = IdcfsError | Transient
Failure = httpx.HTTPError | httpx.InvalidURL


def told(
    status: int,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"{}",
    archive: ArchiveSettings = PROXY,
    now: datetime = NOW,
) -> Told:
    return Told(status, headers or {}, body, f"{archive.name}/x", archive, TIMEOUT_SECONDS, now)


def judged(*args: Any, **kwargs: Any) -> Verdict:
    """What ``told`` with these arguments means."""
    return faults.of_answer(told(*args, **kwargs))


def error_of(verdict: Verdict) -> IdcfsError:
    return verdict.error if isinstance(verdict, Transient) else verdict


FINAL: list[tuple[int, dict[str, str], bytes, ArchiveSettings, type[IdcfsError], str]] = [
    # status, headers, body, archive, error, what the message says
    (204, {}, b"", PROXY, errors.Gone, "proxy/x answered 204; it may belong to another release"),
    (206, {}, b"x", PROXY, errors.Refused, "proxy/x answered 206; it is only a part of what was asked for"),
    (301, {}, b"", PROXY, errors.Refused, "proxy/x answered 301; it names no other place that could be asked"),
    (304, {}, b"", PROXY, errors.Refused, "it names no other place"),
    (400, JSON, b'[{"error": {"message": "bad tag"}}]', PROXY, errors.Refused, "proxy/x answered 400: bad tag; "),
    (401, {}, b"", GOOGLE, errors.AccessDenied, "google/x answered 401; it wants a valid login: 'gcloud auth "),
    (401, {}, b"", OWN, errors.AccessDenied, "pacs:8042/x answered 401; it wants a login, which idcfs has for "),
    (401, {}, b"", OWN, errors.AccessDenied, "let the server admit this machine without one"),
    (403, {}, b"", GOOGLE, errors.AccessDenied, "google/x answered 403; Google says so of what the login may not read"),
    (403, {}, b"", OWN, errors.AccessDenied, "pacs:8042/x answered 403; it refuses this machine, or wants a login"),
    (403, {}, b"", PROXY, errors.AccessDenied, "IDC's proxy of an address it denies"),
    (403, {}, b"", PROXY, errors.AccessDenied, "Google says so also of what does not exist"),
    (403, XML, DENIED, BUCKET, errors.AccessDenied, "aws/x answered 403: Access Denied; a bucket says"),
    (404, {}, b"", PROXY, errors.Gone, "proxy/x answered 404"),
    (410, HTML, PAGE, PROXY, errors.Gone, "proxy/x answered 410"),
    (406, {}, b"", PROXY, errors.Refused, "the form that was asked for"),
    (415, {}, b"", PROXY, errors.Refused, "the form that was asked for"),
    (416, {}, b"", PROXY, errors.Refused, "does not reach so far"),
    (418, {}, b"", PROXY, errors.Refused, "it is not what was asked for"),
    (202, {}, b"", PROXY, errors.Refused, "it is not what was asked for"),
    (501, {}, b"", PROXY, errors.Refused, "it cannot do what was asked for"),
    (505, {}, b"", PROXY, errors.Refused, "it cannot do what was asked for"),
    (507, {}, b"", PROXY, errors.Unreachable, "something failed there"),
]


@pytest.mark.parametrize(("status", "headers", "body", "archive", "kind", "words"), FINAL)
def test_an_answer_that_is_the_last_word(
    status: int, headers: dict[str, str], body: bytes, archive: ArchiveSettings, kind: type[IdcfsError], words: str
) -> None:
    verdict = judged(status, headers, body, archive)
    assert type(verdict) is kind
    assert words in str(verdict)
    if isinstance(verdict, errors.Refused):
        assert verdict.status == status


AGAIN: list[tuple[int, dict[str, str], bytes, ArchiveSettings, str]] = [
    # status, headers, body, archive, what the message says
    (408, {}, b"", PROXY, "proxy/x answered 408; it wants to be asked again"),
    (425, {}, b"", PROXY, "it wants to be asked again"),
    (429, JSON, b'{"error": {"message": "Quota exceeded for quota metric"}}', PROXY, "429: Quota exceeded for quota"),
    (429, JSON, b"{}", PROXY, "proxy/x answered 429; it asks for fewer requests"),
    (429, {"retry-after": "60"}, b"", PROXY, "it asks for fewer requests"),
    (429, HTML, PAGE, BUCKET, "aws/x answered 429; it asks for fewer requests"),
    (429, {"retry-after": "3600"}, b"", BUCKET, "it asks for fewer requests"),
    (429, XML, SLOW_DOWN, PROXY, "proxy/x answered 429: Please reduce & wait; it asks for fewer requests"),
    (429, HTML, SLOW_DOWN, PROXY, "it asks for fewer requests"),  # markup, but not a page for people
    (500, HTML, b"", PROXY, "proxy/x answered 500 and nothing else; IDC's proxy does so at too many requests"),
    (500, HTML, b"", BUCKET, "aws/x answered 500; something failed there"),
    (500, HTML, b"", OWN, "pacs:8042/x answered 500; something failed there"),
    (500, JSON, b'{"Message": "oh"}', PROXY, "proxy/x answered 500: oh; something failed there"),
    (502, {}, b"", PROXY, "overloaded, or down"),
    (503, HTML, PAGE, PROXY, "proxy/x answered 503; it is overloaded, or down"),
    (503, XML, SLOW_DOWN, BUCKET, "aws/x answered 503: Please reduce & wait; it asks for fewer requests"),
    (400, XML, b"<Error><Code>RequestTimeout</Code></Error>", BUCKET, "400: RequestTimeout; it asks for fewer"),
    (504, {}, b"", PROXY, "overloaded, or down"),
]


@pytest.mark.parametrize(("status", "headers", "body", "archive", "words"), AGAIN)
def test_an_answer_that_another_try_may_mend(
    status: int, headers: dict[str, str], body: bytes, archive: ArchiveSettings, words: str
) -> None:
    verdict = judged(status, headers, body, archive)
    assert isinstance(verdict, Transient)
    assert type(verdict.error) is errors.Unreachable
    assert words in str(verdict.error)
    assert verdict.retry_after_seconds == float(headers.get("retry-after", 0))
    assert not verdict.at_once


LATE = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC)
IN_TWO_HOURS = format_datetime(NOW + timedelta(hours=2), usegmt=True)
HOURS_AHEAD = datetime.fromisoformat("2026-03-02T01:30:00+14:00")  # 11:30 UTC on the day before


@pytest.mark.parametrize(
    ("headers", "body", "now", "renewed", "shown"),
    [
        (HTML, b"", NOW, "2026-03-02T00:00:00+00:00", "00:00"),
        ({}, PAGE, LATE, "2027-01-01T00:00:00+00:00", "00:00"),
        ({}, b"\xef\xbb\xbf\n <html>", NOW, "2026-03-02T00:00:00+00:00", "00:00"),
        (HTML, PAGE, HOURS_AHEAD, "2026-03-02T00:00:00+00:00", "00:00"),
        ({"retry-after": "3600"}, b"", NOW, "2026-03-01T15:05:30+00:00", "15:05"),
        ({"retry-after": IN_TWO_HOURS}, b"", NOW, "2026-03-01T16:05:30+00:00", "16:05"),
        ({"retry-after": "86400"}, b"", NOW, "2026-03-02T00:00:00+00:00", "00:00"),
        ({"retry-after": "999999999999"}, b"", NOW, "2026-03-02T00:00:00+00:00", "00:00"),
    ],
)
def test_a_spent_quota(headers: dict[str, str], body: bytes, now: datetime, renewed: str, shown: str) -> None:
    verdict = judged(429, headers, body, now=now)
    assert isinstance(verdict, errors.QuotaSpent)
    assert str(verdict) == f"the public proxy's daily quota is spent until {shown} UTC (proxy/x answered 429)"
    assert verdict.until == datetime.fromisoformat(renewed)


def test_an_archive_without_a_title_goes_by_its_name() -> None:
    archive = ArchiveSettings("pacs:8042", "http://pacs:8042", has_daily_quota=True)
    assert str(judged(429, HTML, archive=archive)).startswith("pacs:8042's daily quota")


def untrusted() -> httpx.ConnectError:
    """As httpx' own transport and ours raise it: from what trio or ssl said."""
    error = httpx.ConnectError("certificate verify failed: self-signed certificate")
    error.__cause__ = OSError("broken")
    error.__cause__.__context__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    return error


def leads_nowhere() -> httpx.RemoteProtocolError:
    """As httpx raises it, which must go on doing so: by its kind alone it is a connection that was closed."""
    wire = httpx.MockTransport(lambda request: httpx.Response(302, headers={"Location": "http://host:port/"}))
    with pytest.raises(httpx.RemoteProtocolError) as raised, httpx.Client(transport=wire) as client:
        client.get("http://server/x")
    return raised.value


FAILURES: list[tuple[Failure, type[IdcfsError], faults.Again, str]] = [
    # failure, error, NEVER, LATER or AT_ONCE, what the message says
    (httpx.InvalidURL("no port"), errors.UsageError, faults.NEVER, "the address of proxy/x cannot be used: no port"),
    (httpx.UnsupportedProtocol("ftp"), errors.UsageError, faults.NEVER, "cannot be used: ftp"),
    (untrusted(), errors.NoConnection, faults.NEVER, "proxy/x cannot be reached safely: certificate verify failed"),
    (httpx.ConnectError("refused"), errors.NoConnection, faults.LATER, "proxy/x cannot be reached: refused"),
    (httpx.ConnectTimeout(""), errors.NoConnection, faults.LATER, "cannot be reached: ConnectTimeout"),
    (httpx.ProxyError("407"), errors.NoConnection, faults.LATER, "cannot be reached: 407"),
    (httpx.ReadTimeout("10 s"), errors.DeadlinePassed, faults.NEVER, "proxy/x did not answer in time (10 s)"),
    (httpx.WriteTimeout(""), errors.DeadlinePassed, faults.NEVER, "did not answer in time"),
    (httpx.PoolTimeout(""), errors.DeadlinePassed, faults.NEVER, "did not answer in time"),
    (leads_nowhere(), errors.Refused, faults.NEVER, "proxy/x redirects to nowhere: Invalid"),
    (httpx.RemoteProtocolError("Invalid URL in location header: x."), errors.Unreachable, faults.AT_ONCE, "closed"),
    (httpx.RemoteProtocolError("bad"), errors.Unreachable, faults.AT_ONCE, "proxy/x closed the connection: bad"),
    (httpx.ReadError(""), errors.Unreachable, faults.AT_ONCE, "closed the connection: ReadError"),
    (httpx.WriteError(""), errors.Unreachable, faults.AT_ONCE, "closed the connection"),
    (httpx.DecodingError("odd"), errors.Unreachable, faults.NEVER, "proxy/x cannot be used: odd"),
]


@pytest.mark.parametrize(("failure", "kind", "again", "words"), FAILURES)
def test_no_answer(
    failure: httpx.HTTPError | httpx.InvalidURL, kind: type[IdcfsError], again: faults.Again, words: str
) -> None:
    verdict = faults.of_request(failure, "proxy/x")
    assert type(error_of(verdict)) is kind
    assert words in str(error_of(verdict))
    assert isinstance(verdict, Transient) == (again is not faults.NEVER)
    assert not isinstance(verdict, Transient) or verdict.at_once == (again is faults.AT_ONCE)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (httpx.ReadTimeout(""), errors.DeadlinePassed, "proxy/x stopped sending"),
        (httpx.RemoteProtocolError("cut"), errors.Truncated, "proxy/x sent less than it announced: cut"),
    ],
)
def test_a_body_that_breaks_off(failure: httpx.HTTPError, kind: type[IdcfsError], words: str) -> None:
    error = faults.of_body(failure, "proxy/x")
    assert type(error) is kind
    assert str(error) == words


def test_every_row_is_of_use() -> None:
    """Each is the first that fits for one of the cases above."""
    answers = [told(*case[:4]) for case in FINAL] + [told(*case[:4]) for case in AGAIN] + [told(429, HTML)]
    met = {
        next(n for n, rule in enumerate(ANSWERS) if answer.status in rule.statuses and rule.sign(answer))
        for answer in answers
    }
    assert met == set(range(len(ANSWERS)))
    failures: list[Exception] = [case[0] for case in FAILURES]
    assert first_rows(NO_ANSWER, failures) == set(range(len(NO_ANSWER)))
    assert first_rows(BROKEN_BODY, failures) == set(range(len(BROKEN_BODY)))


def first_rows(table: tuple[FailureRule, ...], failures: list[Exception]) -> set[int]:
    return {
        next(n for n, rule in enumerate(table) if isinstance(failure, rule.kinds) and rule.sign(failure))
        for failure in failures
    }


def test_every_status_has_a_meaning() -> None:
    for status in range(100, 1000):
        assert f"answered {status}" in str(error_of(judged(status)))


DOCUMENT = (Path(__file__).parents[2] / "docs" / "SEMANTICS.md").read_text()


def documented() -> dict[int, str]:
    """The errno of each status that the table of errors names, as it stands in docs/SEMANTICS.md."""
    table = DOCUMENT.partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (E[A-Z]+) \|$", table, re.MULTILINE)
    return {status: code for cause, code in rows for status in statuses_in(cause) if "quota" not in cause}


def statuses_in(text: str) -> list[int]:
    """``404`` is itself, ``5xx`` all that begin with 5."""
    named = re.findall(r"\b([1-5])(xx|\d\d)\b(?! s\b)", text)
    return [int(first + rest) for first, rest in named if rest != "xx"] + [
        int(first) * 100 + n for first, rest in named if rest == "xx" for n in range(100)
    ]


def test_the_documented_table_is_the_codes() -> None:
    found = documented()
    special = {status for rule in ANSWERS if isinstance(rule.statuses, set) for status in rule.statuses}
    assert special <= set(found)
    for status, code in found.items():
        assert errno.errorcode[errors.errno_of(error_of(judged(status)))] == code, status


def test_the_documented_retries_are_the_codes() -> None:
    [sentence] = re.findall(r"^Tried up to four times[^.]*\.", DOCUMENT, re.MULTILINE)
    assert set(statuses_in(sentence)) == {s for s in range(100, 1000) if isinstance(judged(s), Transient)}


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b'[{"error": {"code": 400, "message": "bad\\n tag", "status": "X"}}]', "application/json", "bad tag"),
        (b'{"error": {"message": "no"}}', "", "no"),
        (b'{"error": "plain"}', "", "plain"),
        (b'{"Details": "", "Message": "Orthanc says"}', "", "Orthanc says"),
        (b"in words", "text/plain; charset=utf-8", "in words"),
        (b"<html>page</html>", "text/html", ""),
        (b"[]", "", ""),
        (b"7", "", ""),
        (b'"' + b"y" * 500 + b'"', "", "y" * 199 + "…"),
        (SLOW_DOWN, "application/xml", "Please reduce & wait"),
        (SLOW_DOWN[:-20], "", "SlowDown"),  # cut off in the message
        (b"<Error><Code>NoSuchKey</Code></Error>", "", "NoSuchKey"),
        (b"<Error><Message>a\nb \xff</Message></Error>", "", "a b \N{REPLACEMENT CHARACTER}"),
        (b"<?xml version='1.0'?><ListBucketResult/>", "application/xml", ""),
    ],
)
def test_a_servers_own_words(body: bytes, content_type: str, words: str) -> None:
    assert faults.excerpt(body, content_type) == words


SENSELESS = [
    "",
    "soon",
    "-5",
    "\x1c026",
    "٣",
    "9" * 5000,
    "Thu, 99 Xxx 2020 00:00:00 GMT",
    f"Fri, 31 Dec {'9' * 20} 23:59:59 GMT",
]


@pytest.mark.parametrize("value", [None, *SENSELESS])
def test_a_retry_after_without_sense_is_no_wait(value: str | None) -> None:
    assert faults.retry_after_seconds(value, NOW) == 0


@pytest.mark.parametrize(
    "secret", ["Bearer ya29.a0AfB_secret", "bearer\tsecret", "ya29.secret", "eyJhbGciOi.secret-x_y", "1//0gsecret"]
)
def test_a_token_that_a_server_repeats_is_not_passed_on(secret: str) -> None:
    for body in (f"authorization={secret} is no good", json.dumps({"error": {"message": f"no {secret} here"}})):
        said = faults.excerpt(body.encode(), "text/plain")
        assert "secret" not in said
        assert "(hidden)" in said

"""What an answer other than 200, or no answer at all, means: HTTP and httpx on one side, our errors on the other.

Three tables say it: ``ANSWERS``, ``NO_ANSWER`` and ``BROKEN_BODY``, the first row that fits counts. Which status is
worth another try is Google's published list; what a 429, 403 or empty 500 means differs between the archives and comes
from the source of IDC's proxy; the codes of S3 and Google Cloud Storage from their own pages. Pure: the time is told.
"""

from __future__ import annotations

import html
import json
import re
import ssl
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any
from urllib.parse import quote

import httpx

from ..errors import (
    AccessDenied,
    DeadlinePassed,
    Gone,
    IdcfsError,
    NoConnection,
    QuotaSpent,
    Refused,
    Truncated,
    Unreachable,
    UsageError,
)
from ..settings import GOOGLE_LOGIN_COMMAND, ArchiveSettings

MAX_MESSAGE_CHARS = 200
"""How much of a server's own words is passed on."""

_SECRET = re.compile(
    r"""(?xi)
    (?: \b | (?<=%[0-9a-f]{2}) )  # a word begins behind an escape too
    (?: (?: bearer | basic (?= \W (?: [^\w=]*+ = | \W*+ (?-i: [^\sA-Z0-9=]{0,256}+ [A-Z0-9=] ) ) ) )
        (?: \s | %20 | \+ )+ \S+
      | ya29 (?: \. | %2e ) \S+
      | eyJ [\w.%-]+
      | 1 (?: / | %2f ){2} \S+ )
    | (?: client_secret | (?: access | refresh | id | subject ) _token | assertion )
      (?: \s | ["'\\] | %22 | %20 )* (?: [=:] | %3d | %3a ) (?: \s | ["'\\] | %22 | %20 )*
      (?: (?: bearer | basic ) (?: \s | %20 | \+ )+ )?
      (?! \( ) (?: (?! %26 | %22 ) [^\s"'&,;}\\] )+
    """
)
"""What servers that repeat what they were sent would put into the log: logins as Google writes them, or by their names;
percent-encoded too. Nothing of it looks at one character over and over, whatever a server sends."""
_SECRET_CHARS = 8
"""Of what is known to be secret, shorter texts are words that may stand anywhere."""
_SECONDS = re.compile(r"[0-9]{1,12}")
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|Error[\s>])")
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<")
_XML_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_XML_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")


class Transient(Exception):
    """Worth another try; ``error`` is what the caller gets if there is none. Never leaves the transport."""

    def __init__(self, error: IdcfsError, *, retry_after_seconds: float = 0.0, at_once: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_seconds = retry_after_seconds
        self.at_once = at_once
        """Waiting would not help: the connection was stale, the archive is not known to be in trouble."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that is not the one hoped for, with what has to be known to judge it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    """Its beginning."""
    where: str
    """Names archive and path."""
    archive: ArchiveSettings
    timeout_seconds: float
    now: datetime
    login: str = field(default="", repr=False)
    """What was sent as Authorization."""

    @property
    def pause_seconds(self) -> float:
        """What it asks to wait."""
        return retry_after_seconds(self.headers.get("retry-after"), self.now)

    @property
    def content_type(self) -> str:
        """Its label, as it came."""
        return self.headers.get("content-type", "")

    @property
    def code(self) -> str:
        """S3's and Google Cloud Storage's name for the error; empty in other answers."""
        found = _XML_CODE.search(self.body) if _XML.match(self.body) else None
        return found[1].decode("utf-8", "replace").strip() if found else ""

    @property
    def renewal(self) -> datetime:
        """When a spent quota is renewed: at the next 00:00 UTC, or sooner if the answer says so."""
        midnight = datetime.combine(self.now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
        seconds = min(self.pause_seconds, 86_400.0)  # more than that would not change anything, or be no date
        return min(midnight, self.now + timedelta(seconds=seconds)) if seconds else midnight

    def __str__(self) -> str:
        said = excerpt(self.body, self.content_type, (self.login, self.login.partition(" ")[2]))
        return f"{self.where} answered {self.status}" + (f": {said}" if said else "")


# --- signs that a status, or a kind of failure, does not tell --------------------------------------------------------


def _spends_the_day(told: Told) -> bool:
    """IDC's proxy sends a page for people; whoever says when to come back means it."""
    return told.archive.has_daily_quota and (_is_html(told) or told.pause_seconds > told.timeout_seconds)


def _asks_for_patience(told: Told) -> bool:
    return told.code in ("SlowDown", "RequestTimeout")


def _is_empty_and_the_proxys(told: Told) -> bool:
    return _is_proxys(told) and not told.body.strip()


def _is_proxys(told: Told) -> bool:
    return told.archive.has_daily_quota  # which of all servers that alone has


def _is_googles(told: Told) -> bool:
    return told.archive.google_login


def _is_of_a_bucket(told: Told) -> bool:
    return bool(told.code)


def _is_html(told: Told) -> bool:
    """S3's errors are markup too, whatever their label."""
    return not _XML.match(told.body) and ("html" in told.content_type or _MARKUP.match(told.body) is not None)


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _leads_nowhere(error: Exception) -> bool:
    """httpx raises it from the failure to read a Location; what a server breaks in any other way is no such one."""
    return isinstance(error.__context__, httpx.InvalidURL)


# --- the tables ------------------------------------------------------------------------------------------------------


class Again(Enum):
    """Whether another try may help."""

    NEVER = 0
    LATER = 1
    AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """What one of ``statuses`` means if ``sign`` shows too; ``words`` are filled in with ``Told``'s."""

    statuses: Container[int]
    error: type[IdcfsError]
    words: str
    again: Again = Again.NEVER
    sign: Callable[[Told], bool] = lambda told: True


@dataclass(frozen=True, slots=True)
class FailureRule:
    """What one of ``kinds`` means if ``sign`` shows too; ``words`` are filled in with where and what was said."""

    kinds: tuple[type[Exception], ...]
    error: type[IdcfsError]
    words: str
    again: Again = Again.NEVER
    sign: Callable[[Exception], bool] = lambda error: True


NEVER, LATER, AT_ONCE = Again
_ANY = range(1000)

# fmt: off
ANSWERS: tuple[AnswerRule, ...] = (
    AnswerRule(_ANY, Unreachable, "{told}; it asks for fewer requests", LATER, _asks_for_patience),
    AnswerRule({204}, Gone, "{told}; it may belong to another release"),
    AnswerRule({206}, Refused, "{told}; it is only a part of what was asked for"),
    AnswerRule(range(300, 400), Refused, "{told}; it names no other place that could be asked"),
    AnswerRule({400}, Refused, "{told}; it does not take the request in this form"),
    AnswerRule({401}, AccessDenied,
               f"{{told}}; it wants a valid login: '{GOOGLE_LOGIN_COMMAND}' makes one", NEVER, _is_googles),
    AnswerRule({401}, AccessDenied,
               "{told}; it wants a login, which idcfs has for --archive google only: "
               "let the server admit this machine without one, or give the URL of a proxy that logs in"),
    AnswerRule({403}, AccessDenied,
               "{told}; Google says so of what the login may not read, and also of what does not exist",
               NEVER, _is_googles),
    AnswerRule({403}, AccessDenied,
               "{told}; Google says so also of what does not exist, IDC's proxy of an address it denies",
               NEVER, _is_proxys),
    AnswerRule({403}, AccessDenied,
               "{told}; a bucket says so also of what it does not hold", NEVER, _is_of_a_bucket),
    AnswerRule({403}, AccessDenied,
               "{told}; it refuses this machine, or wants a login, which idcfs has for --archive google only"),
    AnswerRule({404, 410}, Gone, "{told}"),
    AnswerRule({406, 415}, Refused, "{told}; it does not have it in the form that was asked for"),
    AnswerRule({408, 425}, Unreachable, "{told}; it wants to be asked again", LATER),
    AnswerRule({416}, Refused, "{told}; what it has does not reach so far"),
    AnswerRule({429}, QuotaSpent, "{title}'s daily quota is spent until {until} UTC ({told})", NEVER, _spends_the_day),
    AnswerRule({429}, Unreachable, "{told}; it asks for fewer requests", LATER),
    AnswerRule({500}, Unreachable,
               "{told} and nothing else; IDC's proxy does so at too many requests, and for what is too large for it",
               LATER, _is_empty_and_the_proxys),
    AnswerRule({500}, Unreachable, "{told}; something failed there", LATER),
    AnswerRule({501, 505}, Refused, "{told}; it cannot do what was asked for"),
    AnswerRule({502, 503, 504}, Unreachable, "{told}; it is overloaded, or down", LATER),
    AnswerRule(range(500, 600), Unreachable, "{told}; something failed there"),
    AnswerRule(_ANY, Refused, "{told}; it is not what was asked for"),
)
"""An answer came, and it is not the one hoped for."""

NO_ANSWER: tuple[FailureRule, ...] = (
    FailureRule((httpx.InvalidURL, httpx.UnsupportedProtocol), UsageError,
                "the address of {where} cannot be used: {said}"),
    FailureRule((httpx.ConnectError,), NoConnection,
                "{where} cannot be reached safely: {said}", NEVER, _is_untrusted),
    # UnicodeError: Python looks up no name with a label that is empty or longer than 63 characters.
    FailureRule((httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, UnicodeError), NoConnection,
                "{where} cannot be reached: {said}", LATER),
    FailureRule((httpx.TimeoutException,), DeadlinePassed, "{where} did not answer in time ({said})"),
    FailureRule((httpx.RemoteProtocolError,), Refused, "{where} redirects to nowhere: {said}", NEVER, _leads_nowhere),
    # Servers drop idle connections whenever they like, and a request may already be on its way.
    FailureRule((httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError), Unreachable,
                "{where} closed the connection: {said}", AT_ONCE),
    FailureRule((Exception,), Unreachable, "{where} cannot be used: {said}"),
)
"""No answer came."""

BROKEN_BODY: tuple[FailureRule, ...] = (
    FailureRule((httpx.TimeoutException,), DeadlinePassed, "{where} stopped sending"),
    FailureRule((Exception,), Truncated, "{where} sent less than it announced: {said}"),
)
"""An answer came, and its body broke off; another try is for who has received what came before."""
# fmt: on


def of_answer(told: Told) -> IdcfsError | Transient:
    """What an answer means that is not the one hoped for."""
    rule = next(rule for rule in ANSWERS if told.status in rule.statuses and rule.sign(told))
    words = rule.words.format(told=told, title=told.archive.spoken_name, until=f"{told.renewal:%H:%M}")
    error = rule.error(words)
    if isinstance(error, Refused):
        error.status = told.status
    if isinstance(error, QuotaSpent):
        error.until = told.renewal
    return _verdict(error, rule.again, told.pause_seconds)


def of_request(
    error: httpx.HTTPError | httpx.InvalidURL | UnicodeError, where: str, *, is_elsewhere: bool = False
) -> IdcfsError | Transient:
    """What it means that no answer came. ``where`` names archive and path.

    :param is_elsewhere: none came from another server, which the archive has redirected to: others it may not.
    """
    rule = _fitting(NO_ANSWER, error)
    kind = Unreachable if is_elsewhere and rule.error is NoConnection else rule.error
    return _verdict(kind(_filled_in(rule, error, where)), rule.again)


def of_body(error: httpx.HTTPError, where: str) -> IdcfsError:
    """What it means that a body broke off."""
    rule = _fitting(BROKEN_BODY, error)
    return rule.error(_filled_in(rule, error, where))


def _fitting(table: tuple[FailureRule, ...], error: Exception) -> FailureRule:
    return next(rule for rule in table if isinstance(error, rule.kinds) and rule.sign(error))


def _filled_in(rule: FailureRule, error: Exception, where: str) -> str:
    return rule.words.format(where=where, said=str(error) or type(error).__name__)


def _verdict(error: IdcfsError, again: Again, pause_seconds: float = 0.0) -> IdcfsError | Transient:
    if again is NEVER:
        return error
    return Transient(error, retry_after_seconds=pause_seconds, at_once=again is AT_ONCE)


# --- what servers say ------------------------------------------------------------------------------------------------


def retry_after_seconds(value: str | None, now: datetime) -> float:
    """Seconds that a Retry-After header asks to wait (RFC 9110, section 10.2.3); 0 without one that makes sense."""
    if not value:
        return 0.0
    if seconds := _SECONDS.fullmatch(value.strip(" \t")):
        return float(seconds[0])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError):  # the last two: a year, or a zone, beyond all measure
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def excerpt(body: bytes, content_type: str, secrets: Iterable[str] = ()) -> str:
    """A server's own words about an error, on one line; empty where there are none for people.

    :param secrets: what it was sent, or may know, that nobody else should; logins are hidden wherever they come from.
    """
    line = " ".join(_words_in(body, content_type).split())
    for secret in secrets:
        if len(secret) >= _SECRET_CHARS:
            line = line.replace(secret, "(hidden)").replace(quote(secret, safe=""), "(hidden)")
    line = _SECRET.sub("(hidden)", line)
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 1] + "…"


def _words_in(body: bytes, content_type: str) -> str:
    if _XML.match(body):  # of S3 and Google Cloud Storage; not parsed: it may be cut, or made to harm parsers
        found = _XML_MESSAGE.search(body) or _XML_CODE.search(body)
        return html.unescape(found[1].decode("utf-8", "replace")) if found else ""
    try:
        return _message_in(json.loads(body)) if body else ""
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace") if content_type.startswith("text/plain") else ""


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

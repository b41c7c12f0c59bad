"""What a client may have, by its Accept header and the archive's habits."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.twin.knobs import Knobs

_RANGE = re.compile(r'(?:[^,"]|"[^"]*")+')
_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*("[^"]*"|[^;,"\s]+)')


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One of the comma-separated parts of an Accept header."""

    media_type: str
    parameters: dict[str, str]
    quoted: frozenset[str]
    """Names of the parameters whose value stood in quotes."""

    @property
    def inner_type(self) -> str:
        return self.parameters.get("type", "").lower()

    @property
    def transfer_syntax(self) -> str:
        return self.parameters.get("transfer-syntax", "")


@dataclass(frozen=True, slots=True)
class Form:
    """What was agreed on."""

    multipart: bool
    transfer_syntax: str
    """``*``, a UID, or empty."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was; the status says so."""

    status: int


def parse_accept(header: str) -> list[MediaRange]:
    """The media ranges of an Accept header, in the order they stand in."""
    ranges = []
    for match in _RANGE.finditer(header):
        text = match.group().strip()
        found = _PARAMETER.findall(text)
        parameters = {name.lower(): value.strip('"') for name, value in found}
        quoted = frozenset(name.lower() for name, value in found if value.startswith('"'))
        ranges.append(MediaRange(text.partition(";")[0].strip().lower(), parameters, quoted))
    return ranges


def agree(header: str, knobs: Knobs, inner_type: str, single_allowed: bool) -> Form | Refusal:
    """The form of an answer that carries ``inner_type``; ``single_allowed``: it may come as a single part."""
    ranges = parse_accept(header or "*/*")
    if knobs.single_first_status and ranges and ranges[0].media_type == inner_type:
        return Refusal(knobs.single_first_status)
    for media_range in ranges:
        form = _form(media_range, knobs, inner_type, single_allowed)
        if form is not None:
            if knobs.strict_quotes and not _quoted_right(media_range):
                return Refusal(406)
            return form
    if knobs.ignore_accept:
        return Form(multipart=True, transfer_syntax=ranges[0].transfer_syntax if ranges else "")
    return Refusal(knobs.refused_form_status)


def _form(media_range: MediaRange, knobs: Knobs, inner_type: str, single_allowed: bool) -> Form | None:
    syntax = "" if knobs.strip_star and media_range.transfer_syntax == "*" else media_range.transfer_syntax
    single = knobs.single_part and single_allowed
    if media_range.media_type in ("*/*", "multipart/*"):
        if knobs.multipart:
            return Form(multipart=True, transfer_syntax=syntax)
        return Form(multipart=False, transfer_syntax=syntax) if single and media_range.media_type == "*/*" else None
    if media_range.media_type == "multipart/related" and media_range.inner_type in ("", inner_type, "*/*"):
        return Form(multipart=True, transfer_syntax=syntax) if knobs.multipart else None
    if media_range.media_type in (inner_type, "application/*") and single and not knobs.ignore_accept:
        return Form(multipart=False, transfer_syntax=syntax)
    return None


def _quoted_right(media_range: MediaRange) -> bool:
    return media_range.quoted == ({"type"} & media_range.parameters.keys())

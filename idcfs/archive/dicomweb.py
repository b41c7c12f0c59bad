"""QIDO-RS and WADO-RS as plain values: searches that are never silently cut, instances that are whole or an error.

What a server can do is found out by asking and remembered for as long as it is mounted: the largest page it grants,
which form of Accept it understands, and whether it can start in the middle of an instance. Each begins with what is
most likely, and only a refusal leads on to the next.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from ..errors import Gone, IdcfsError, Refused
from ..filemeta import UID
from ..settings import ArchiveSettings
from .answer import Answer
from .body import InstanceBody, open_body
from .dicomjson import Item, checked_items
from .habits import RangeHabit
from .pages import MAX_ITEMS, MAX_STALE_PAGES, most_items
from .records import (
    INSTANCE_UID,
    PATIENT_ID,
    SERIES_FIELDS,
    Fields,
    SeriesRecord,
    StudyRecord,
    series_record,
    study_record,
    uid_of,
    with_study,
)
from .transport import Transport

# Without transfer-syntax=* Google and Orthanc decompress what is stored compressed. Only the type value is quoted:
# Google answers 406 to a quoted asterisk.
MULTIPART = 'multipart/related; type="application/dicom"; transfer-syntax=*'
SINGLE_PART = "application/dicom; transfer-syntax=*"
WRONG_FORM = frozenset({400, 406, 415})
"""Statuses that may mean "not in this form": 406 is the right one, Orthanc and Google say 400 too."""
NO_SUCH_RANGE = 416

SMALLER_LIMITS = (200, 100)
"""What to ask for where the usual page is refused: Microsoft's server grants 200, and everybody grants 100."""
WRONG_LIMIT = frozenset({400, 413, 416, 422})
WRONG_FIELDS = frozenset({400, 422})
"""Statuses that may mean that an attribute cannot be asked for: includefield may name any (PS3.18, 8.3.4.3)."""

T = TypeVar("T", bound=Hashable)

log = logging.getLogger(__name__)


class DicomwebInstance(Protocol):
    """What an instance is asked for by."""

    @property
    def study_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def instance_uid(self) -> str: ...
    @property
    def size(self) -> int | None:
        """In bytes, if it is known exactly."""


class DicomwebArchive:
    """One DICOMweb server. Errors are those of the transport, and Refused for answers that make no sense."""

    def __init__(self, transport: Transport, archive: ArchiveSettings) -> None:
        self._transport = transport
        self._name = archive.name
        self._is_too_large = archive.is_too_large
        self._limit = archive.page_limit
        self._working_limit: int | None = None
        self._refused_fields: set[Fields] = set()
        forms = (SINGLE_PART, MULTIPART) if archive.single_part_first else (MULTIPART, SINGLE_PART)
        self._forms: tuple[str, ...] = forms
        self._sends_single_parts: bool | None = None  # as its last answer was
        self._ranges = RangeHabit()  # static files are sent in ranges; no other server says that it does so
        self._hopes_for_ranges = False
        self._told_of_no_lengths = False

    async def search_studies(self) -> list[StudyRecord]:
        """Every study of the server, in no particular order."""
        return await self._search("/studies", PATIENT_ID, study_record)

    async def search_series(self) -> list[SeriesRecord]:
        """Every series of the server, in no particular order; study by study where it cannot list them at once."""
        try:
            found = await self._search_fields("/series", SERIES_FIELDS, series_record)
        except (Gone, Refused) as error:
            log.info("%s does not list all series at once (%s): asking study by study", self._name, error)
            return await self._search_series_by_study()
        if all(record.patient_id for record in found):
            return found
        studies = {study.study_uid: study for study in await self.search_studies()}
        return [with_study(record, studies.get(record.study_uid)) for record in found]

    async def search_instances(self, study_uid: str, series_uid: str, expected: int | None = None) -> list[str]:
        """The SOPInstanceUIDs of a series, sorted by code point. ``expected``: how many the catalog knows of."""
        path = f"{series_path(study_uid, series_uid)}/instances"
        return sorted(await self._search(path, "", lambda item: uid_of(item, INSTANCE_UID), expected))

    async def find_instance(self, instance_uid: str) -> SeriesRecord | None:
        """The series that the instance with that UID is in; None where the server does not know it.

        Of a server that ignores the search and lists whatever it has, nothing but that instance is taken.
        """
        params: dict[str, str | int] = {"SOPInstanceUID": _checked(instance_uid), "limit": 1, "offset": 0}
        path = "/instances"
        try:
            items = self._items(await self._transport.get_json(path, params, about=f"?{instance_uid}"), path)
        except Gone:
            return None
        found = (series_record(item) for item in items if uid_of(item, INSTANCE_UID) == instance_uid)
        return next(filter(None, found), None)

    @property
    def away(self) -> IdcfsError | None:
        """Why it is not worth asking just now; None: it is."""
        return self._transport.away

    @property
    def knows_ranges(self) -> bool:
        """Whether it has shown that it sends what is asked for of an instance, and not all of it; or is to show it."""
        known = self._ranges.known
        may = self._hopes_for_ranges if known is None else known
        return may and self._sends_single_parts is not False

    def starts_anywhere(self, instance: DicomwebInstance) -> bool:
        """Whether ranges of ``instance`` can be had, as far as is known, or to be tried."""
        return self.knows_ranges and self._ranges.may_send(_resource(instance))

    def hope_for_ranges(self) -> None:
        """Ask for ranges until it is known whether it knows them."""
        self._hopes_for_ranges = True

    @asynccontextmanager
    async def fetch(
        self, instance: DicomwebInstance, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[InstanceBody]:
        """Bytes [start, stop) of ``instance`` as stored, or all of them from 0 on, where the server knows no ranges.

        The instance's size is known if the headers tell it. Leaving early stops the transfer.

        :raises Gone: where the server does not have it.
        :raises Refused: where it does not speak this.
        """
        path = instance_path(instance.study_uid, instance.series_uid, instance.instance_uid)
        async with AsyncExitStack() as stack:
            # To ask for all as a range costs nothing, and shows whether a part may be asked for.
            is_range = start or stop is not None or self._is_to_show_ranges
            body = await self._open_range(stack, instance, path, start, stop) if is_range else None
            body = body or await self._open_whole(stack, instance, path)
            if body.size is None and instance.size is None:
                self._tell_of_no_lengths()
            yield body

    def _tell_of_no_lengths(self) -> None:
        """Once: why whoever opens a file waits so long."""
        if not self._told_of_no_lengths:
            self._told_of_no_lengths = True
            waits = "where no bucket tells it, open() waits until a file has come"
            log.warning("%s sends files without telling their length: %s", self._name, waits)

    @property
    def _is_to_show_ranges(self) -> bool:
        may_be_single = self._sends_single_parts or (self._sends_single_parts is None and self._forms[0] == SINGLE_PART)
        return self._ranges.known is None and may_be_single

    async def _open_range(
        self, stack: AsyncExitStack, instance: DicomwebInstance, path: str, start: int, stop: int | None
    ) -> InstanceBody | None:
        """A range of a single part; None where the server shows that it sends none of ``instance``.

        A range of a multipart body would be one of its wrapping too.
        """
        resource, size = _resource(instance), instance.size
        if self._sends_single_parts is False or not self._ranges.may_send(resource):
            return None
        async with AsyncExitStack() as attempt:
            try:
                is_telling = not self._is_too_large(size)
                stream = self._transport.stream(path, SINGLE_PART, start, stop, as_range=True, is_telling=is_telling)
                answer = await attempt.enter_async_context(stream)
                body = await self._open_body(answer, start, stop)
                if body.size is not None and size not in (None, body.size):
                    raise Refused(f"{answer.where} sent a range of {body.size} bytes, and is known to have {size}")
            except Refused as refusal:
                if refusal.status != NO_SUCH_RANGE:  # which is about its end: it may be shorter than it was
                    self._ranges.note_odd(resource)
                if refusal.status in WRONG_FORM and not self._ranges.known:
                    self._forms = tuple(sorted(self._forms, key=SINGLE_PART.__eq__))  # the other one first
                log.info("%s sends no range of %s: %s", self._name, path, refusal)
                return None
            if answer.status == 206:
                self._ranges.note_range()
            else:
                self._ranges.note_whole(resource)
            await stack.enter_async_context(attempt.pop_all())
            return body

    async def _open_body(self, answer: Answer, start: int = 0, stop: int | None = None) -> InstanceBody:
        """Nobody else watches the head of a part, which comes after the answer has begun and before the body does."""
        with self._transport.in_time(answer.where):
            return await open_body(answer, start, stop)

    async def _open_whole(self, stack: AsyncExitStack, instance: DicomwebInstance, path: str) -> InstanceBody:
        resource = _resource(instance)
        may_be_range = self._ranges.known is None and self._ranges.may_send(resource)
        is_telling = not self._is_too_large(instance.size)
        form, answer = await self._retrieve(stack, path, may_be_range=may_be_range, is_telling=is_telling)
        try:
            body = await self._open_body(answer)
        except Refused:
            if answer.status != 206:
                raise
            self._ranges.note_odd(resource)  # nor need it be asked for one
            return await self._open_whole(stack, instance, path)
        self._forms = (form,)
        if answer.status == 206:
            self._ranges.note_range()
        # What counts is what came: static files are single parts, whatever was asked for.
        self._sends_single_parts = not answer.headers.get("content-type", "").lower().startswith("multipart/")
        return body

    async def _retrieve(
        self, stack: AsyncExitStack, path: str, *, may_be_range: bool, is_telling: bool
    ) -> tuple[str, Answer]:
        """Ask in one form after the other until one is understood.

        :param may_be_range: a single part may be asked for as a range of everything.
        :param is_telling: see ``Circuit``.
        :raises Refused: if none is: the refusal of the first.
        """
        refusals: list[Refused] = []
        for form in self._forms:
            try:
                as_range = may_be_range and form == SINGLE_PART
                stream = self._transport.stream(path, form, as_range=as_range, is_telling=is_telling)
                return form, await stack.enter_async_context(stream)
            except Refused as refusal:
                if refusal.status not in WRONG_FORM:
                    raise
                refusals.append(refusal)
        raise refusals[0]

    async def _search_series_by_study(self) -> list[SeriesRecord]:
        found: list[SeriesRecord] = []
        for study in await self.search_studies():
            parse = partial(series_record, study_uid=study.study_uid)
            records = await self._search_fields(f"/studies/{study.study_uid}/series", SERIES_FIELDS, parse)
            found += (with_study(record, study) for record in records)
            if len(found) > MAX_ITEMS:  # of one study there are no more, but of all together
                raise Refused(f"{self._name} lists more than {MAX_ITEMS:,} series: there seems to be no end to it")
        return list(dict.fromkeys(found))

    async def _search_fields(self, path: str, fields: Fields, parse: Callable[[Item], T | None]) -> list[T]:
        """As ``_search``; without what is only wished for, where the server refuses to be asked for it."""
        if fields not in self._refused_fields:
            try:
                return await self._search(path, f"{fields.needed},{fields.wished}", parse)
            except Refused as refusal:
                if refusal.status not in WRONG_FIELDS:
                    raise
        found = await self._search(path, fields.needed, parse)
        if fields not in self._refused_fields:
            log.info("%s refuses a search with includefield=%s", self._name, fields.wished)
            self._refused_fields.add(fields)
        return found

    async def _search(
        self, path: str, fields: str, parse: Callable[[Item], T | None], expected: int | None = None
    ) -> list[T]:
        """What ``parse`` makes of every item at ``path``, without repetitions, page after page.

        An empty page is the end. A short one alone is not: Google and others grant less than was asked for without
        saying so. It is the end where exactly ``expected`` is reached too, which saves a series its second query; that
        a server which grants less than that has more than ``expected`` is then not noticed.

        A page that brings nothing new is the end where ``expected`` is reached; else it takes several in a row.

        :raises Refused: unless they may be all there is; and where there seems to be no end to it.
        """
        found: dict[T, None] = {}
        offset = stale = 0
        most = MAX_ITEMS if expected is None else most_items(expected)
        while page := await self._page(path, fields, offset):
            known = len(found)
            found.update(dict.fromkeys(self._usable(page, parse, path)))
            offset += len(page)
            stale = 0 if len(found) > known else stale + 1
            if len(found) == expected and len(page) < self._limit:
                break
            if stale and self._is_end(stale, len(page), len(found), expected, path):
                break
            if offset > most:
                raise Refused(f"{self._name}{path} lists more than {most:,} items: there seems to be no end to it")
        return list(found)

    def _is_end(self, stale: int, page_size: int, listed: int, expected: int | None, path: str) -> bool:
        """Whether all is listed, now that ``stale`` pages in a row brought nothing new.

        A server that ignores the offset may send everything every time, or the same beginning of it.

        :raises Refused: if it is that beginning.
        """
        if expected is not None and listed >= expected:
            return True
        if stale <= MAX_STALE_PAGES:
            return False
        if expected is not None or page_size == self._limit:
            of = "an unknown number" if expected is None else expected
            raise Refused(f"{self._name}{path} repeats its pages: it seems to ignore offset, {listed} of {of} listed")
        log.warning("%s%s: the server seems to ignore offset; %d items taken for all", self._name, path, listed)
        return True

    async def _page(self, path: str, fields: str, offset: int) -> list[Item]:
        """One page; the first one that a server answers settles how large its pages may be."""
        asked = self._limit
        try:
            return await self._ask(path, fields, offset, asked)
        except Refused as refusal:
            if refusal.status not in WRONG_LIMIT or asked == self._working_limit:
                raise
            first = refusal
        for limit in (limit for limit in SMALLER_LIMITS if limit < asked):
            try:
                return await self._ask(path, fields, offset, limit)
            except Refused as refusal:
                if refusal.status not in WRONG_LIMIT:
                    raise
        raise first

    async def _ask(self, path: str, fields: str, offset: int, limit: int) -> list[Item]:
        params: dict[str, str | int] = {"limit": limit, "offset": offset}
        if fields:
            params["includefield"] = fields
        items = self._items(await self._transport.get_json(path, params), path)
        self._limit = self._working_limit = limit
        return items

    def _items(self, answer: Any, path: str) -> list[Item]:
        """204, an empty body, ``[]`` and ``null`` are all nothing; one object instead of a list is one item."""
        items = [answer] if isinstance(answer, dict) else answer or []
        return checked_items(items, f"{self._name}{path}")

    def _usable(self, page: Iterable[Item], parse: Callable[[Item], T | None], path: str) -> list[T]:
        parsed = [parse(item) for item in page]
        usable = [record for record in parsed if record is not None]
        if len(usable) < len(parsed):
            log.warning("%s%s: %d items without a usable UID", self._name, path, len(parsed) - len(usable))
        return usable


def _checked(uid: str) -> str:
    """``uid`` if it may stand in a URL. A server would normalise ``%2e%2e`` and answer for another resource."""
    if not UID.fullmatch(uid):
        raise Refused(f"{uid!r} is no DICOM UID: nothing was asked of the archive")
    return uid


def _resource(instance: DicomwebInstance) -> tuple[str, str]:
    """What names ``instance``, whether that may stand in a URL or not."""
    return instance.series_uid, instance.instance_uid


def series_path(study_uid: str, series_uid: str) -> str:
    """The resource of a series.

    :raises Refused: for what is no UID.
    """
    return f"/studies/{_checked(study_uid)}/series/{_checked(series_uid)}"


def instance_path(study_uid: str, series_uid: str, instance_uid: str) -> str:
    """The resource of an instance.

    :raises Refused: for what is no UID.
    """
    return f"{series_path(study_uid, series_uid)}/instances/{_checked(instance_uid)}"

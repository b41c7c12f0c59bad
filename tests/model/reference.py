"""The plain dict that everything is compared with: what the archive has had of each path, and what may be answered.

It knows of docs/SEMANTICS.md, and nothing of how it is kept: where an answer depends on what happens to be kept, all
answers are allowed that some state of the caches would give. Bytes are never among those: whatever comes is of one
version that the archive has had since the cache was empty, and as many as were asked for.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from idcfs.settings import BLOCK_BYTES, KIB, Policy
from tests.model.stored import PLANS, SeriesPlan, stored

ARCHIVE, BUCKET = "archive", "bucket"
PLACES = (ARCHIVE, BUCKET)
SPARE_BYTES = 50_000
ROUND_BYTES = 64 * KIB
NO_ERROR: frozenset[int] = frozenset()


@dataclass(eq=False)
class Reading:
    """What has been read of a file while somebody had it open: pieces that have been compared, and of which version."""

    readers: int = 0
    pieces: list[tuple[int, int, frozenset[int]]] = field(default_factory=list)

    def note(self, start: int, stop: int, versions: frozenset[int]) -> None:
        """Bytes [start, stop) have been read, which are those of any of ``versions``.

        Pieces that touch, or lie in one block, are of one version.
        """
        apart = []
        for piece in self.pieces:
            if (piece[0] <= stop and start <= piece[1]) or self._share_a_block(piece[0], piece[1], start, stop):
                start, stop, versions = min(start, piece[0]), max(stop, piece[1]), versions & piece[2]
            else:
                apart.append(piece)
        assert versions, f"bytes [{start}, {stop}) are a mixture of two versions"
        self.pieces = [*apart, (start, stop, versions)]

    @staticmethod
    def _share_a_block(start: int, stop: int, other: int, other_stop: int) -> bool:
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        return first <= (other_stop - 1) // BLOCK_BYTES and other // BLOCK_BYTES <= last


@dataclass(eq=False)
class File:
    """One path."""

    series: Series
    uid: str
    versions: list[bytes]
    """Every one that the archive has ever had."""
    current: int | None
    """The one that it has; None: it has not got the file."""
    possible: set[int] = field(default_factory=set)
    """Those that it has had since the cache was empty."""
    kept: bool = False
    """Whether all of it has come, and nothing has happened since that could take it away."""
    has_come_back: bool = False
    """Whether the archive did not have it a moment ago."""
    reading: Reading = field(default_factory=Reading)

    @property
    def path(self) -> tuple[str, ...]:
        return *self.series.plan.path, f"{self.uid}.dcm"

    @property
    def name(self) -> str:
        return f"{self.uid}.dcm"

    @property
    def is_changed(self) -> bool:
        """Whether the archive has had several versions of it, or another than the index knows."""
        return len(self.possible) > 1 or len(self.sizes) > 1

    @property
    def sizes(self) -> set[int]:
        """In bytes, of those versions; and that of the index, which is known of a file that is alone in its series."""
        of_index = set(self.series.plan.sizes if len(self.series.plan.sizes) == 1 else ())
        return {len(self.versions[one]) for one in self.possible} | of_index

    def content(self) -> bytes | None:
        """What the archive has now."""
        return None if self.current is None else self.versions[self.current]

    def replace(self, data: bytes | None) -> None:
        """The archive has something else from now on; None: nothing."""
        self.kept = self.kept and data is None
        self.has_come_back = self.current is None and data is not None
        if data is None:
            self.current = None
            return
        if data not in self.versions:
            self.versions.append(data)
        self.current = self.versions.index(data)
        self.possible.add(self.current)


@dataclass(eq=False)
class Series:
    """A directory of files."""

    plan: SeriesPlan
    files: dict[str, File] = field(default_factory=dict)
    """All that there have ever been, by SOPInstanceUID."""
    shown: tuple[str, ...] | None = None
    """The names that this mount has listed, which are those until it ends."""
    kept: set[tuple[str, ...]] = field(default_factory=set)
    """Lists that may be kept in the cache directory."""
    is_kept: bool = False
    """Whether one of them surely is."""

    @property
    def present(self) -> tuple[str, ...]:
        """What the archive lists."""
        return tuple(sorted(file.name for file in self.files.values() if file.current is not None))

    @property
    def is_trusted(self) -> bool:
        """Whether a list that is kept serves without a question."""
        counts = {len(names) for names in self.kept}
        return self.is_kept and self.plan.is_fixed and counts == {len(self.plan.sizes)}


class Reference:
    """What there is, and what may be answered."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.series = [_series(plan) for plan in PLANS]
        self.trouble: dict[str, frozenset[int]] = {}
        """The errnos to expect of each place that has failed, and has not shown that it is back."""

    @property
    def files(self) -> list[File]:
        return [file for series in self.series for file in series.files.values()]

    def directories(self) -> dict[tuple[str, ...], list[str]]:
        """The names in each directory above the series, by its path."""
        found: dict[tuple[str, ...], set[str]] = {}
        for series in self.series:
            path = series.plan.path
            for depth in range(len(path)):
                found.setdefault(path[:depth], set()).add(path[depth])
        return {path: sorted(names) for path, names in found.items()}

    # --- what may be answered ----------------------------------------------------------------------------------------

    def places(self, series: Series) -> list[str]:
        """Who can be asked for what is in a series."""
        of_policy = {"wado": [ARCHIVE], "auto": [ARCHIVE, BUCKET], "bucket": [BUCKET]}[self.policy]
        return [place for place in of_policy if place == ARCHIVE or series.plan.is_fixed]

    def troubles(self, series: Series) -> frozenset[int]:
        """The errnos of all who can be asked."""
        return NO_ERROR.union(*(self.trouble.get(place, NO_ERROR) for place in self.places(series)))

    def request_errors(self, series: Series) -> frozenset[int]:
        """With which errnos a request may fail for which there is an answer: only if nobody is left to give it."""
        places = self.places(series)
        if not places:
            return frozenset({errno.ESTALE})
        return self.troubles(series) if all(place in self.trouble for place in places) else NO_ERROR

    def content_errors(self, file: File) -> frozenset[int]:
        """With which errnos opening or reading a file may fail, where not all that is needed is kept."""
        allowed = self.request_errors(file.series)
        if file.current is None or file.is_changed or file.has_come_back:
            allowed |= self.troubles(file.series)
        if file.current is None or (file.has_come_back and BUCKET in self.places(file.series)):
            allowed |= {errno.ESTALE}
        return allowed | {errno.EIO} if file.is_changed else allowed

    def list_errors(self, series: Series) -> frozenset[int]:
        """With which errnos listing a series may fail."""
        if series.shown is not None or series.is_trusted:
            return NO_ERROR
        allowed = self.request_errors(series)
        if series.is_kept and all(series.kept):  # an archive that is away is stood in for by what is kept
            allowed -= {errno.EHOSTUNREACH, errno.ETIMEDOUT}
        return allowed if series.present else allowed | self.troubles(series) | {errno.ESTALE}

    def recovers(self, file: File) -> bool:
        """Whether a file must be readable while all places are sound, if not at the first attempt.

        What an index with content UUIDs tells of sizes is beyond doubt, and so is what a bucket has listed.
        """
        if file.current is None or not self.places(file.series):
            return False
        plan = file.series.plan
        if len(file.sizes) > 1 and plan.is_fixed:
            return len(plan.sizes) > 1 and BUCKET not in self.places(file.series)
        return not file.has_come_back

    # --- what is answered --------------------------------------------------------------------------------------------

    def note_list(self, series: Series, names: Collection[str]) -> None:
        """A series has been listed."""
        found = tuple(names)
        if series.shown is None:
            if series.is_trusted:
                allowed = set(series.kept)
            elif self.request_errors(series) or not series.is_kept:
                allowed = series.kept | {series.present}
            else:
                allowed = {series.present}
            assert found in allowed, f"{series.plan.uid}: {found} is none of {allowed}"
            series.shown, series.kept, series.is_kept = found, {found}, True
        assert found == series.shown, f"{series.plan.uid}: {found} is not {series.shown}, as before"

    def note_size(self, file: File, size: int, *, is_exact: bool) -> None:
        """``stat`` has told a size."""
        if is_exact:
            assert size in file.sizes, f"{file.path}: {size} bytes, not {file.sizes}"
        else:
            assert size > 0, file.path
            assert size % ROUND_BYTES == 0, f"{file.path}: {size} bytes are neither exact nor provisional"

    def note_open(self, file: File, size: int) -> None:
        """A file has been opened, and shows this size."""
        file.reading.readers += 1
        self.note_size(file, size, is_exact=True)

    def note_read(self, file: File, size: int, offset: int, length: int, data: bytes) -> None:
        """Bytes have been read of a file that was opened with ``size``."""
        stop = max(offset, min(offset + length, size))
        assert len(data) == stop - offset, f"{file.path}: {len(data)} bytes instead of {stop - offset} at {offset}"
        if data:
            versions = frozenset(one for one in file.possible if self._is_of(file.versions[one], data, offset, size))
            assert versions, f"{file.path}: {len(data)} bytes at {offset} are of no version that the archive has had"
            file.reading.note(offset, stop, versions)

    @staticmethod
    def _is_of(version: bytes, data: bytes, offset: int, size: int) -> bool:
        """Whether ``data`` may be of a version. Of one that is not of ``size`` bytes all but the end may come."""
        stop = offset + len(data)
        return version[offset:stop] == data and (stop < size or len(version) == size)

    def note_close(self, file: File) -> None:
        """A handle of it is closed: after the last, another version may be read."""
        file.reading.readers -= 1
        if not file.reading.readers:
            file.reading = Reading()

    def note_error(self, error: OSError, allowed: Collection[int], what: str) -> None:
        """Something has failed."""
        names = sorted(errno.errorcode[one] for one in allowed)
        assert error.errno in allowed, f"{what}: {os.strerror(error.errno or 0)}; allowed are {names}"

    # --- what happens ------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """All places are there, and it is known that they are."""
        self.trouble = {}

    def forget_lists(self) -> None:
        """What lists are kept, and whether any, is not known any more."""
        for series in self.series:
            series.is_kept = False

    def forget_kept(self) -> None:
        """Which contents are kept is not known any more."""
        for file in self.files:
            file.kept = False

    def begin_mount(self) -> None:
        """Another mount with the same cache directory."""
        for series in self.series:
            series.shown = None
        for file in self.files:
            file.reading = Reading()

    def begin_anew(self) -> None:
        """Another mount, with an empty cache directory."""
        self.begin_mount()
        self.forget_kept()
        self.forget_lists()
        for series in self.series:
            series.kept = set()
        for file in self.files:
            file.possible = set() if file.current is None else {file.current}

    def contents(self) -> Iterator[tuple[SeriesPlan, str, bytes]]:
        """What the archive has now."""
        for file in self.files:
            data = file.content()
            if data is not None:
                yield file.series.plan, file.uid, data


def _series(plan: SeriesPlan) -> Series:
    series = Series(plan)
    for number in range(len(plan.sizes) + plan.spare):
        is_there = number < len(plan.sizes)
        uid = plan.file_uid(number)
        data = stored(plan, uid, plan.sizes[number] if is_there else SPARE_BYTES, 0)
        file = series.files[uid] = File(series, uid, [], None)
        if is_there:
            file.replace(data)
            file.has_come_back = False
    return series

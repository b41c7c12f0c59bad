"""Who is first: the cells of a run beside each other, for the report and its plots."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scripts.bench.results import Cache, Cell, Results

OURS = "idcfs"
FLOOR = "local disk"
ORTHANC = "Orthanc"
"""What the names of its readers have in them; all others read from nginx, or what came from there."""
_NGINX = "nginx"
NO_MOUNT = "download"
NEAR = 1.1
"""So many times the first's figure still counts as first: below that, noise decides."""
SLACK_BYTES = 100_000
"""And so many bytes more are not counted: headers, and lists that others do not ask for."""


@dataclass(frozen=True, slots=True, order=True)
class Ratio:
    """How many times as much one takes as another: median, least and most of the rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @property
    def near(self) -> bool:
        return self.median <= NEAR


def ratio(of: Sequence[float], to: Sequence[float]) -> Ratio:
    """Round by round, as what else the machine does hits both; of the medians where one was measured less often."""
    if len(of) != len(to):
        of, to = [statistics.median(of)], [statistics.median(to)]
    found = [mine / other for mine, other in zip(of, to, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found), len(found))


@dataclass(frozen=True, slots=True)
class Question:
    """What all subjects are asked alike."""

    job: str
    cache: Cache
    delay_ms: int


class Ranking:
    """The cells of some results, found by subject and question."""

    caches: tuple[Cache, ...] = ("cold", "warm")

    def __init__(self, results: Results) -> None:
        self._subjects = results.subjects
        self._cells = {(cell.subject, Question(cell.job, cell.cache, cell.delay_ms)): cell for cell in results.cells}
        self.delays = sorted({cell.delay_ms for cell in results.cells})
        kinds = {(cell.job, cell.cache) for cell in results.cells}
        self.tasks = [(job, cache) for job in results.jobs for cache in self.caches if (job, cache) in kinds]
        self.ours = [subject for subject in self._subjects if subject.startswith(OURS)]
        self.limited = [mine for mine in self.ours if _server(mine) == _NGINX]
        """Those over the server of which curl says what is possible."""

    def cell(self, subject: str, question: Question) -> Cell | None:
        return self._cells.get((subject, question))

    def wrong(self, subject: str, question: Question) -> bool:
        """Whether what the subject gave is known not to be what the archive has."""
        cell = self.cell(subject, question)
        return cell is not None and cell.correct is False

    def questions(self) -> Iterator[Question]:
        for job, cache in self.tasks:
            for delay_ms in self.delays:
                yield Question(job, cache, delay_ms)

    def ours_beside(self, subject: str) -> str:
        """Which idcfs a subject is compared with: the first over the same server, if there is any."""
        return next((mine for mine in self.ours if _server(mine) == _server(subject)), "")

    def ratio(self, subject: str, question: Question) -> Ratio | None:
        """Of a subject's seconds to those of idcfs; None if one of them has none."""
        cell, mine = self.cell(subject, question), self.cell(self.ours_beside(subject), question)
        return ratio(cell.seconds, mine.seconds) if cell and mine and cell.seconds and mine.seconds else None

    def rivals(self, mine: str, question: Question, *, mounts: bool = False) -> list[Cell]:
        """What ``mine`` competes with: whoever has other bytes than the archive does not, nor does the floor.

        :param mounts: only other mounts.
        """
        cells = [
            self.cell(subject, question)
            for subject in self._subjects
            if subject not in self.ours and FLOOR not in subject and _server(subject) == _server(mine)
        ]
        found = [cell for cell in cells if cell and cell.seconds and cell.correct is not False]
        return [cell for cell in found if not mounts or NO_MOUNT not in cell.subject]

    def standing(self, *, mounts: bool = False) -> tuple[int, int]:
        """How often idcfs is right, and first or as good as first; of how many comparisons."""
        asked = [(mine, question) for mine in self.ours for question in self.questions()]
        compared = [pair for pair in asked if self.cell(*pair) and self.rivals(*pair, mounts=mounts)]
        return sum(self._right(*pair) and not self.behind(*pair, mounts=mounts) for pair in compared), len(compared)

    def _right(self, subject: str, question: Question) -> bool:
        cell = self.cell(subject, question)
        return cell is not None and bool(cell.seconds) and cell.correct is not False

    def behind(self, mine: str, question: Question, *, mounts: bool = False) -> tuple[Cell, Ratio] | None:
        """Who is faster than ``mine``, and how many times: the fastest; None if nobody is by more than noise."""
        cell, rivals = self.cell(mine, question), self.rivals(mine, question, mounts=mounts)
        if not cell or not cell.seconds or not rivals:
            return None
        first = min(rivals, key=lambda rival: statistics.median(rival.seconds))
        found = ratio(cell.seconds, first.seconds)
        return None if found.near else (first, found)

    def thriftier(self, mine: str, question: Question) -> tuple[Cell, Cell] | None:
        """``mine`` and who moves fewest bytes; None if nobody moves fewer by more than what does not count."""
        cell, rivals = self.cell(mine, question), self.rivals(mine, question)
        if not cell or not cell.bytes_moved or not rivals:
            return None
        first = min(rivals, key=lambda rival: statistics.median(rival.bytes_moved))
        least = statistics.median(first.bytes_moved)
        enough = max(least * NEAR, least + SLACK_BYTES)
        return (cell, first) if statistics.median(cell.bytes_moved) > enough else None


def _server(subject: str) -> str:
    return ORTHANC if ORTHANC in subject else _NGINX

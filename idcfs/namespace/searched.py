"""A series as a search returns it, and as it goes through a pipe to the process that sorts them."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, Protocol


class SearchedSeries(Protocol):
    """A series as a search returns it."""

    @property
    def patient_id(self) -> str: ...
    @property
    def study_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def instance_count(self) -> int | None: ...
    @property
    def modality(self) -> str: ...
    @property
    def study_date(self) -> str:
        """YYYYMMDD; empty, as the others, where the server does not tell it."""

    @property
    def study_description(self) -> str: ...
    @property
    def series_number(self) -> str: ...
    @property
    def series_description(self) -> str: ...


class SentSeries(NamedTuple):
    """A ``SearchedSeries`` at the other end of the pipe."""

    patient_id: str
    study_uid: str
    series_uid: str
    instance_count: int | None
    modality: str
    study_date: str
    study_description: str
    series_number: str
    series_description: str


values_of: Callable[[SearchedSeries], tuple[object, ...]] = attrgetter(*SentSeries._fields)
"""What ``SentSeries`` is made of, in its order."""

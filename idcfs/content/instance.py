"""What the content wing works on, and what it wants of whoever fetches it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ..errors import IdcfsError


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored instance: what it is called, and what is known beforehand of its bytes."""

    content: str
    """Key of the series' content version."""
    study_uid: str
    series_uid: str
    instance_uid: str
    transfer_syntaxes: frozenset[str] = frozenset()
    """Transfer syntaxes that the index lists for the series; empty where it lists none."""
    is_fixed: bool = False
    """Whether the key never changes its bytes, as a content UUID does not. Else an archive may have replaced the
    instance, and what comes from the middle of it cannot be told from what belongs to another one."""

    bucket: str = ""
    """Of IDC's public buckets, the one that holds it, by its name at AWS; empty where the index names none."""
    instances: int | None = None
    """How many the index says that its series has."""
    size: int | None = None
    """Exact size in bytes, if it was known when this was made."""

    @property
    def key(self) -> tuple[str, str]:
        """Names the bytes, in caches that outlive releases of the index."""
        return self.content, self.instance_uid

    def __str__(self) -> str:
        return f"instance {self.instance_uid} of series {self.series_uid}"


class Body(Protocol):
    """The bytes of an instance as they arrive, in chunks of any size."""

    @property
    def start(self) -> int:
        """Offset of the first byte: what was asked for, or 0 where the archive sends from the beginning only."""

    @property
    def stop(self) -> int | None:
        """Offset after the last byte, where that was asked for and is sent; None: it goes to the instance's end."""

    @property
    def size(self) -> int | None:
        """Exact size of the whole instance in bytes, where the answer's headers give it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks; ends normally only if the body is provably whole.

        :raises Truncated, Damaged: if it is not.
        """


class Retrieval(Protocol):
    """One retrieval of an instance, in as many bodies as it takes, from as many places as there are."""

    def fetch(self, start: int = 0, stop: int | None = None) -> AbstractAsyncContextManager[Body]:
        """Open bytes [start, stop), to the instance's end without ``stop``.

        A body that starts at 0 although another start was asked for goes to the instance's end.
        """

    @property
    def place(self) -> Hashable:
        """Where the last body came from: equal for what comes from the same place."""

    def goes_elsewhere(self, error: IdcfsError, *, resumes: bool) -> bool:
        """Whether the next ``fetch`` asks another place.

        :param error: what is wrong with the last body, or why there was none.
        :param resumes: it has broken off, and brought something.
        """

    def last_word(self, error: IdcfsError) -> IdcfsError:
        """What to tell who waits, where ``error`` was the last that happened."""


class Source(Protocol):
    """Where instances come from."""

    def retrieval(self, instance: Instance) -> Retrieval:
        """What brings the bytes of ``instance``."""

    def starts_anywhere(self, instance: Instance) -> bool:
        """Whether it is known that ranges of ``instance`` can be had; else, whoever asks for one may get all of it."""

    def elsewhere(self, instance: Instance) -> bool:
        """Whether ranges of ``instance`` can be had from now on: what comes begins too far from what is wanted.

        If so, ``starts_anywhere`` says so too.
        """


class Siblings(Protocol):
    """The instances of one series, numbered in the order in which they are listed."""

    @property
    def series(self) -> Hashable:
        """The same for all views of one series."""

    def __len__(self) -> int: ...

    def instance(self, ordinal: int) -> Instance: ...

    def size(self, ordinal: int) -> int:
        """Size in bytes, provisional where it is not known."""

    def exact_size(self, ordinal: int) -> int | None:
        """Size in bytes, where it is known."""

    def learn(self, ordinal: int, size: int) -> None:
        """Take ``size`` for the exact one from now on."""

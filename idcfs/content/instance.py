"""What the content wing works on, and what it wants of whoever fetches it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored instance: what it is called, and what is known beforehand of its bytes."""

    content: str
    """Key of the series' content version: the same key never changes its bytes."""
    study_uid: str
    series_uid: str
    instance_uid: str
    transfer_syntaxes: frozenset[str] = frozenset()
    """Transfer syntaxes that the index lists for the series; empty where it lists none."""

    @property
    def key(self) -> tuple[str, str]:
        """Names the bytes, in caches that outlive releases of the index."""
        return self.content, self.instance_uid

    def __str__(self) -> str:
        return f"instance {self.instance_uid} of series {self.series_uid}"


class Body(Protocol):
    """The bytes of an instance as they arrive, in chunks of any size."""

    @property
    def size(self) -> int | None:
        """Exact size of the instance in bytes, where the answer's headers give it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks; ends normally only if the body is provably whole, else raises ``Truncated`` or ``Damaged``."""


class Source(Protocol):
    """Where instances come from."""

    def fetch(self, instance: Instance, start: int = 0) -> AbstractAsyncContextManager[Body]:
        """Open the bytes of ``instance`` from ``start`` on."""

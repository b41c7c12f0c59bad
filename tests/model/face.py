"""What a machine does with a filesystem, whichever face that has: paths, handles and bytes; OSError where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from idcfs.settings import GIB, MIB, Policy
from tests.model.reference import Reference

TIMEOUT_SECONDS = 2.0

DirectoryPath = tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """How it is mounted, and the habits of the archive."""

    policy: Policy = "auto"
    memory_bytes: int = 64 * MIB
    disk_bytes: int = GIB
    prefetch: int = 0
    habits: Mapping[str, Any] = field(default_factory=dict)
    """Knobs of the twin."""

    @property
    def is_roomy(self) -> bool:
        """Whether the disk has room for everything."""
        return self.disk_bytes >= GIB


class Size(NamedTuple):
    """What ``stat`` tells of a file."""

    bytes: int
    is_exact: bool


class Piece(NamedTuple):
    """A read: of which open file, where, and how many bytes."""

    handle: int
    offset: int
    length: int


class Face(Protocol):
    """A filesystem over an archive that does as it is told."""

    blocks: Path
    """The directory of blocks in the cache directory."""
    store: Path
    """The file of lists and sizes there."""

    def start(self, options: Options, reference: Reference) -> None:
        """Mount, with an empty cache, over an archive that has what ``reference`` says."""

    def stop(self) -> None:
        """Unmount, and leave nothing behind."""

    def remount(self, *, is_empty: bool) -> None:
        """Unmount, and mount again: with the same cache directory, or an empty one."""

    # --- the archive -------------------------------------------------------------------------------------------------

    def change(self, reference: Reference) -> None:
        """The archive has what ``reference`` says, from now on."""

    def break_down(self, match: str, knobs: Mapping[str, Any]) -> None:
        """The archive treats requests that have ``match`` in their path as ``knobs`` say."""

    def refuse(self, match: str) -> None:
        """No connection can be made to who answers requests that have ``match`` in their path."""

    def repair(self) -> None:
        """The archive is as at the start; and whoever was away is asked again."""

    # --- the filesystem ----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass; not all of it, where it is real."""

    def forget(self) -> None:
        """Evict what is in memory."""

    def sync(self) -> None:
        """Have all that has come written to the disk cache."""

    def opendir(self, path: DirectoryPath) -> int:
        """A handle of a directory."""

    def entries(self, handle: int, start: int, count: int) -> list[tuple[str, int]]:
        """Some of the names of a directory and where the next begins: from a position, and about so many.

        None only at the end.
        """

    def closedir(self, handle: int) -> None: ...

    def exists(self, path: DirectoryPath) -> bool:
        """Whether there is such a name."""

    def size(self, path: DirectoryPath) -> Size:
        """What ``stat`` tells."""

    def open(self, path: DirectoryPath) -> tuple[int, int]:
        """A handle of a file, and the size that it shows."""

    def read(self, piece: Piece) -> bytes: ...

    def read_together(self, pieces: Sequence[Piece]) -> list[bytes | OSError]:
        """The same, all at once."""

    def close(self, handle: int) -> None: ...

    def bugs(self) -> str:
        """What the log tells of bugs, so far."""

"""What can go wrong, as one tree, and the only table that turns it into an errno.

    IdcfsError
    ├── UsageError          the user's input is wrong: one line, exit code 2
    ├── NotFound            no such name in the listing
    ├── Gone                listed, but the archive no longer has it
    ├── AccessDenied        the archive wants a login, or refuses this one
    ├── QuotaSpent          the archive's quota of the day is used up
    ├── DeadlinePassed      no progress within the timeout
    ├── Unreachable         the archive cannot be reached, or only answers with faults of its own
    │   └── NoConnection    no connection to it can be made
    ├── Refused             the archive answered, but not with what was asked for
    ├── NotOffered          the archive has no such thing of what it stores: it cannot render it, say
    ├── Damaged             a body that is not the stored instance
    │   ├── Truncated       a body that ended early: worth another try
    │   ├── WrongSize       a body of another length than was known: one of the two is wrong
    │   ├── Replaced        a body of other bytes than came before: one of the two is wrong
    │   └── NoInstance      bytes that are certainly a file's own, and no DICOM
    ├── NotADirectory       a file where a directory is needed
    ├── IsADirectory        a directory where a file is needed
    └── NotALink            a file or directory where a link is needed

Messages are whole sentences without a final stop: what, where and, if there is one, what to do.
"""

from __future__ import annotations

import errno
from datetime import datetime
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class IdcfsError(Exception):
    """Base of everything idcfs raises on purpose."""

    reported = False
    """Whether the log has told it already, or told once for many of its kind."""


class UsageError(IdcfsError):
    """The user's input (option, file, mountpoint) cannot be used."""


class NotFound(IdcfsError):
    """No such name in the listing."""


class Gone(IdcfsError):
    """Listed, but the archive no longer has it (204, 404, 410)."""


class AccessDenied(IdcfsError):
    """401 or 403 from the archive."""


class QuotaSpent(IdcfsError):
    """The archive's quota of the day is used up; it is renewed at ``until``, as far as is known."""

    def __init__(self, message: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class DeadlinePassed(IdcfsError):
    """No progress within the timeout."""


class Unreachable(IdcfsError):
    """No connection, or nothing but server faults (5xx) after every retry."""


class NoConnection(Unreachable):
    """No connection to the archive can be made: whoever else asks it will find the same."""


class Refused(IdcfsError):
    """The archive answered, but not with what was asked for; ``status`` is that of HTTP where it says why."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NotOffered(IdcfsError):
    """The archive does not make this of what it stores: pictures, metadata, a search."""


class Damaged(IdcfsError):
    """A body that is not the stored instance: transcoded, of another instance, malformed."""


class Truncated(Damaged):
    """A body that ended before its length or its closing boundary said so."""


class WrongSize(Damaged):
    """A body of another length than was known beforehand."""


class Replaced(Damaged):
    """A body of other bytes than those that came before, or are kept."""


class NoInstance(Damaged):
    """A file that is certainly no instance: to ask again would not help."""


class NotADirectory(IdcfsError):
    """A file stands where a directory is needed."""


class IsADirectory(IdcfsError):
    """A directory stands where a file is needed."""


class NotALink(IdcfsError):
    """A file or directory stands where a link is needed."""


_ERRNO: dict[type[IdcfsError], int] = {
    NotFound: errno.ENOENT,
    Gone: errno.ESTALE,
    AccessDenied: errno.EACCES,
    QuotaSpent: errno.EDQUOT,
    DeadlinePassed: errno.ETIMEDOUT,
    Unreachable: errno.EHOSTUNREACH,
    NotOffered: errno.EOPNOTSUPP,
    NotADirectory: errno.ENOTDIR,
    IsADirectory: errno.EISDIR,
    NotALink: errno.EINVAL,  # readlink(2)
}


def errno_of(error: IdcfsError) -> int:
    """The errno a caller of the kernel gets for ``error``; EIO where the table has no better word."""
    for kind in type(error).__mro__:
        if kind in _ERRNO:
            return _ERRNO[kind]
    return errno.EIO


_MEANINGS = {
    errno.ENOENT: "the listing has no such name",
    errno.ESTALE: "listed, but the archive does not have it: no longer, not yet, or it is the wrong archive or index",
    errno.EACCES: "the archive wants a login, or refuses this one, or this machine",
    errno.EDQUOT: "the archive's quota of the day is spent, and no bucket may be asked",
    errno.ETIMEDOUT: "no progress within --timeout",
    errno.EHOSTUNREACH: "the archive cannot be reached, or answers with faults; or offline, it is not kept",
    errno.EOPNOTSUPP: "the archive does not make this of what it stores, such as a picture of what has no pixels",
    errno.EIO: "what came is not the stored instance, or cannot be kept",
    errno.ENOTCONN: "the mount's process died: 'idcfs mount' at the same place cleans up",
}
"""The README's table, for commands that meet an errno."""


def meaning_of(number: int) -> str:
    """What a mount's errno means, in words; empty where it is nothing that a mount answers."""
    return _MEANINGS.get(number, "")


def first_of(group: BaseExceptionGroup[E]) -> E:
    """One of what a nursery raises at once, where each says as much as the others."""
    one = group.exceptions[0]
    return first_of(one) if isinstance(one, BaseExceptionGroup) else one

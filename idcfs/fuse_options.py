"""What ``-o`` takes: words for the kernel and libfuse, and whose the mount is to be."""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import UsageError
from .nearest import did_you_mean
from .settings import SOURCE_NAME, Owner

_NONEMPTY = "nonempty"
FUSE_OPTIONS = frozenset(
    {"allow_other", "allow_root", "auto_unmount", "default_permissions", _NONEMPTY, "ro"}
    | {"atime", "noatime", "dev", "nodev", "exec", "noexec", "suid", "nosuid"}
)
"""Those without a value; ``nonempty`` is ours, the rest libfuse's.

Not ``subtype``: commands find the mount by its type.
"""
MOST_NAME_BYTES = 2_048
"""Of what stands in the place of a device: the kernel takes less than a page, with what libfuse escapes in it."""
_MOST_ID = 2**32 - 2
"""The largest that the kernel has; the one above it means "none"."""


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """All that ``-o`` says, however often it was given."""

    flags: tuple[str, ...]
    """For libfuse."""
    may_hide_files: bool
    """Whether the mountpoint may be a directory that is not empty."""
    owner: Owner
    source_name: str
    """What the mount table has in the place of a device."""


def parse_fuse_options(texts: tuple[str, ...], source_name: str | None = None) -> FuseOptions:
    """What ``-o a,b=c -o d`` says; of what is said twice, or to the contrary (``suid,nosuid``), the last.

    :param source_name: what the mount table has in the place of a device, unless ``fsname=`` says otherwise.
    :raises UsageError: for an option that does not exist, or has a wrong value.
    """
    flags: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, value in _single(texts):
        if name in _VALUES:
            values[name] = _VALUES[name](name, value or "")
        elif name not in FUSE_OPTIONS:
            written = name if value is None else f"{name}={value}"
            meant = did_you_mean(name, OPTIONS) or f"there are {', '.join(sorted(OPTIONS))}"
            raise UsageError(f"-o {written}: no such option; {meant}")
        elif value is not None:
            raise UsageError(f"-o {name}={value}: {name} takes no value")
        else:
            about = name.removeprefix("no")
            flags[about if about in FUSE_OPTIONS else name] = name
    shown = values.pop("fsname", source_name or SOURCE_NAME)
    may_hide_files = flags.pop(_NONEMPTY, None) is not None
    return FuseOptions(tuple(flags.values()), may_hide_files, Owner(**values), shown)


def _single(texts: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Each option's name and, if it has one, value."""
    for text in texts:
        for option in filter(None, (option.strip() for option in text.split(","))):
            name, equals, value = option.partition("=")
            yield name, value if equals else None


def _id(name: str, value: str, find: Callable[[str], int], what: str) -> int:
    if re.fullmatch(r"[0-9]{1,10}", value) and int(value) <= _MOST_ID:
        return int(value)
    try:
        return find(value)
    except (KeyError, ValueError):  # the latter for a null byte
        raise UsageError(f"-o {name}={value}: give the number or the name of a {what} of this machine") from None


def _uid(name: str, value: str) -> int:
    return _id(name, value, lambda user: pwd.getpwnam(user).pw_uid, "user")


def _gid(name: str, value: str) -> int:
    return _id(name, value, lambda group: grp.getgrnam(group).gr_gid, "group")


def _umask(name: str, value: str) -> int:
    if not re.fullmatch(r"0{0,3}[0-7]{1,3}", value):
        raise UsageError(f"-o {name}={value}: give the bits to take away in octal, from 000 to 777, like 027")
    return int(value, 8)


def _source_name(name: str, value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise UsageError(f"-o {name}={value}: give the name that 'df' and 'mount' are to show")
    if len(value.encode()) > MOST_NAME_BYTES:
        raise UsageError(f"-o {name}: give a name of at most {MOST_NAME_BYTES:,} bytes")
    return value


_VALUES: dict[str, Callable[[str, str], Any]] = {"uid": _uid, "gid": _gid, "umask": _umask, "fsname": _source_name}
"""Options with a value, and what makes something of that."""
OPTIONS = FUSE_OPTIONS | frozenset(_VALUES)
"""All that there are."""

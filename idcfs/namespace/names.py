"""Path components: any value of the catalog as a name that a path can carry, and back.

A name is what ``readdir`` shows, in bytes, as the kernel wants it. Most values are their own name. The others are
percent-escaped: ``/``, control characters (C0, DEL, C1), what is not valid Unicode, and ``.`` and ``..`` as a whole.
A literal ``%`` is escaped only where it would be read as an escape. Two marks lie outside plain percent-escaping:

* ``%~`` alone stands for the empty value (DICOM allows an empty PatientID, type 2 in PS3.3 C.7.1.1);
* ``<start>%~<digest>`` stands for a value whose escaped form is longer than 255 bytes (NAME_MAX); the catalog keeps the
  value itself, since no name could.
"""

from __future__ import annotations

import hashlib
import re

NAME_MAX = 255
"""Longest path component in bytes, on Linux."""

MARK = b"%~"
INSTANCE_SUFFIX = b".dcm"

_DIGEST_CHARACTERS = 32
# What no path component may hold, a C1 control or a surrogate in its UTF-8 form, or a "%" that would read as ours.
_UNSAFE = re.compile(rb"[\x00-\x1f\x7f/]|\xc2[\x80-\x9f]|\xed[\xa0-\xbf][\x80-\xbf]|%(?=[0-9A-Fa-f]{2}|~)")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")

PLAIN = r"^[ -$&--0-~][ -$&-.0-~]{0,249}$"
"""RE2 pattern of values that are their own name, suffix and all, beyond doubt: the bulk test for a catalog."""


def escape(value: str, *, hidden: bool = True) -> bytes:
    """The path component that stands for ``value``.

    :param hidden: whether a leading dot may stay; at the root such names belong to idcfs' own files.
    """
    if not value:
        return MARK
    name = _UNSAFE.sub(_percent, value.encode("utf-8", "surrogatepass"))
    if name in (b".", b".."):
        name = name.replace(b".", b"%2E")
    elif name.startswith(b".") and not hidden:
        name = b"%2E" + name[1:]
    return name if len(name) <= NAME_MAX else _shorten(name)


def unescape(name: bytes) -> str:
    """The value that ``name`` stands for.

    :raises ValueError: if the name was shortened, so that only the catalog knows the value.
    """
    if name == MARK:
        return ""
    if is_shortened(name):
        raise ValueError(f"{name!r} is a shortened name: only the catalog knows its value")
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), name).decode("utf-8", "surrogatepass")


def is_shortened(name: bytes) -> bool:
    """Whether ``name`` holds a digest instead of the whole value."""
    return MARK in name and name != MARK


def instance_name(instance_uid: str) -> bytes:
    """The file name of an instance: ``<SOPInstanceUID>.dcm``."""
    name = escape(instance_uid)
    if len(name) + len(INSTANCE_SUFFIX) > NAME_MAX:
        name = _shorten(name)
    return name + INSTANCE_SUFFIX


def _percent(match: re.Match[bytes]) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in match[0])


def _shorten(name: bytes) -> bytes:
    """Start of the name, mark, digest of the whole: room is left for the suffix of a file."""
    digest = hashlib.blake2b(name, digest_size=_DIGEST_CHARACTERS // 2).hexdigest().encode()
    room = NAME_MAX - len(INSTANCE_SUFFIX) - len(MARK) - len(digest)
    start = name[:room].decode("utf-8", "ignore").encode()
    return re.sub(rb"%[0-9A-F]?$", b"", start) + MARK + digest

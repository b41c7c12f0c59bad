"""Where an answer may lead on to: anywhere by HTTP, but not out of TLS, nor from outside to this machine itself.

Requests are sent from where the user is, so a server outside must not choose services there that take every local
request for a friend's: those of the machine itself, and what answers at link-local addresses, as clouds' metadata
servers do. A name that resolves to such an address is not seen here: what is said there is no DICOM, and is not shown.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx

from ..errors import Refused
from ..printable import quoted

MOST_IN_A_ROW = 5
_LOCAL_NAME = "localhost"
_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "fd20:ce::254")))
"""Where the metadata servers of AWS and of Google Cloud answer by IPv6: their manuals. It is not link-local."""


def check(before: httpx.URL, after: httpx.URL, where: str) -> None:
    """See that what was asked for at ``before``, in words ``where``, may be asked for at ``after``.

    :raises Refused: if not.
    """
    if after.scheme not in ("http", "https"):
        raise Refused(f"{where} redirects to {quoted(after.scheme)}, which is not HTTP")
    if before.scheme == "https" and after.scheme == "http":
        raise Refused(f"{where} redirects from https:// to http://, where anybody could answer")
    if is_local(after.host) and not is_local(before.host):
        raise Refused(f"{where} redirects to {quoted(after.host)}, which is for this machine alone")


def is_local(host: str) -> bool:
    """Whether ``host`` is this machine, or an address that is not routed, in any way to write it."""
    name = host.lower().rstrip(".")
    if name == _LOCAL_NAME or name.endswith(f".{_LOCAL_NAME}"):  # RFC 6761, section 6.3
        return True
    address = _address(name)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address is None:
        return False
    return address.is_loopback or address.is_link_local or address.is_unspecified or address in _METADATA


def _address(name: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(name)
    with suppress(OSError, UnicodeEncodeError):
        return IPv4Address(socket.inet_aton(name))  # which resolvers take as well: 127.1, 2130706433
    return None

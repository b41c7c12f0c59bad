"""Where an answer may lead on to: anywhere by HTTP, but not out of TLS, nor from outside to this machine itself.

Requests are sent from where the user is, so a server outside must not choose services there that take every local
request for a friend's: those of the machine itself, and what answers at link-local addresses, as clouds' metadata
servers do, or where else these answer. A name that resolves to such an address is not seen here: what is said there is
no DICOM, and is not shown.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

from ..errors import Refused
from ..printable import quoted

MOST_IN_A_ROW = 5
_LOCAL_NAME = "localhost"
_ELSEWHERE = (
    "fd00:ec2::/32",  # AWS: of instances and of pods
    "fd20:ce::254",  # Google Cloud
    "168.63.129.16",  # Azure
    "fd00:c1::a9fe:a9fe",  # Oracle Cloud
    "100.100.100.200",  # Alibaba Cloud
    "fd00:100::100:200",
    "fd00:42::42",  # Scaleway
    "fd00:a9fe:a9fe::1",  # Akamai
)
_METADATA = tuple(map(ip_network, _ELSEWHERE))
"""Where clouds' metadata servers answer besides link-local addresses: their manuals, and what cloud-init asks."""


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
    address = _address(name.partition("%")[0])  # a zone (RFC 4007) makes no other address of it
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address is None:
        return False
    is_metadata = any(address in one for one in _METADATA)
    return is_metadata or address.is_loopback or address.is_link_local or address.is_unspecified


def _address(name: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(name)
    with suppress(OSError, UnicodeEncodeError):
        return IPv4Address(socket.inet_aton(name))  # which resolvers take as well: 127.1, 2130706433
    return None

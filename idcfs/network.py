"""What the environment says of the way to servers, checked before anybody goes it: proxies, and whom HTTPS trusts.

httpx, which reads all of it whatever server is asked, takes a third of a mount's time to load, and what it raises for a
value that it cannot use says neither which variable that is nor keeps its password.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from .errors import UsageError

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
VARIABLES = (*_PROXIES, "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""All that there are; those of proxies in small letters too."""


def check() -> None:
    """Whether there is nothing in the environment that would be in the way of every request.

    :raises UsageError: naming the variable, but not its value, which may hold a password.
    """
    for name in [name for each in _PROXIES for name in (each.lower(), each)]:
        if (value := os.environ.get(name)) and not _is_proxy(value):
            raise UsageError(f"{name} in the environment is no proxy that can be used: give http://HOST:PORT")
    for name in ("no_proxy", "NO_PROXY"):
        if not all(map(_is_host, os.environ.get(name, "").split(","))):
            raise UsageError(f"{name} in the environment is no list of hosts, with commas between them")
    file = os.environ.get("SSL_CERT_FILE")
    if file and not os.access(file, os.R_OK):
        raise UsageError(f"SSL_CERT_FILE in the environment is {file}, which cannot be read")


def _is_proxy(text: str) -> bool:
    """Not by SOCKS, for which a package would be needed that idcfs does not have."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    host = text.strip().rpartition("://")[2]
    if host.count(":") > 1 and "[" not in host:
        return "/" not in host  # httpx knows addresses of IPv6, but no networks
    try:
        return urlsplit(f"//{host}").port != 0
    except ValueError:
        return False

"""What users write on the command line, as values: archives, sizes, FUSE options, places."""

from __future__ import annotations

import math
import re
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from .errors import UsageError
from .settings import BLOCK_BYTES, KIB, MIB, PROXY_URL, ArchiveSettings, ContentSettings

_UNITS = {"": 1, "K": KIB, "M": MIB, "G": KIB * MIB, "T": MIB * MIB}

MIN_CACHE_BYTES = 2 * BLOCK_BYTES
"""Two blocks: with fewer, a read that spans two could not find both."""
MAX_DOWNLOADS = ContentSettings().max_downloads
"""What asks for more at once than this only waits."""

_TIMEOUT_SECONDS = (0.1, 86_400.0)

FUSE_OPTIONS = frozenset(
    {"allow_other", "allow_root", "auto_unmount", "default_permissions", "nonempty", "ro"}
    | {"atime", "noatime", "dev", "nodev", "exec", "noexec", "suid", "nosuid"}
)
"""What ``-o`` takes, all without a value; ``nonempty`` is ours, the rest libfuse's.

Not ``subtype``: commands find the mount by its type.
"""


def archive_settings(text: str) -> ArchiveSettings:
    """The archive that ``--archive`` names.

    :raises UsageError: if it is none.
    """
    if text == "proxy":
        return ArchiveSettings("proxy", PROXY_URL, keepalive_seconds=30.0, single_part_first=True)
    if text == "google":
        raise UsageError(
            "--archive google needs a login, which this version does not have yet: "
            "use --archive proxy (no login), or the URL of a DICOMweb server"
        )
    netloc = _netloc(text)
    if "@" in netloc:
        raise UsageError("--archive: a password in a URL ends up in process lists and logs, so it is not taken")
    if not netloc or re.search(r"[\s?#]", text) or not text.isprintable():
        raise UsageError(
            f"--archive {text!r}: give proxy, google or the URL of a DICOMweb server (http:// or https://)"
        )
    return ArchiveSettings(name=netloc, base_url=text.rstrip("/"))


def _netloc(url: str) -> str:
    """Host and port of an HTTP URL, with what stands before them; empty if it is no such URL."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return ""
    return parts.netloc if known else ""


def size_in_bytes(option: str, text: str) -> int:
    """What ``option`` gives, ``256MiB``, ``256M`` or ``268435456``, as bytes; K, M, G and T are powers of 1024.

    :raises UsageError: if it is no size.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise UsageError(f"{option} {text!r} is not a size: write it like 256MiB or 2GiB")
    return math.ceil(float(match[1]) * _UNITS[match[2].upper()])


def memory_cache_bytes(text: str) -> int:
    """What ``--memory-cache`` gives, if it can hold enough.

    :raises UsageError: if it cannot.
    """
    size = size_in_bytes("--memory-cache", text)
    if size < MIN_CACHE_BYTES:
        raise UsageError(f"--memory-cache {text}: give at least {MIN_CACHE_BYTES // MIB}MiB")
    return size


def disk_cache_bytes(text: str) -> int:
    """What ``--cache-size`` gives, if it can hold enough; 0 for none.

    :raises UsageError: if it cannot.
    """
    size = size_in_bytes("--cache-size", text)
    if 0 < size < MIN_CACHE_BYTES:
        raise UsageError(f"--cache-size {text}: give at least {MIN_CACHE_BYTES // MIB}MiB, or 0 for nothing on disk")
    return size


def timeout_seconds(seconds: float) -> float:
    """What ``--timeout`` gives, if it can be waited for.

    :raises UsageError: if it cannot.
    """
    least, most = _TIMEOUT_SECONDS
    if not least <= seconds <= most:  # nor is nan
        raise UsageError(f"--timeout {seconds:g}: give {least:g} to {most:.0f} seconds")
    return seconds


def fuse_options(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The single options of ``-o a,b=c -o d``.

    :raises UsageError: for one that does not exist, or has a value.
    """
    options = [option.strip() for text in texts for option in text.split(",") if option.strip()]
    for option in options:
        name, equals, _ = option.partition("=")
        if name not in FUSE_OPTIONS:
            raise UsageError(f"-o {option}: no such option; there are {', '.join(sorted(FUSE_OPTIONS))}")
        if equals:
            raise UsageError(f"-o {option}: {name} takes no value")
    return tuple(options)


def default_cache_dir() -> Path:
    """Where catalogs and caches live (XDG)."""
    return platformdirs.user_cache_path("idcfs")


def log_file(mountpoint: Path) -> Path:
    """Where a mount in the background writes its log (XDG state directory)."""
    place = re.sub(r"[^\w.-]+", "-", str(mountpoint)).strip("-") or "root"
    return platformdirs.user_state_path("idcfs") / f"{place.encode()[-200:].decode(errors='ignore')}.log"

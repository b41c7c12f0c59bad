"""What users write on the command line, as values: archives, sizes, places; what ``-o`` takes is in fuse_options."""

from __future__ import annotations

import hashlib
import math
import os
import re
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from . import mounts, xdg
from .cohort import Cohort, take_manifest
from .errors import UsageError
from .fuse_options import MOST_NAME_BYTES, parse_fuse_options
from .layout import parse_layout
from .settings import (
    AWS,
    BLOCK_BYTES,
    GCS,
    GOOGLE,
    GOOGLE_STORE,
    GOOGLE_URL,
    KIB,
    MIB,
    PACKAGED,
    PROXY,
    PROXY_URL,
    QIDO,
    ArchiveSettings,
    BucketSettings,
    ContentSettings,
    MountSettings,
    Policy,
    SourceSettings,
    TransportSettings,
)

_UNITS = {"": 1, "K": KIB, "M": MIB, "G": KIB * MIB, "T": MIB * MIB}

PROXY_VARIABLE = "IDCFS_PROXY_URL"
"""No option, but may say where the proxy is."""
_APP_ENGINE_BYTES = 32 * MIB
"""What App Engine sends at most in one answer, by its documentation; the proxy runs there."""
MIN_CACHE_BYTES = 2 * BLOCK_BYTES
"""Two blocks: with fewer, a read that spans two could not find both."""
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container finds what it may have of the machine's memory: cgroup version 2, and 1 (the kernel's docs)."""
MAX_DOWNLOADS = ContentSettings().max_downloads
"""What asks for more at once than this only waits."""

_LOG_NAME_BYTES = 200
"""Of the 255 that a name may have."""
_TIMEOUT_SECONDS = (0.1, 86_400.0)

GOOGLE_URL_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_HEALTHCARE"
"""gcloud's own variable for another place where the Cloud Healthcare API answers."""
_GOOGLE_STORE = re.compile(
    "/".join(rf"{kind}/[A-Za-z0-9_][\w.:-]{{0,255}}" for kind in ("projects", "locations", "datasets", "dicomStores")),
    re.ASCII,
)
_GOOGLE_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,127}")


class MountOptions(TypedDict):
    """The options of ``idcfs mount`` as they are given, each by its name."""

    archive: str
    idc_version: int | None
    google_store: str | None
    quota_project: str | None
    index: str
    layout: str
    collection: tuple[str, ...]
    where: str | None
    manifest: str | None
    content: Policy
    bucket: str | None
    exact_sizes: bool
    cache_dir: Path | None
    cache_size: str
    memory_cache: str
    prefetch: int
    offline: bool
    timeout: float
    fuse_options: tuple[str, ...]
    source_name: str | None
    metrics_port: int | None


def mount_settings(mountpoint: Path, given: MountOptions, *, foreground: bool) -> MountSettings:
    """What to mount at ``mountpoint``.

    :raises UsageError: for whatever cannot be used.
    """
    index = given["index"]
    if not index:
        raise UsageError(f"--index is empty: give {PACKAGED}, {QIDO} or the path of a parquet file")
    mountpoint = mounts.absolute(mountpoint)
    timeout = timeout_seconds(given["timeout"])
    fuse = parse_fuse_options(given["fuse_options"], given["source_name"])
    cache_dir = _cache_dir(given["cache_dir"], mountpoint)
    archive = archive_settings(given["archive"], given["idc_version"], given["google_store"], given["quota_project"])
    return MountSettings(
        mountpoint=mountpoint,
        archive=archive,
        index=index if index in (PACKAGED, QIDO) else str(mounts.expanded(Path(index))),
        cache_dir=cache_dir,
        layout=parse_layout(given["layout"]).text,
        transport=TransportSettings(timeout_seconds=timeout),
        content=ContentSettings(
            memory_cache_bytes=memory_cache_bytes(given["memory_cache"]),
            disk_cache_bytes=disk_cache_bytes(given["cache_size"]),
            timeout_seconds=timeout,
            prefetch=given["prefetch"],
        ),
        source=source_settings(
            given["content"], given["bucket"], exact_sizes=given["exact_sizes"], archive=archive, index=index
        ),
        fuse_options=fuse.flags,
        source_name=fuse.source_name,
        owner=fuse.owner,
        may_hide_files=fuse.may_hide_files,
        offline=given["offline"],
        log_file=None if foreground else log_file(mountpoint),
        metrics_port=given["metrics_port"],
        cohort=_cohort(given["collection"], given["where"], given["manifest"], index),  # last: it holds a file open
    )


def _cohort(collections: tuple[str, ...], where: str | None, manifest: str | None, index: str) -> Cohort:
    """Which series of the index are shown.

    :raises UsageError: if that is not known of this index before it is mounted, or cannot be read.
    """
    given = {"--collection": bool(collections), "--where": where is not None, "--manifest": manifest is not None}
    for option, is_given in given.items():
        if is_given and index == QIDO:
            raise UsageError(f"{option}: what a server lists (--index qido) is not known before it is mounted")
    if where is not None and not where.strip():
        raise UsageError("--where is empty: give a condition, like Modality = 'CT'")
    return Cohort(collections, where or "", None if manifest is None else take_manifest(manifest))


def _cache_dir(given: Path | None, mountpoint: Path) -> Path:
    directory = mounts.expanded(given or default_cache_dir())
    if mountpoint in (directory, *directory.parents):
        raise UsageError(f"--cache-dir {directory} lies in the mountpoint: give another place")
    return directory


def archive_settings(
    text: str, idc_version: int | None = None, google_store: str | None = None, quota_project: str | None = None
) -> ArchiveSettings:
    """The archive that ``--archive`` names; the others are the options of ``--archive google``.

    :raises UsageError: if it is none, or has no such option.
    """
    if text == GOOGLE:
        return _google(idc_version, google_store, quota_project)
    google_only = {"--idc-version": idc_version, "--google-store": google_store, "--quota-project": quota_project}
    for option, value in google_only.items():
        if value is not None:
            raise UsageError(f"{option} is for --archive google alone")
    if text == PROXY:
        return ArchiveSettings(
            PROXY,
            _proxy_url(),
            keepalive_seconds=30.0,
            single_part_first=True,
            max_response_bytes=_APP_ENGINE_BYTES,
            title="the public proxy",
            has_daily_quota=True,
            is_idcs=True,
        )
    if len(text) > MOST_NAME_BYTES:
        raise UsageError(f"--archive: a URL has at most {MOST_NAME_BYTES:,} characters")
    netloc = _netloc(text)
    if "@" in netloc:
        raise UsageError("--archive: a password in a URL ends up in process lists and logs, so it is not taken")
    if not _is_base_url(text):
        raise UsageError(
            f"--archive {_without_secrets(text)!r}: give proxy, google or the URL of a DICOMweb server (http:// or https://)"
        )
    return ArchiveSettings(name=netloc, base_url=text.rstrip("/"))


def _google(idc_version: int | None, store: str | None, quota_project: str | None) -> ArchiveSettings:
    """A store of Google's Cloud Healthcare API, by default IDC's of the index's release."""
    if store is not None and idc_version is not None:
        raise UsageError("--idc-version chooses among IDC's stores, and --google-store names another: give one of them")
    if store is not None and not _GOOGLE_STORE.fullmatch(store):
        raise UsageError(
            f"--google-store {store!r}: write it like projects/P/locations/L/datasets/D/dicomStores/S, in plain letters"
        )
    if quota_project is not None and not _GOOGLE_PROJECT.fullmatch(quota_project):
        raise UsageError(f"--quota-project {quota_project!r} is not the ID of a Google project")
    path = store or GOOGLE_STORE.format(idc_version or _packaged_release())
    return ArchiveSettings(
        GOOGLE,
        f"{_google_url()}/v1/{path}/dicomWeb",
        keepalive_seconds=30.0,
        single_part_first=True,
        title="Google's store",
        is_idcs=store is None,
        google_login=True,
        quota_project=quota_project,
    )


def _packaged_release() -> str:
    """The IDC release of the packaged index: the major version of its package."""
    from importlib.metadata import PackageNotFoundError, version  # here, not above: a sixth of all that umount loads

    try:
        return version("idc-index-data").partition(".")[0]
    except PackageNotFoundError:
        raise UsageError("the package idc-index-data is not installed: give --idc-version N") from None


def _google_url() -> str:
    """Where the API answers. In plain HTTP, everybody on the way could read the login, so only this machine may be."""
    url = (os.environ.get(GOOGLE_URL_VARIABLE) or GOOGLE_URL).rstrip("/")
    if not _is_base_url(url):
        raise UsageError(f"{GOOGLE_URL_VARIABLE} is not the URL of a server (https://HOST/)")
    if urlsplit(url).scheme == "http" and not _is_this_machine(urlsplit(url).hostname or ""):
        raise UsageError(f"{GOOGLE_URL_VARIABLE} is {url!r}: the login may go over https:// only")
    return url


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy_url() -> str:
    """IDC's public proxy, or what the environment says has taken its place."""
    url = os.environ.get(PROXY_VARIABLE, "")
    if not url:
        return PROXY_URL
    if not _is_base_url(url):
        raise UsageError(f"{PROXY_VARIABLE} is not the URL of a DICOMweb root (http:// or https://, no password)")
    return url.rstrip("/")


def source_settings(
    policy: Policy, bucket: str | None, *, exact_sizes: bool, archive: ArchiveSettings, index: str
) -> SourceSettings:
    """Where contents and sizes come from: what ``--content``, ``--bucket`` and ``--exact-sizes`` say together.

    :raises UsageError: if that contradicts itself.
    """
    if index == QIDO:
        return _searched_source(policy, bucket, exact_sizes=exact_sizes)
    if policy == "wado" and bucket is not None and not exact_sizes:
        raise UsageError("--bucket is of no use with --content wado: leave one of them out")
    if bucket is None and policy != "bucket" and not archive.is_idcs:
        if exact_sizes:
            raise UsageError("--exact-sizes takes sizes from a bucket: say which holds the same, with --bucket")
        return SourceSettings(policy)
    buckets = _bucket_settings("aws" if bucket is None else bucket)
    return SourceSettings(policy, None if policy == "wado" and not exact_sizes else buckets, exact_sizes)


def _searched_source(policy: Policy, bucket: str | None, *, exact_sizes: bool) -> SourceSettings:
    """What a server lists does not say in which bucket it is, so that none can be asked."""
    given = {"--content bucket": policy == "bucket", "--exact-sizes": exact_sizes, "--bucket": bucket is not None}
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option}: what a server lists (--index qido) does not say in which bucket it is")
    return SourceSettings(policy)


def _bucket_settings(text: str) -> BucketSettings:
    for known in (AWS, GCS):
        if text == known.name:
            return known
    example = text.replace("{bucket}", "bucket")
    if not _is_base_url(example) or re.search(r"[{}]", example):
        shown = _without_secrets(text)
        raise UsageError(
            f"--bucket {shown!r}: give aws, gcs or a bucket's URL, in which {{bucket}} stands for its name "
            "(http://127.0.0.1:9000/{bucket})"
        )
    return BucketSettings(_netloc(example).removeprefix("bucket."), text.rstrip("/"))


def _without_secrets(url: str) -> str:
    """What was given for a URL, as it may be shown: all before an ``@`` may be a password, a key behind a ``?``."""
    return re.sub(r"^(\w+:/+|//)?.*@", r"\1…@", re.split("[?#]", url)[0], flags=re.DOTALL)


def _is_base_url(text: str) -> bool:
    netloc = _netloc(text)
    return bool(netloc) and "@" not in netloc and not re.search(r"[\s?#]", text) and text.isprintable()


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
    if size > (most := _memory_bytes()):
        raise UsageError(f"--memory-cache {text} is more than there is: the memory here is {most // MIB:,} MiB")
    return size


def default_memory_cache() -> str:
    """What ``--memory-cache`` is where nothing is given; less than usual where that would be most of the memory."""
    affordable = max(MIN_CACHE_BYTES, _memory_bytes() // 4)
    return f"{min(ContentSettings().memory_cache_bytes, affordable) // MIB}MiB"


def _memory_bytes() -> int:
    """The machine's memory, or less where a container may have less of it."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(file.read_text()))
    return min(found)


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


def default_cache_dir() -> Path:
    """Where catalogs and caches live (XDG)."""
    return xdg.cache()


def log_file(mountpoint: Path) -> Path:
    """Where a mount in the background writes its log (XDG state directory): no two mountpoints have the same.

    The name is the mountpoint's with ``-`` for ``/``; with a digest behind, where another would be written so as well.
    """
    plain = str(mountpoint).strip("/").replace("/", "-")
    if not re.fullmatch(r"[\w.]+", str(mountpoint).replace("/", "")) or len(plain.encode()) > _LOG_NAME_BYTES:
        digest = hashlib.blake2b(os.fsencode(mountpoint), digest_size=4).hexdigest()
        shown = re.sub(r"[^\w.-]+", "-", plain).strip("-") or "root"
        plain = f"{shown.encode()[-_LOG_NAME_BYTES:].decode(errors='ignore')}+{digest}"
    return xdg.state() / f"{plain}.log"

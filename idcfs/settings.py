"""Every setting in one place: frozen, with its unit in its name and its reason beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .cohort import ALL, Cohort

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_INSTANCE_BYTES = 256 * GIB
"""Longest instance that is believed in, many times the largest of IDC: its blocks are looked through in a quarter of a
second, those of what a file could have at most (2**63 bytes) in years."""
MAX_UNTOLD_BYTES = 64 * GIB
"""Longest instance of which nobody tells the length before it has come: who opens it waits for that, and cannot even be
killed. Slides have some GB."""

BLOCK_BYTES = 1 * MIB
"""What the cache keeps and the kernel reads ahead: large enough that a block costs little, small enough that a header
does not cost much."""

DICOM_JSON, PNG, JPEG = "application/dicom+json", "image/png", "image/jpeg"
"""Media types of what an archive makes of what it stores."""
MAX_RENDITION_BYTES = 64 * MIB
"""Largest picture or metadata that is taken: all of it is held at once. 5,000 instances have 20–50 MB of metadata."""

TIMEOUT_SECONDS = 60.0
"""Longest wait without progress, whatever the call."""

STATUS_NAME = ".status.json"
"""The hidden file at the root of a mount, which says what it is and what it has done."""
BULK_NAME = ".bulk"
"""The hidden file at the root of a mount that whoever reads in bulk holds open: the buckets come first meanwhile."""
UID_NAME = ".uid"
"""The hidden directory at the root of a mount in which links are called by UIDs."""
UID_AT_HAND_NAME = ".uid-at-hand"
"""The same, of what is known without a request."""
METADATA_NAME = ".metadata"
"""The hidden directory at the root of a mount that has everything's metadata as DICOM JSON."""
RENDERED_NAME = ".rendered"
"""The hidden directory at the root of a mount that has everything as pictures."""
INDEX_NAME = ".index"
"""The hidden directory at the root of a mount in which the index itself is."""
METRICS_HOST = "127.0.0.1"
"""Metrics are for this machine alone: nobody is asked who he is."""
METRICS_PATH = "/metrics"
"""Where Prometheus looks for them."""
SOURCE_NAME = "idcfs"
"""What the mount table has in the place of a device, unless told otherwise."""
BLOCKS_NAME = "blocks"
"""The directory of file contents in the cache directory."""
STORE_NAME = "series.sqlite"
"""Lists, sizes and what buckets hold, in the cache directory."""

PROXY, GOOGLE = "proxy", "google"
"""Archives that are no URL: IDC's public proxy, and its store at Google."""

PACKAGED = "packaged"
QIDO = "qido"
"""Indexes that are no file: that of the idc-index package, and what the archive itself lists."""

DEFAULT_LAYOUT = "%collection_id/%PatientID/%StudyInstanceUID/%SeriesInstanceUID"

PROXY_URL = (
    "https://proxy.imaging.datacommons.cancer.gov/current/"
    "viewer-only-no-downloads-see-tinyurl-dot-com-slash-3j3d9jyp/dicomWeb"
)
"""IDC's public DICOMweb proxy; the words in it are historical."""
GOOGLE_URL = "https://healthcare.googleapis.com"
"""Google's Cloud Healthcare API."""
GOOGLE_STORE = "projects/nci-idc-data/locations/us-central1/datasets/idc/dicomStores/idc-store-v{}"
"""IDC's DICOM store there, one for each release; {} is the release's number."""


GOOGLE_PLACES = ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG")
"""Environment variables that may name a file or directory in which Google's credentials are."""
GOOGLE_LOGIN_COMMAND = "gcloud auth application-default login"
"""What makes such credentials of a user."""


_WRAPPING_BYTES = 64 * KIB
"""What an answer may hold beside the instance."""


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """One DICOMweb server and the habits of it that are known beforehand."""

    name: str
    """What users call it: ``proxy``, ``google``, or the host of a URL."""
    base_url: str
    """The DICOMweb root, without a trailing slash."""
    page_limit: int = 5_000
    """Items asked for per QIDO-RS page; servers that allow fewer are found out."""
    keepalive_seconds: float = 0.8
    """How long an idle connection is kept: Orthanc drops it after 1.0 s and races whoever keeps it longer."""
    single_part_first: bool = False
    """Ask for ``application/dicom`` before multipart; Orthanc answers 400 to that, Google gives a length."""
    max_response_bytes: int | None = None
    """Largest answer that it can send, if that is known: App Engine, before which the proxy stands, cuts at 32 MiB."""
    title: str = ""
    """What people call it in messages; empty: by its name."""
    has_daily_quota: bool = False
    """Whether a 429 with a page for people, or a long Retry-After, means that nothing more is given this day."""
    is_idcs: bool = False
    """Whether it is one of IDC's own, which hold what the public buckets hold."""
    google_login: bool = False
    """Requests carry a token of Google's Application Default Credentials."""
    quota_project: str | None = None
    """The Google project that requests are counted for; None: the one the credentials name, if any."""

    @property
    def spoken_name(self) -> str:
        """What people call it."""
        return self.title or self.name

    def is_too_large(self, size: int | None) -> bool:
        """Whether an instance of ``size`` bytes, as far as is known, is more than it can send."""
        most = self.max_response_bytes
        return most is not None and size is not None and size + _WRAPPING_BYTES > most


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where IDC's public buckets stand; one archive each."""

    name: str
    """What users call them: ``aws``, ``gcs``, or the host of a URL."""
    url: str
    """Base of a bucket, without a trailing slash, in which ``{bucket}`` stands for its name."""
    names: tuple[tuple[str, str], ...] = ()
    """(name at AWS, name here) of buckets that are called otherwise here."""

    def of(self, bucket: str) -> ArchiveSettings:
        """The bucket that AWS calls ``bucket``."""
        name = dict(self.names).get(bucket, bucket)
        return ArchiveSettings(
            f"{self.name}:{name}",
            self.url.replace("{bucket}", name),
            keepalive_seconds=15.0,
            title=f"the bucket {name} ({self.name})",
        )


AWS = BucketSettings("aws", "https://{bucket}.s3.amazonaws.com")
GCS = BucketSettings(
    "gcs",
    "https://storage.googleapis.com/{bucket}",
    (("idc-open-data-two", "idc-open-idc1"), ("idc-open-data-cr", "idc-open-cr")),
)
"""The mirror at Google, where two buckets have other names."""

Policy = Literal["auto", "wado", "bucket"]


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Which of two places contents come from."""

    policy: Policy = "auto"
    """``auto``: WADO-RS, and the buckets for what that cannot serve."""
    buckets: BucketSettings | None = None
    """None: none may be asked."""
    exact_sizes: bool = False
    """Learn sizes from the buckets' lists whenever a series is listed."""

    @property
    def tells_sizes(self) -> bool:
        """Whether a list comes with the sizes of what it lists, where there is a bucket for it."""
        return self.exact_sizes or self.policy == "bucket"


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """How HTTP is spoken."""

    timeout_seconds: float = TIMEOUT_SECONDS
    connect_timeout_seconds: float = 10.0
    max_connections: int = 32
    """300 small instances are fastest over 32 connections (docs/measured.md)."""
    max_attempts: int = 4
    backoff_initial_seconds: float = 0.25
    backoff_max_seconds: float = 8.0
    max_json_bytes: int = 64 * MIB
    """Largest JSON answer, unpacked: 5,000 instances with their default attributes are 5–10 MB, and what never ends or
    is zeros packed a thousandfold would fill the memory."""


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """How contents are fetched and kept."""

    memory_cache_bytes: int = 256 * MIB
    disk_cache_bytes: int = 20 * GIB
    """0: nothing is kept on disk."""
    timeout_seconds: float = TIMEOUT_SECONDS
    max_downloads: int = 24
    """Downloads at once; the other connections stay free for listings."""
    read_ahead_bytes: int = 2 * MIB
    """How far a download runs ahead of the furthest byte anyone asked for."""
    finish_bytes: int = 1 * MIB
    """A download with no reader left goes on when no more than this is missing. Stopping it closes the connection, and
    a new one costs 2–3 round trips: at 40–80 ms and 10 MB/s that is what about 1 MiB takes."""
    linger_seconds: float = 1.0
    """How long a download that nobody reads any more stands still before it is stopped: ITK opens a file eight times,
    and closes it in between."""
    prefetch: int = 16
    """Siblings fetched at once before anybody asks; 0: none."""
    prefetch_bytes: int = 64 * MIB
    """Siblings are fetched so many bytes ahead of the one opened last, and no further."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose everything in the mount is, as ``stat`` shows it."""

    uid: int | None = None
    """None: of who mounts."""
    gid: int | None = None
    """None: the group of who mounts."""
    umask: int = 0
    """Permission bits that nothing has."""


@dataclass(frozen=True, slots=True)
class MountSettings:
    """What ``idcfs mount`` was asked for."""

    mountpoint: Path
    archive: ArchiveSettings
    index: str
    """``packaged``, ``qido``, or the path of a parquet file."""
    cache_dir: Path
    layout: str = DEFAULT_LAYOUT
    """Template of the directories that lead to a series."""
    cohort: Cohort = ALL
    """Which series of the index are shown."""
    transport: TransportSettings = field(default_factory=TransportSettings)
    content: ContentSettings = field(default_factory=ContentSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    fuse_options: tuple[str, ...] = ()
    """For libfuse."""
    source_name: str = SOURCE_NAME
    """What the mount table has in the place of a device."""
    owner: Owner = field(default_factory=Owner)
    may_hide_files: bool = False
    """Whether the mountpoint may be a directory that is not empty."""
    offline: bool = False
    """Never send a request."""
    log_file: Path | None = None
    """None: the log goes to stderr."""
    metrics_port: int | None = None
    """TCP port on which counters are told; 0: any that is free, None: none."""

"""What users write: archives, sizes, FUSE options, places."""

from __future__ import annotations

import fcntl
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from idcfs import cli, mounts, options
from idcfs.errors import UsageError
from idcfs.settings import (
    AWS,
    GCS,
    GIB,
    GOOGLE_STORE,
    MIB,
    PROXY_URL,
    ArchiveSettings,
    BucketSettings,
    ContentSettings,
    MountSettings,
    Policy,
    SourceSettings,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("268435456", 268_435_456),
        ("256MiB", 268_435_456),
        ("256M", 268_435_456),
        ("256mb", 268_435_456),
        (" 256 MiB ", 268_435_456),
        ("1.5KiB", 1_536),
        ("0.5k", 512),
        ("2GiB", 2**31),
        ("1T", 2**40),
        ("7B", 7),
        ("0.4", 1),
    ],
)
def test_a_size_has_a_unit_or_none(text: str, size: int) -> None:
    assert options.size_in_bytes("--x", text) == size


@pytest.mark.parametrize(
    "text", ["", " ", "MiB", "-1", "1,5G", "1e3", "nan", "inf", "5P", "5 5", "0x10", "1.", "9" * 400]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size: write it like 256MiB"):
        options.size_in_bytes("--x", text)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("0GiB", 0), ("2MiB", 2 * MIB), ("20GiB", 20 * GIB)])
def test_a_disk_cache_has_room_for_two_blocks_or_is_none(text: str, size: int) -> None:
    assert options.disk_cache_bytes(text) == size


@pytest.mark.parametrize("text", ["1", "1MiB", "2097151"])
def test_a_cache_without_room_for_two_blocks_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"^--cache-size {text}: give at least 2MiB, or 0 for nothing on disk$"):
        options.disk_cache_bytes(text)
    with pytest.raises(UsageError, match=f"^--memory-cache {text}: give at least 2MiB$"):
        options.memory_cache_bytes(text)


def test_memory_for_contents_cannot_be_none() -> None:
    assert options.memory_cache_bytes("2MiB") == 2 * MIB
    with pytest.raises(UsageError, match=r"^--memory-cache 0: give at least 2MiB$"):
        options.memory_cache_bytes("0")


GOOD_URLS = {
    "http://localhost:8042/dicom-web": ("localhost:8042", "http://localhost:8042/dicom-web"),
    "https://example.org/dicomWeb/": ("example.org", "https://example.org/dicomWeb"),
    "https://example.org": ("example.org", "https://example.org"),
    "http://127.0.0.1:1/": ("127.0.0.1:1", "http://127.0.0.1:1"),
    "http://[::1]:8042/rs": ("[::1]:8042", "http://[::1]:8042/rs"),
    "https://[2001:db8::1]/rs//": ("[2001:db8::1]", "https://[2001:db8::1]/rs"),
    "http://host:65535": ("host:65535", "http://host:65535"),
}


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_url_is_an_archive_called_after_its_host(url: str) -> None:
    archive = options.archive_settings(url)
    assert (archive.name, archive.base_url) == GOOD_URLS[url]


def test_the_proxy_is_known_by_name() -> None:
    assert options.archive_settings("proxy").base_url == PROXY_URL


RELEASE = version("idc-index-data").partition(".")[0]
OTHER_PARTS = "locations/europe-west4/datasets/my_set/dicomStores/my.store"
OWN_STORE = f"projects/my-project/{OTHER_PARTS}"


@pytest.mark.parametrize(
    ("chosen", "store"),
    [
        ({}, GOOGLE_STORE.format(RELEASE)),
        ({"idc_version": 19}, GOOGLE_STORE.format(19)),
        ({"google_store": OWN_STORE}, OWN_STORE),
        ({"google_store": f"projects/example.com:x/{OTHER_PARTS}"}, f"projects/example.com:x/{OTHER_PARTS}"),
    ],
)
def test_google_has_a_store_for_each_release(
    chosen: dict[str, Any], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(options.GOOGLE_URL_VARIABLE, raising=False)
    archive = options.archive_settings("google", **chosen, quota_project="mine")
    assert archive.base_url == f"https://healthcare.googleapis.com/v1/{store}/dicomWeb"
    assert (archive.name, archive.google_login, archive.quota_project) == ("google", True, "mine")
    assert archive.single_part_first


@pytest.mark.parametrize("archive", ["proxy", "http://host/"])
@pytest.mark.parametrize(
    "option", [{"idc_version": 19}, {"google_store": OWN_STORE}, {"google_store": ""}, {"quota_project": "mine"}]
)
def test_what_is_for_google_is_refused_elsewhere(archive: str, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^--[a-z-]+ is for --archive google alone$"):
        options.archive_settings(archive, **option)


BAD_STORES = ["", "my.store", f"/{OWN_STORE}", f"{OWN_STORE}/", f"{OWN_STORE}/dicomWeb", f"https://host/{OWN_STORE}"]
BAD_STORES += [OWN_STORE.replace("my.store", name) for name in ("", "..", "a b", "a%2e", "a?b", "a#b", "a\n", "ä")]


@pytest.mark.parametrize("store", BAD_STORES, ids=ascii)
def test_what_is_no_store_is_refused(store: str) -> None:
    with pytest.raises(UsageError, match="write it like projects/P/locations/L/datasets/D/dicomStores/S") as caught:
        options.archive_settings("google", google_store=store)
    assert "\n" not in str(caught.value)


def test_a_store_of_ones_own_has_no_release() -> None:
    with pytest.raises(UsageError, match="give one of them"):
        options.archive_settings("google", idc_version=19, google_store=OWN_STORE)


@pytest.mark.parametrize("project", ["", "a b", "a\r\nX: y", "ä", "-a"], ids=ascii)
def test_what_is_no_project_is_refused(project: str) -> None:
    with pytest.raises(UsageError, match="is not the ID of a Google project"):
        options.archive_settings("google", quota_project=project)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/", "http://localhost:8080", "http://[::1]:8080/", "https://host/prefix/", ""]
)
def test_google_may_answer_in_another_place(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(options.GOOGLE_URL_VARIABLE, url)
    root = url.rstrip("/") or "https://healthcare.googleapis.com"
    assert options.archive_settings("google").base_url.startswith(f"{root}/v1/projects/nci-idc-data/")


NOWHERE_SAFE = ["host", "http://host/", "http://10.0.0.1/", "http://localhost.host/", "https://h/?x", "https://h/ x"]


@pytest.mark.parametrize("url", [*NOWHERE_SAFE, "https://me:secret@host/", "http://me:secret@127.0.0.1/"])
def test_a_login_goes_nowhere_where_others_could_read_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(options.GOOGLE_URL_VARIABLE, url)
    with pytest.raises(UsageError, match=f"^{options.GOOGLE_URL_VARIABLE} is") as caught:
        options.archive_settings("google")
    assert "secret" not in str(caught.value)


BAD_URLS = [
    "",
    " ",
    "Proxy",
    "localhost:8042",
    "ftp://host/x",
    "file:///etc/passwd",
    "http://",
    "http:///path",
    "//host",
]
BAD_URLS += ["http://host:port/", "http://host:0", "http://host:65536", "http://host:-1", "http://[::1", "http://::1]"]
BAD_URLS += ["http://[no-address]/", "http://host/?limit=1", "http://host/#x", "http://host/?", "http://host/#"]
BAD_URLS += ["http://ho st/", "http://host/a b", " http://host", "http://host\n", "http://ho\tst", "http://host/\udc80"]


@pytest.mark.parametrize("url", BAD_URLS, ids=ascii)
def test_what_is_no_archive_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(UsageError, match="give proxy, google or the URL of a DICOMweb server") as caught:
        options.archive_settings(url)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize("url", ["http://me:secret@host/", "https://me@host", "http://:secret@host", "http://@host/"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="password in a URL") as caught:
        options.archive_settings(url)
    assert "secret" not in str(caught.value)


def test_fuse_options_are_single_whatever_way_they_were_given() -> None:
    given = ("ro,allow_other", " nonempty ", "noatime,", "")
    assert options.fuse_options(given) == ("ro", "allow_other", "nonempty", "noatime")
    assert options.fuse_options(()) == ()


@pytest.mark.parametrize(
    "text", ["rw", "allow_others", "ro,=1", "ro;nonempty", "RO", "subtype=x", "fsname=x", "max_read=4096"]
)
def test_a_fuse_option_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"no such option; there are allow_other, "):
        options.fuse_options((text,))


@pytest.mark.parametrize("option", sorted(options.FUSE_OPTIONS))
@pytest.mark.parametrize("value", ["", "0", "1"])
def test_a_fuse_option_with_a_value_is_refused(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"-o {option}={value}: {option} takes no value"):
        options.fuse_options((f"{option}={value}",))


@pytest.mark.parametrize("seconds", [0.1, 1.0, 86_400.0])
def test_a_timeout_is_what_can_be_waited_for(seconds: float) -> None:
    assert options.timeout_seconds(seconds) == seconds


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "0", "-1", "0.09", "86401", "1e300"])
def test_another_timeout_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--timeout \S+: give 0.1 to 86400 seconds$"):
        options.timeout_seconds(float(text))


BAD_CACHE_OPTIONS = [
    ("--cache-size", "much", "not a size"),
    ("--cache-size", "1KiB", "at least 2MiB"),
    ("--cache-size", "-1", "not a size"),
    ("--memory-cache", "0", "at least 2MiB"),
    ("--prefetch", "25", "--prefetch"),
    ("--prefetch", "-1", "--prefetch"),
    ("--prefetch", "many", "--prefetch"),
]


@pytest.mark.parametrize(("option", "value", "said"), BAD_CACHE_OPTIONS)
def test_a_bad_value_is_one_line(
    option: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["mount", str(tmp_path / "mnt"), option, value])
    assert ended.value.code == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("idcfs: ")
    assert len(stderr.splitlines()) == 1
    assert said in stderr


def settings_of(*words: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> MountSettings:
    """What ``idcfs mount`` with these words would serve."""
    served: list[MountSettings] = []
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setattr(mounts, "prepare", lambda *_, **__: False)
    monkeypatch.setattr("idcfs.logs.start", lambda *_: None)
    monkeypatch.setattr(cli, "_serve", lambda settings, *_: served.append(settings))
    with pytest.raises(SystemExit) as ended:
        cli.main(["mount", "-f", str(home / "mnt"), *words])
    assert ended.value.code == 0
    (settings,) = served
    return settings


def test_what_is_said_of_the_cache_is_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(home=tmp_path, monkeypatch=monkeypatch)
    assert (settings.content, settings.offline) == (ContentSettings(), False)
    words = ("--cache-size", "3GiB", "--memory-cache", "9MiB", "--prefetch", "0", "--offline", "--cache-dir", "/c")
    settings = settings_of(*words, home=tmp_path, monkeypatch=monkeypatch)
    content = settings.content
    assert (content.disk_cache_bytes, content.memory_cache_bytes, content.prefetch) == (3 * GIB, 9 * MIB, 0)
    assert (settings.offline, settings.cache_dir) == (True, Path("/c"))


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["/", "/mnt/idc", "/mnt/" + "é" * 300, "/mnt/患者" * 60, "/a b\n\udc80/" + "x" * 4000]
)
def test_every_mountpoint_has_a_log_file_that_can_be_made(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = options.log_file(Path(place))
    assert log.parent == tmp_path / "idcfs"
    log.parent.mkdir()
    log.touch()


def test_cache_and_log_are_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert options.default_cache_dir() == tmp_path / "cache" / "idcfs"
    assert options.log_file(Path("/mnt/idc")) == tmp_path / "state" / "idcfs" / "mnt-idc.log"


def test_a_place_is_absolute_and_its_parents_free_of_links_and_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    (real / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(real)
    monkeypatch.setenv("HOME", str(real))
    for text in ("idc", "./idc", "inner/../idc", "~/idc", "../link/idc", f"{tmp_path}/link/inner/../idc", "idc/"):
        assert mounts.absolute(Path(text)) == real / "idc", text
    assert mounts.absolute(Path()) == real
    assert mounts.absolute(Path("inner/..")) == real
    assert mounts.absolute(Path("/")) == Path("/")


def test_a_place_is_not_asked_whether_it_exists(tmp_path: Path) -> None:
    assert mounts.absolute(tmp_path / "missing" / "idc") == tmp_path.resolve() / "missing" / "idc"


def test_a_place_that_cannot_be_known_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    for make in (mounts.absolute, mounts.expanded):
        assert make(tmp_path) == tmp_path.resolve()
        with pytest.raises(UsageError, match=r"^idc: the current directory does not exist any more$"):
            make(Path("idc"))
        with pytest.raises(UsageError, match=r"^~nosuchuser/idc: "):
            make(Path("~nosuchuser/idc"))


def test_a_lock_is_held_until_let_go(tmp_path: Path) -> None:
    file = tmp_path / "state" / "mnt.lock"

    def free() -> bool:
        with file.open("rb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    with mounts.reserved(file) as let_go:
        assert not free()
        let_go()
        assert free()
    with mounts.reserved(file):
        assert not free()
    assert free()


def test_without_a_place_for_the_lock_there_is_none() -> None:
    with mounts.reserved(Path("/proc/nothing/mnt.lock")) as let_go:
        let_go()


def test_what_is_mounted_at_a_place_is_not_asked_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    lstat = os.lstat

    def watched(path: str) -> os.stat_result:
        looked_at.append(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", watched)
    assert mounts.absolute(Path("/proc/")) == Path("/proc")
    assert "/proc" not in looked_at
    assert mounts.absolute(Path("/nothing")) == Path("/nothing")
    assert "/nothing" in looked_at


def test_octal_escapes_of_mountinfo_are_read() -> None:
    assert mounts._plain(rb"/mnt/a\040b\011c\012d\134e") == b"/mnt/a b\tc\nd\\e"
    assert mounts._plain(rb"/mnt/a\134040b") == rb"/mnt/a\040b"
    assert mounts._plain(b"/mnt/idc") == b"/mnt/idc"


def test_the_mounts_of_this_machine_are_found() -> None:
    root = mounts.mount_at(Path("/"))
    assert root is not None
    assert root.device.count(":") == 1
    assert mounts.mount_at(Path("/no such mount")) is None
    assert not any(mounts.is_stale(place) for place in (Path("/"), Path("/no such mount"), Path(os.devnull)))


PROXY = options.archive_settings("proxy")
SERVER = options.archive_settings("http://proxy:8042")  # whatever it is called


@pytest.mark.parametrize(
    ("policy", "bucket", "exact", "archive", "expected"),
    [
        ("auto", None, False, PROXY, AWS),
        ("auto", None, False, options.archive_settings("google", idc_version=19), AWS),
        ("auto", None, False, options.archive_settings("google", google_store=OWN_STORE), None),
        ("auto", None, False, SERVER, None),  # nobody says that the buckets hold the same
        ("auto", "gcs", False, SERVER, GCS),
        ("auto", "aws", False, SERVER, AWS),
        ("bucket", None, False, SERVER, AWS),
        ("wado", None, False, PROXY, None),
        ("wado", None, True, PROXY, AWS),
        ("wado", "gcs", True, SERVER, GCS),
        ("auto", None, True, PROXY, AWS),
    ],
)
def test_where_contents_come_from(
    policy: Policy, bucket: str | None, exact: bool, archive: ArchiveSettings, expected: BucketSettings | None
) -> None:
    found = options.source_settings(policy, bucket, exact_sizes=exact, archive=archive, index="packaged")
    assert found == SourceSettings(policy, expected, exact)


@pytest.mark.parametrize("policy", ["auto", "wado"])
def test_exact_sizes_need_a_bucket_that_holds_the_same(policy: Policy) -> None:
    with pytest.raises(UsageError, match=r"^--exact-sizes takes sizes from a bucket: .* --bucket$"):
        options.source_settings(policy, None, exact_sizes=True, archive=SERVER, index="packaged")


@pytest.mark.parametrize("policy", ["auto", "wado"])
def test_what_a_server_lists_is_in_no_bucket(policy: Policy) -> None:
    found = options.source_settings(policy, None, exact_sizes=False, archive=PROXY, index="qido")
    assert found == SourceSettings(policy, None)


def test_a_bucket_may_be_anywhere() -> None:
    def base(text: str, bucket: str = "idc-open-data-cr") -> str:
        chosen = options.source_settings("auto", text, exact_sizes=False, archive=SERVER, index="packaged")
        assert chosen.buckets is not None
        return chosen.buckets.of(bucket).base_url

    assert base("http://127.0.0.1:9000/{bucket}") == "http://127.0.0.1:9000/idc-open-data-cr"
    assert base("https://{bucket}.s3.example:8443/") == "https://idc-open-data-cr.s3.example:8443"
    assert base("http://mirror/all") == "http://mirror/all"


@pytest.mark.parametrize(
    "bucket",
    [
        "",
        "s3",
        "azure",
        "s3://idc-open-data",
        "{bucket}",
        "http://",
        "http://u:p@host/{bucket}",
        "http://host/{foo}",
        "http://host/{bucket",
        "http://a b/",
    ],
)
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(UsageError, match=r"^--bucket '.*': give aws, gcs or a bucket's URL"):
        options.source_settings("auto", bucket, exact_sizes=False, archive=PROXY, index="packaged")


@pytest.mark.parametrize(
    ("policy", "bucket", "exact", "index", "words"),
    [
        ("wado", "aws", False, "packaged", "--bucket is of no use with --content wado"),
        ("bucket", None, False, "qido", "--content bucket: what a server lists"),
        ("auto", "aws", False, "qido", "--bucket: what a server lists"),
        ("auto", None, True, "qido", "--exact-sizes: what a server lists"),
    ],
)
def test_what_contradicts_itself_is_refused(
    policy: Policy, bucket: str | None, exact: bool, index: str, words: str
) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        options.source_settings(policy, bucket, exact_sizes=exact, archive=PROXY, index=index)


def test_the_proxy_may_have_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options.archive_settings("proxy").base_url == PROXY_URL
    monkeypatch.setenv("IDCFS_PROXY_URL", "http://127.0.0.1:5/dicomWeb/")
    assert options.archive_settings("proxy").base_url == "http://127.0.0.1:5/dicomWeb"
    monkeypatch.setenv("IDCFS_PROXY_URL", "somewhere")
    with pytest.raises(UsageError, match=r"^IDCFS_PROXY_URL is not the URL of a DICOMweb root"):
        options.archive_settings("proxy")
    for secret in ("https://me:hunter2@host/x", "https://host/x?key=hunter2"):
        monkeypatch.setenv("IDCFS_PROXY_URL", secret)
        with pytest.raises(UsageError) as raised:
            options.archive_settings("proxy")
        with pytest.raises(UsageError) as refused:
            options.source_settings("auto", secret, exact_sizes=False, archive=PROXY, index="packaged")
        assert "hunter2" not in f"{raised.value} {refused.value}"

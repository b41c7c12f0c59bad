"""What users write of archives: which one, where it is, and where its contents come from."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from idcfs import options
from idcfs.errors import UsageError
from idcfs.settings import (
    AWS,
    GCS,
    GOOGLE_STORE,
    PROXY_URL,
    ArchiveSettings,
    BucketSettings,
    Policy,
    SourceSettings,
)

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


# --- where contents come from ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "given",
    [
        *("http://host/x?key=hunter2", "http://host/x#hunter2", "ftp://me:hunter2@host/", "//me:hunter2@host/"),
        *("me:hunter2@host", "http:/me:hunter2@host/", "http://me:hun\nter2hunter2@host"),
    ],
)
def test_no_secret_is_shown(given: str) -> None:
    for use in (
        lambda: options.archive_settings(given),
        lambda: options.source_settings("auto", given, exact_sizes=False, archive=PROXY, index="packaged"),
    ):
        with pytest.raises(UsageError) as refused:
            use()
        assert "ter2" not in str(refused.value)

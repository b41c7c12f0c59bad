"""``--archive google`` through real mounts: the twin for Google's store, a token endpoint that checks who asks."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from idcfs.settings import GOOGLE_STORE
from scripts.harness import IDCFS, Mount, run, status
from tests.mount.commands import idcfs
from tests.mount.conftest import MountMaker
from tests.mount.stage import a_series, contents, errno_of, read_over_a_break
from tests.tokens import REVOKED, TokenEndpoint
from tests.twin.client import Twin
from tests.waiting import eventually

OWN_STORE = "projects/my-project/locations/europe-west4/datasets/my_set/dicomStores/my.store"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, twin: Twin) -> None:
    """Google's store is the twin, and no credentials but a test's own are found."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_QUOTA_PROJECT", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_HEALTHCARE", f"{twin.host_url}/")


@pytest.fixture
def google(
    mount: MountMaker,
    twin: Twin,
    sample_index: Path,
    endpoint: TokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Mount]:
    """Mounts as a service account. The store accepts every token that the endpoint gives."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(endpoint.service_account(tmp_path / "key.json")))
    twin.set(bearer_tokens=endpoint.tokens)
    return lambda *options: mount("google", "--index", sample_index, "--prefetch", "0", "--content", "wado", *options)


def used(twin: Twin, kind: str = "wado_instance") -> list[str]:
    """The tokens that came with the requests, in order."""
    return [seen["authorization"].removeprefix("Bearer ") for seen in twin.counters()["last"] if seen["kind"] == kind]


def files(mount: Mount) -> list[Path]:
    """Those of a series of 60."""
    return sorted(a_series(mount).iterdir())


def test_everything_is_read_with_one_token_from_the_store_of_the_indexs_release(
    google: Callable[..., Mount], twin: Twin, endpoint: TokenEndpoint, sample: Path
) -> None:
    assert contents(google("--quota-project", "mine").path) == contents(sample)
    counters = twin.counters()
    assert set(counters["statuses"]) == {"200"}
    assert {seen["authorization"] for seen in counters["last"]} == {f"Bearer {endpoint.tokens[0]}"}
    assert {seen["x_goog_user_project"] for seen in counters["last"]} == {"mine"}
    release = version("idc-index-data").partition(".")[0]
    store = f"/v1/projects/nci-idc-data/locations/us-central1/datasets/idc/dicomStores/idc-store-v{release}/dicomWeb/"
    assert all(seen["path"].startswith(store) for seen in counters["last"])
    assert endpoint.asked == 1


@pytest.mark.parametrize(
    ("options", "store"),
    [
        (("--idc-version", "19"), GOOGLE_STORE.format(19)),
        (("--google-store", OWN_STORE), OWN_STORE),
    ],
)
def test_another_release_or_a_store_of_ones_own(
    options: tuple[str, str], store: str, google: Callable[..., Mount], twin: Twin, sample: Path
) -> None:
    assert contents(google(*options).path) == contents(sample)
    assert all(seen["path"].startswith(f"/v1/{store}/dicomWeb/") for seen in twin.counters()["last"])


def test_without_a_login_such_a_store_denies_access(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    twin.set(bearer_tokens=["x"])
    made = mount(twin.url, "--index", sample_index)
    assert errno_of(lambda: files(made)) == errno.EACCES


def test_a_user_logs_in_at_google_itself(
    google: Callable[..., Mount],
    endpoint: TokenEndpoint,
    sample: Path,
    twin: Twin,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    endpoint.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{endpoint.host}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    user = endpoint.user(tmp_path / "user.json", quota_project_id="of-the-user")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(user))
    assert contents(google().path) == contents(sample)
    assert endpoint.asked == 1
    assert {seen["x_goog_user_project"] for seen in twin.counters()["last"]} == {"of-the-user"}


def test_a_machine_of_googles_logs_in_at_its_metadata_server(
    google: Callable[..., Mount], endpoint: TokenEndpoint, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "NO_GCE_CHECK"):
        monkeypatch.delenv(name)
    for name in ("GCE_METADATA_IP", "GCE_METADATA_HOST"):
        monkeypatch.setenv(name, endpoint.host)
    assert contents(google().path) == contents(sample)
    assert endpoint.asked == 1
    assert "cloud-healthcare" in endpoint.scopes[0]


def test_a_key_file_is_found_wherever_the_mount_was_made(
    google: Callable[..., Mount], endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "key.json")
    # A command runs the idcfs of its working directory, if there is one; here there is none.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert files(google())
    assert endpoint.asked == 1


# --- tokens that end ----------------------------------------------------------------------------------------------


def test_tokens_that_expire_at_once_are_replaced_for_each_request(
    google: Callable[..., Mount], twin: Twin, endpoint: TokenEndpoint, sample: Path
) -> None:
    endpoint.lifetime_seconds = 0
    assert contents(google().path) == contents(sample)
    tokens = used(twin)
    assert len(set(tokens)) == len(tokens) > 60
    assert twin.counters()["statuses"].keys() == {"200"}


def test_a_token_that_expires_in_mid_read_does_not_show(
    google: Callable[..., Mount], twin: Twin, endpoint: TokenEndpoint, sample: Path
) -> None:
    endpoint.lifetime_seconds = 0
    made = google("--timeout", "30")
    path = files(made)[0]
    assert read_over_a_break(made, twin, path) == contents(sample)[path.stem]
    first, second = used(twin)
    assert first != second
    assert status(made.path)["counters"]["errors"] == 0


def test_a_token_that_the_archive_revokes_is_replaced_once(
    google: Callable[..., Mount], twin: Twin, endpoint: TokenEndpoint, sample: Path
) -> None:
    made = google()
    first, *others = files(made)
    first.read_bytes()
    twin.set(bearer_tokens=[endpoint.tokens[1]])
    assert {path.stem: path.read_bytes() for path in others}.items() <= contents(sample).items()
    assert endpoint.asked == 2
    assert twin.counters()["statuses"]["401"] == 1


def test_a_login_that_is_revoked_for_good_is_denied_until_it_is_renewed(
    google: Callable[..., Mount], twin: Twin, endpoint: TokenEndpoint, sample: Path, log_of: Callable[[], str]
) -> None:
    made = google()
    first, second, *_ = files(made)
    kept = first.read_bytes()
    endpoint.says = REVOKED
    twin.set(bearer_tokens=[endpoint.tokens[1]])
    assert errno_of(second.read_bytes) == errno.EACCES
    assert "invalid_grant: Token has been expired or revoked; run 'gcloud auth application-default login'" in log_of()
    assert first.read_bytes() == kept
    assert status(made.path)["archive"] == "google"
    endpoint.says = None
    assert eventually(lambda: errno_of(second.read_bytes) == 0)
    assert second.read_bytes() == contents(sample)[second.stem]


def test_while_the_token_is_good_nobody_needs_the_login_server(
    google: Callable[..., Mount], endpoint: TokenEndpoint, sample: Path
) -> None:
    made = google()
    files(made)
    endpoint.stop()
    try:
        assert contents(made.path) == contents(sample)
    finally:
        endpoint.start()
    assert endpoint.asked == 1


def test_a_login_server_that_is_away_is_told_as_such(
    google: Callable[..., Mount], endpoint: TokenEndpoint, log_of: Callable[[], str]
) -> None:
    made = google("--timeout", "5")
    endpoint.stop()
    try:
        assert errno_of(lambda: files(made)) == errno.EHOSTUNREACH
    finally:
        endpoint.start()
    assert "Google's login server cannot be used: Connection refused" in log_of()
    assert eventually(lambda: errno_of(lambda: files(made)) == 0)


def test_a_login_server_that_hangs_holds_nobody_beyond_the_timeout(
    google: Callable[..., Mount], endpoint: TokenEndpoint, log_of: Callable[[], str]
) -> None:
    endpoint.hangs = True
    made = google("--timeout", "3")
    assert errno_of(lambda: files(made)) == errno.EHOSTUNREACH
    assert "Google's login server" in log_of()
    endpoint.hangs = False
    assert eventually(lambda: errno_of(lambda: files(made)) == 0)


def test_a_clock_that_is_wrong_is_named(
    google: Callable[..., Mount], endpoint: TokenEndpoint, log_of: Callable[[], str]
) -> None:
    endpoint.clock_offset = -7200
    made = google()
    assert errno_of(lambda: files(made)) == errno.EACCES
    assert "check this machine's clock" in log_of()
    endpoint.clock_offset = 0
    assert eventually(lambda: errno_of(lambda: files(made)) == 0)


# --- credentials that are replaced --------------------------------------------------------------------------------


@pytest.fixture
def logged_in(google: Callable[..., Mount]) -> tuple[Mount, Path]:
    """A mount that has logged in once, and a file of it that nobody has read."""
    made = google()
    first, second, *_ = files(made)
    first.read_bytes()
    return made, second


def test_sighup_logs_in_with_the_credentials_that_are_there_now(
    logged_in: tuple[Mount, Path],
    twin: Twin,
    endpoint: TokenEndpoint,
    sample: Path,
    tmp_path: Path,
    log_of: Callable[[], str],
) -> None:
    made, second = logged_in
    with TokenEndpoint() as other:
        other.tokens = ["ya29.token-of-another-key"]
        other.service_account(tmp_path / "key.json")
        twin.set(bearer_tokens=[*endpoint.tokens, *other.tokens])
        os.kill(made.pid, signal.SIGHUP)
        assert eventually(lambda: "logging in with the credentials found now" in log_of())
        assert second.read_bytes() == contents(sample)[second.stem]
        assert other.asked == 1
    assert used(twin)[-1] == "ya29.token-of-another-key"
    assert endpoint.asked == 1


@pytest.mark.parametrize("content", ["", "{}", None], ids=repr)
def test_where_sighup_finds_no_credentials_the_old_ones_stay(
    content: str | None,
    logged_in: tuple[Mount, Path],
    endpoint: TokenEndpoint,
    tmp_path: Path,
    log_of: Callable[[], str],
) -> None:
    made, second = logged_in
    if content is None:
        (tmp_path / "key.json").unlink()
    else:
        (tmp_path / "key.json").write_text(content)
    os.kill(made.pid, signal.SIGHUP)
    assert eventually(lambda: log_of().count("going on with the credentials in use") == 1)
    assert second.read_bytes()
    assert endpoint.asked == 1
    assert log_of().count("WARNING") == 1


# --- what is said -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [(), ("-f",), ("-f", "--log-level", "debug")], ids=str)
@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"type": "service_account"}'])
def test_without_credentials_nothing_is_mounted_and_one_line_names_the_command(
    content: str | None, how: tuple[str, ...], sample_index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "key.json").write_text(content)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    options = ("--archive", "google", "--index", str(sample_index), "--cache-dir", str(tmp_path / "cache"), *how)
    done = idcfs("mount", tmp_path / "mnt", *options, state=tmp_path / "state")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("idcfs: no Google credentials can be used: ")
    assert "run 'gcloud auth application-default login'" in line
    assert not (tmp_path / "mnt").exists()


def test_offline_nobody_logs_in(mount: MountMaker, sample_index: Path) -> None:
    made = mount("google", "--index", sample_index, "--offline")
    assert sorted(os.listdir(made.path)) == ["chest_twin", "rider_twin"]


def test_no_output_has_a_token(
    google: Callable[..., Mount], twin: Twin, endpoint: TokenEndpoint, log_of: Callable[[], str], tmp_path: Path
) -> None:
    endpoint.lifetime_seconds = 0
    made = google("--log-level", "debug", "--metrics-port", "0")
    first, second, third, fourth, *_ = files(made)
    first.read_bytes()
    endpoint.says = (400, {"error": "invalid_grant", "access_token": endpoint.tokens[0]})
    assert errno_of(second.read_bytes) == errno.EACCES
    endpoint.says = (200, {"access_token": f"{endpoint.tokens[0]}\nX: y"})
    assert eventually(lambda: errno_of(third.read_bytes) == errno.EHOSTUNREACH)
    endpoint.says = None
    twin.set(bearer_tokens=["another"])
    assert eventually(lambda: errno_of(fourth.read_bytes) == errno.EACCES and "answered 401" in log_of())
    command_line = Path(f"/proc/{made.pid}/cmdline").read_text()
    said = log_of() + command_line + run([*IDCFS, "status", made.path]) + json.dumps(status(made.path))
    said += httpx.get(f"http://127.0.0.1:{status(made.path)['metrics_port']}/metrics").text
    said += "".join(run([*IDCFS, *words]) for words in (["config", "--json"], ["info", first]))
    said += "".join(os.getxattr(first, name).decode() for name in os.listxattr(first))
    doctor = idcfs("doctor", made.path, "--archive", "google", "--bucket", twin.bucket_url("{bucket}"))
    assert "google login" in doctor.stdout
    said += doctor.stdout + doctor.stderr
    run([*IDCFS, "umount", made.path])
    kept = [*(tmp_path / "cache").rglob("*"), *(tmp_path / "state").rglob("*")]
    said += "".join(path.read_text("latin-1") for path in kept if path.is_file())
    assert "DEBUG" in said
    assert [secret for secret in endpoint.secrets() if secret in said] == []


def test_a_login_that_is_refused_is_no_reason_to_do_without_the_files(
    google: Callable[..., Mount], endpoint: TokenEndpoint, twin: Twin, sample: Path
) -> None:
    """The buckets want no login, and are shown none."""
    made = google("--content", "auto", "--bucket", twin.bucket_url("{bucket}"))
    assert contents(made.path.joinpath("rider_twin"))
    endpoint.says = REVOKED
    twin.set(match="/v1/", bearer_tokens=["none of these"])
    twin.reset_counters()
    assert contents(made.path) == contents(sample)
    counters = twin.counters()
    assert counters["requests"]["bucket_object"] > 0
    assert not [seen for seen in counters["last"] if seen["kind"].startswith("bucket") and seen["authorization"]]
    assert status(made.path)["counters"]["errors"] == 0

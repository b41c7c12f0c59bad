"""``idcfs doctor`` finds what is wrong, each thing made wrong for real, and its remedies are right."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from idcfs import mounts
from scripts.harness import IDCFS, is_mounted
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series, counters, errno_of
from tests.tokens import TokenEndpoint
from tests.twin.client import Twin
from tests.unprivileged import AS_NOBODY
from tests.waiting import eventually

Found = dict[str, dict[str, Any]]
"""By the names of checks."""
Doctor = Callable[..., Found]


@pytest.fixture
def doctor(tmp_path: Path, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """``doctor(*options, code=…)``: what it finds over the twin, and of no mount but one that is given."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*words: str | Path, archive: str = twin.url, bucket: str | None = None, code: int = 0) -> Found:
        usual = ("--archive", archive, "--cache-dir", tmp_path / "cache", "--cache-size", "2MiB", "--json")
        asked = () if bucket == "" else ("--bucket", bucket or twin.bucket_url("{bucket}"))
        place = () if any(str(word).startswith("/") for word in words[-1:]) else (tmp_path / "mnt",)
        done = idcfs("doctor", *usual, *asked, *words, *place)
        assert (done.returncode, done.stderr) == (code, ""), done.stdout
        return {one["check"]: one for one in json.loads(done.stdout)}

    return run


def state(found: Found, check: str) -> str:
    return str(found[check]["state"])


def failures(found: Found) -> list[str]:
    return [name for name, one in found.items() if one["state"] == "fail"]


def test_where_all_is_well_each_line_says_so_and_two_small_requests_are_sent(
    mount: MountMaker, twin: Twin, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    usual = ("--archive", twin.url, "--bucket", twin.bucket_url("{bucket}"), "--cache-size", "2MiB")
    done = idcfs("doctor", *usual, "--cache-dir", tmp_path / "cache", made.path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert {state for state, said in lines if not said.startswith("other users")} == {"ok"}
    assert len(lines) == 11
    assert any(f"{made.path} answers, process {made.pid}" in said for _, said in lines)
    seen = twin.counters()
    assert seen["requests"] == {"qido_series": 1, "bucket_list": 1}
    assert "limit=1" in seen["last"][0]["query"]


def test_offline_nobody_is_asked(doctor: Doctor, twin: Twin) -> None:
    found = doctor("--offline")
    assert found["archive"]["said"] == "not asked: --offline"
    assert "bucket" not in found
    assert twin.counters()["requests"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--archive", "ftp://x"), "--archive"),
        (("--bucket", "nonsense"), "--bucket"),
        (("--cache-size", "much"), "--cache-size"),
        (("--cache-dir", ""), "--cache-dir"),
    ],
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], said: str) -> None:
    done = idcfs("doctor", "--offline", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("idcfs: ")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, not written yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "idcfs").mkdir(parents=True)
    return tmp_path / "config" / "idcfs" / "config.toml"


def test_what_is_checked_is_what_the_settings_would_mount(
    config: Path, twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(f'archive = "{twin.url}"\ncache-dir = "/proc/nothing"\ncache-size = "900000TiB"\n')
    monkeypatch.setenv("IDCFS_BUCKET", twin.bucket_url("{bucket}"))
    monkeypatch.setenv("IDCFS_CACHE_DIR", str(tmp_path / "cache"))
    done = idcfs("doctor", "--json", tmp_path / "mnt")
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert failures(found) == []
    assert found["settings"]["state"] == "ok"
    assert f"IDCFS_CACHE_DIR in the environment, cache-size in {config}" in found["settings"]["said"]
    assert "less than --cache-size" in found["cache"]["said"]
    assert twin.counters()["requests"] == {"qido_series": 1, "bucket_list": 1}
    monkeypatch.setenv("IDCFS_OFFLINE", "yes")
    monkeypatch.setenv("IDCFS_BUKET", "aws")
    done = idcfs("doctor", "--json", "--cache-size", "2MiB", tmp_path / "mnt")
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert found["settings"]["state"] == "warn"
    assert "did you mean IDCFS_BUCKET?" in found["settings"]["said"]
    assert (state(found, "cache"), found["archive"]["said"]) == ("ok", "not asked: --offline")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prefetch = 1 2", "is not TOML"),
        ("prefetch = 99", "99 is not in the range 0<=x<=24 (prefetch in "),
        ('options = "umask=9"', "-o umask=9: give the bits to take away"),
        ("idc-version = 23", "--idc-version is for --archive google alone (idc-version in "),
    ],
)
def test_settings_that_no_mount_takes_are_a_finding_and_the_rest_is_checked_without(
    text: str, said: str, config: Path, doctor: Doctor
) -> None:
    config.write_text(text)
    found = doctor(code=1)
    assert failures(found) == ["settings"]
    assert said in found["settings"]["said"]
    assert state(found, "archive") == "ok"


# --- the archive --------------------------------------------------------------------------------------------------


def test_an_archive_that_is_not_there(doctor: Doctor) -> None:
    found = doctor(archive=NOWHERE, code=1)
    assert failures(found) == ["archive"]
    assert "cannot be reached" in found["archive"]["said"]
    assert "--offline" in found["archive"]["remedy"]
    assert f"the address, {NOWHERE};" in found["archive"]["remedy"]


def test_an_archive_that_hangs_is_not_waited_for(doctor: Doctor, twin: Twin) -> None:
    twin.set(match="/series", latency_seconds=1_000)
    found = doctor(code=1)
    assert failures(found) == ["archive"]
    assert "5 s" in found["archive"]["said"]


def test_an_archive_that_wants_a_login(doctor: Doctor, twin: Twin) -> None:
    twin.set(match="/series", fail_always=401)
    found = doctor(code=1)
    assert failures(found) == ["archive"]
    assert "let the server admit this machine" in found["archive"]["remedy"]


def test_an_address_that_is_no_dicomweb_root(doctor: Doctor, twin: Twin) -> None:
    found = doctor(archive=f"{twin.host_url}/elsewhere", code=1)
    assert failures(found) == ["archive"]
    assert "DICOMweb root" in found["archive"]["remedy"]


def test_a_quota_that_is_spent(doctor: Doctor, twin: Twin, as_proxy: Callable[[Twin], str]) -> None:
    assert state(doctor(archive=as_proxy(twin)), "quota") == "ok"
    twin.set(match="/series", quota_bytes=0)
    found = doctor(archive=as_proxy(twin), code=1)
    assert failures(found) == ["quota"]
    assert "it is spent until 00:00 UTC" in found["quota"]["said"]
    assert "--content bucket" in found["quota"]["remedy"]
    assert state(found, "archive") == "ok"


def test_a_bucket_that_is_not_there_is_a_warning(doctor: Doctor) -> None:
    found = doctor(bucket="http://127.0.0.1:9/{bucket}")
    assert state(found, "bucket") == "warn"


def test_a_server_of_ones_own_has_no_bucket(doctor: Doctor) -> None:
    found = doctor(bucket="")
    assert not found.keys() & {"bucket", "quota", "google login"}


def test_the_login_to_google(
    doctor: Doctor, twin: Twin, endpoint: TokenEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_QUOTA_PROJECT", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_HEALTHCARE", f"{twin.host_url}/")
    found = doctor(archive="google", code=1)
    assert failures(found) == ["google login"]
    assert found["google login"]["remedy"] == "gcloud auth application-default login"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(endpoint.service_account(tmp_path / "key.json")))
    twin.set(match="/v1/", bearer_tokens=endpoint.tokens)
    found = doctor(archive="google")
    assert (state(found, "google login"), state(found, "archive")) == ("ok", "ok")
    twin.set(bearer_tokens=["another"])
    found = doctor(archive="google", code=1)
    assert failures(found) == ["archive"]
    assert "--quota-project" in found["archive"]["remedy"]


# --- mounts -------------------------------------------------------------------------------------------------------


def test_a_mount_whose_process_was_killed_comes_off_with_the_remedy(
    doctor: Doctor, mount: MountMaker, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    os.kill(made.pid, signal.SIGKILL)
    assert eventually(lambda: mounts.is_stale(made.path))
    found = doctor("--offline", made.path, code=1)
    assert failures(found) == ["mount"]
    assert found["mount"]["said"] == f"{made.path}: its process has died"
    command, *words = shlex.split(found["mount"]["remedy"])
    assert command == "idcfs"
    assert idcfs(*words).returncode == 0
    assert not is_mounted(made.path)
    found = doctor("--offline", made.path)
    assert found["mount"]["said"] == f"no idcfs is mounted at {made.path}"


def test_without_a_place_every_mount_is_looked_at(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    assert f"mount         {made.path} answers" in idcfs("doctor", "--offline").stdout


def test_a_mount_of_another_user_is_none_of_ones_business(
    mount: MountMaker, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    other, said = (AS_NOBODY, "belongs to another user") if os.geteuid() == 0 else ((), "answers")
    command = [*other, *IDCFS, "doctor", "--offline", str(made.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"ok    mount         {made.path} {said}" in done.stdout


def test_a_mount_that_stands_still(doctor: Doctor, mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    os.kill(made.pid, signal.SIGSTOP)
    try:
        found = doctor("--offline", made.path, code=1)
    finally:
        os.kill(made.pid, signal.SIGCONT)
    assert failures(found) == ["mount"]
    assert found["mount"]["remedy"] == f"idcfs umount --lazy {made.path}"


def test_a_mount_that_asks_nobody_at_present_asks_again_with_the_remedy(
    doctor: Doctor, mount: MountMaker, as_proxy: Callable[[Twin], str], twin: Twin, sample_index: Path
) -> None:
    made = mount(as_proxy(twin), "--index", sample_index, "--prefetch", "0", "--content", "wado")
    file = min(a_series(made).iterdir())
    twin.set(match="/instances/", quota_bytes=0)
    assert errno_of(file.read_bytes) == errno.EDQUOT
    found = doctor("--offline", made.path)
    assert state(found, "mount") == "warn"
    assert "quota is spent" in found["mount"]["said"]
    subprocess.run(found["mount"]["remedy"].partition(": ")[2], shell=True, check=True)
    assert eventually(lambda: counters(made)["circuits_open"] == 0)


# --- this machine -------------------------------------------------------------------------------------------------


def test_without_fusermount3(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor("--offline", code=1)
    assert failures(found) == ["fusermount3"]
    assert found["fusermount3"]["remedy"] == "install the package fuse3"


def test_a_cache_directory_that_cannot_be_written(doctor: Doctor) -> None:
    found = doctor("--offline", "--cache-dir", "/proc/nothing", "/mnt", code=1)
    assert failures(found) == ["cache"]
    assert found["cache"]["said"].startswith("/proc/nothing cannot be written: /proc says ")


def test_a_disk_that_is_too_small_for_the_cache(doctor: Doctor) -> None:
    found = doctor("--offline", "--cache-size", "900000TiB")
    assert state(found, "cache") == "warn"
    assert "less than --cache-size" in found["cache"]["said"]


def test_nowhere_to_log(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")
    assert failures(doctor("--offline", code=1)) == ["log"]


def test_packages_that_are_broken_or_missing(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What comes first on the path of modules is what counts as installed."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    (tmp_path / "pyfuse3.py").write_text("raise ImportError('libfuse3.so.3: cannot open shared object file')")
    found = doctor("--offline", code=1)
    assert failures(found) == ["packages"]
    assert "libfuse3.so.3" in found["packages"]["said"]
    info = tmp_path / "idc_index_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: idc-index-data\nVersion: 1.0\n")
    found = doctor("--offline", code=1)
    assert failures(found) == ["packages", "index"]
    assert found["packages"]["said"] == "idc-index-data 1.0 is there, and >=22 is needed"
    assert "holds no index" in found["index"]["said"]

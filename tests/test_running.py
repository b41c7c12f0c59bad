"""What a mount says of itself is believed as far as it can be understood; a directory stands for the mount."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from idcfs import mounts
from idcfs.commands import checking, watching
from idcfs.errors import UsageError
from idcfs.running import read_status
from idcfs.settings import STATUS_NAME

COUNTERS = ("hits", "misses", "bytes_from_archive", "bytes_from_buckets", "open_files", "running_downloads", "errors")
CIRCUIT = {"archive": "a", "open": True, "quota": False, "why": "down", "until": 1_700_000_000}
REPORT: dict[str, Any] = {
    "idcfs": "0.1.0",
    "pid": 12,
    "mountpoint": "/mnt",
    "archive": "proxy",
    "url": "http://h/x",
    "content": "auto",
    "buckets": None,
    "index": "packaged",
    "offline": False,
    "cache_dir": "/c",
    "started": 1_700_000_000,
    "counters": dict.fromkeys((*COUNTERS, "disk_cache_capacity", "disk_unkept"), 0),
}
NONE_OF_OURS: dict[str, list[Any]] = {
    "pid": ["1; touch x", 0, -1, 10**20, True, None, 1.5],
    "circuits": [5, None, [{}], [5], [CIRCUIT | {"until": 10**20}], [CIRCUIT | {"why": 5}]],
    "counters": [None, {}, [], REPORT["counters"] | {"hits": "1"}, REPORT["counters"] | {"x": []}]
    + [REPORT["counters"] | {name: -(10**400)} for name in ("bytes_from_archive", "x")],
    "cohort": [5, {"collections": 5}, {"where": []}],
    "started": ["x", 10**20, -1],
    "downloads": [[{"uid": 5}], [{"uid": "1.2", "got": 10**400, "size": None}]],
    "cache_dir": [5],
    "mountpoint": [None],
    "log_file": [[]],
    "metrics_port": ["x"],
}


def saying(text: str, directory: Path) -> Path:
    (directory / STATUS_NAME).write_text(text)
    return directory


def test_what_another_version_adds_or_does_not_say_yet_is_no_hindrance(tmp_path: Path) -> None:
    for report in (REPORT, REPORT | {"circuits": [CIRCUIT], "new": [1]}, REPORT | {"cohort": None}):
        assert read_status(saying(json.dumps(report), tmp_path)) == report


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", "", "\0", '{"a":' + 5_000 * "9" + "}", 100_000 * "[", 100_000 * '{"a":'], ids=len
)
def test_what_is_no_report_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^the idcfs at .* is of another version: mount it anew$"):
        read_status(saying(text, tmp_path))


@pytest.mark.parametrize("name", NONE_OF_OURS)
def test_what_is_of_another_kind_is_not_taken(name: str, tmp_path: Path) -> None:
    for value in NONE_OF_OURS[name]:
        with pytest.raises(UsageError, match="is of another version"):
            read_status(saying(json.dumps(REPORT | {name: value}), tmp_path))


def test_a_server_that_nobody_knows_why_it_is_not_asked_is_shown_too(tmp_path: Path) -> None:
    report = read_status(saying(json.dumps(REPORT | {"circuits": [CIRCUIT | {"why": None}]}), tmp_path))
    assert watching._line(watching.Look(report, 0.0)).endswith(": –")


def test_of_what_has_no_end_16_mib_are_read(tmp_path: Path) -> None:
    (tmp_path / STATUS_NAME).symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="is of another version"):
        read_status(tmp_path)


def test_doctor_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mount_at", lambda path: mounts.Mount(path, "0:1", mounts.FILESYSTEM_TYPE))
    found = checking.mounted(saying("{}", tmp_path))
    assert (found.state, found.said) == ("warn", f"{tmp_path} is of another version")

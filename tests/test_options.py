"""What users write: sizes, timeouts, and what is said of the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from idcfs import options
from idcfs.errors import UsageError
from idcfs.settings import GIB, MIB, ContentSettings
from tests.served import settings_of


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


@pytest.mark.parametrize("seconds", [0.1, 1.0, 86_400.0])
def test_a_timeout_is_what_can_be_waited_for(seconds: float) -> None:
    assert options.timeout_seconds(seconds) == seconds


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "0", "-1", "0.09", "86401", "1e300"])
def test_another_timeout_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--timeout \S+: give 0.1 to 86400 seconds$"):
        options.timeout_seconds(float(text))


def test_what_is_said_of_the_cache_is_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(home=tmp_path, monkeypatch=monkeypatch)
    assert (settings.content, settings.offline) == (ContentSettings(), False)
    words = ("--cache-size", "3GiB", "--memory-cache", "9MiB", "--prefetch", "0", "--offline", "--cache-dir", "/c")
    settings = settings_of(*words, home=tmp_path, monkeypatch=monkeypatch)
    content = settings.content
    assert (content.disk_cache_bytes, content.memory_cache_bytes, content.prefetch) == (3 * GIB, 9 * MIB, 0)
    assert (settings.offline, settings.cache_dir) == (True, Path("/c"))

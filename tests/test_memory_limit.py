"""What ``--memory-cache`` may be at most: the memory of the machine, or of the container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from idcfs import options
from idcfs.errors import UsageError
from idcfs.settings import MIB
from tests.mount.commands import idcfs
from tests.served import settings_of


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ...]:
    """Files of cgroup limits, none of which is there, in place of the machine's."""
    files = (tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes")
    monkeypatch.setattr(options, "CGROUP_LIMITS", files)
    return files


def test_more_memory_than_there_is_is_one_clear_line(tmp_path: Path) -> None:
    done = idcfs("mount", tmp_path / "mnt", "--memory-cache", "900TiB", state=tmp_path / "state")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("idcfs: --memory-cache 900TiB is more than there is: the memory here is ")
    assert done.stderr.count("\n") == 1


def test_all_of_the_machines_memory_may_be_given_and_no_more(limits: tuple[Path, ...]) -> None:
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert options.memory_cache_bytes(str(most)) == most
    with pytest.raises(UsageError, match="--memory-cache"):
        options.memory_cache_bytes(str(most + 1))


@pytest.mark.parametrize("number", [0, 1])
def test_a_container_may_have_less(number: int, limits: tuple[Path, ...]) -> None:
    limits[number].write_text(f"{64 * MIB}\n")
    limits[1 - number].write_text("max\n")
    assert options.memory_cache_bytes("64MiB") == 64 * MIB
    with pytest.raises(UsageError, match=r"--memory-cache 65MiB is more than there is: the memory here is 64 MiB"):
        options.memory_cache_bytes("65MiB")


@pytest.mark.parametrize(("has", "gets"), [(4096, 256), (1024, 256), (512, 128), (100, 25), (4, 2)])
def test_the_default_leaves_most_of_a_small_memory_to_others(
    has: int, gets: int, limits: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits[0].write_text(str(has * MIB))
    assert settings_of(home=tmp_path, monkeypatch=monkeypatch).content.memory_cache_bytes == gets * MIB

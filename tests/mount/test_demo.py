"""The programs that people start first run to their end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.conftest import NOWHERE, MountMaker

CHECKOUT = Path(__file__).parents[2]


def program(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of ``scripts``, whatever comes of it."""
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False)


def test_the_demo_sees_the_same_everywhere() -> None:
    done = program("scripts.demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything matched" in done.stdout


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """An environment with settings with which nothing can be mounted."""
    (tmp_path / "config" / "idcfs").mkdir(parents=True)
    (tmp_path / "config" / "idcfs" / "config.toml").write_text("nonsense")
    return {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "IDCFS_CACHE_SIZE": "much"}


def test_the_session_in_the_readme_is_as_shown_whoever_makes_it(tmp_path: Path, settings: dict[str, str]) -> None:
    done = program("scripts.session", str(tmp_path / "session.svg"), env=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert words_in(tmp_path / "session.svg") == words_in(CHECKOUT / "docs" / "session.svg")


def test_the_sample_archive_is_mounted_for_whoever_wants_it(tmp_path: Path, settings: dict[str, str]) -> None:
    command = [sys.executable, "-m", "scripts.sample", str(tmp_path / "idc")]
    with subprocess.Popen(command, cwd=CHECKOUT, env=settings, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "is mounted at" in process.stdout.readline()
        assert "chest_twin" in os.listdir(tmp_path / "idc")
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not os.path.ismount(tmp_path / "idc")


def test_the_sample_archive_leaves_what_is_mounted_there_alone(
    mount: MountMaker, sample_index: Path, settings: dict[str, str]
) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    with (made.path / ".status.json").open():  # in use, even
        done = program("scripts.sample", str(made.path), env=settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sample: something is mounted at {made.path} already: ")
    assert done.stderr.count("\n") == 1
    assert "rider_twin" in os.listdir(made.path)


def words_in(picture: Path) -> list[str]:
    """What an SVG says, but for numbers, of which some are of seconds and bytes, and blanks."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text())
    return [re.sub(r"([\d.,]|&#160;)+", "", text) for text in texts]


def test_the_benchmark_measures() -> None:
    done = program("scripts.bench", "--runs", "1", "--only", "first-time")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mount to first ls, first time" in done.stdout


def test_the_benchmark_says_when_it_could_not_measure() -> None:
    script = (
        "from scripts import bench, harness\n"
        "def fail(_): raise harness.Failure('no such thing')\n"
        "bench.SCENARIOS['again'] = fail\n"
        "bench.main(['--only', 'again'])\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED: no such thing" in done.stdout

"""The programs that people start first run to their end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def program(*words: str) -> subprocess.CompletedProcess[str]:
    """Run one of ``scripts``, whatever comes of it."""
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def test_the_demo_sees_the_same_everywhere() -> None:
    done = program("scripts.demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything matched" in done.stdout


def test_the_session_in_the_readme_is_as_shown(tmp_path: Path) -> None:
    done = program("scripts.session", str(tmp_path / "session.svg"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert words_in(tmp_path / "session.svg") == words_in(CHECKOUT / "docs" / "session.svg")


def words_in(picture: Path) -> list[str]:
    """What an SVG says, but for numbers, of which some are of seconds and bytes, and blanks."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text())
    return [re.sub(r"([\d.,]|&#160;)+", "", text) for text in texts]


def test_the_benchmark_measures() -> None:
    done = program("scripts.bench", "--runs", "1", "first-time")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mount to first ls, first time" in done.stdout


def test_the_benchmark_says_when_it_could_not_measure() -> None:
    script = (
        "from scripts import bench, harness\n"
        "def fail(_): raise harness.Failure('no such thing')\n"
        "bench.SCENARIOS['again'] = fail\n"
        "bench.main(['again'])\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED: no such thing" in done.stdout

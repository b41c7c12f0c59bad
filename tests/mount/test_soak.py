"""The soak in its short form: readers in many processes, faults that come and go, kills; judged by what came out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
MINUTES = 0.75


def test_a_short_soak_breaks_no_promise(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "scripts.soak", "--minutes", str(MINUTES), "--results", str(results)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    told = json.loads(results.read_text())
    assert told["broken"] == []
    assert told["bytes_compared"] > 0
    assert any(told["permitted_errors"].values())  # the faults were met
    assert told["readers"]["killed"] > 0
    assert {rest["mount"] for rest in told["rests"]} == {"auto", "wado", "bucket"}
    assert told["stat"]["file, asked anew"]["calls"] > 0
